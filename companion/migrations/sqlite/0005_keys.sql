-- Deliveries in the order they were made, by a number: indexes and attempts name a delivery by it instead of by an id of 40
-- bytes, and what is new goes to the end of both tables.

CREATE TABLE numbered_deliveries (
  key             INTEGER PRIMARY KEY,         -- order in which they were made
  id              TEXT NOT NULL,
  event_seq       INTEGER NOT NULL,
  subscription_id TEXT NOT NULL,
  status          TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'exhausted', 'cancelled')),
  reason          TEXT,
  attempt_count   INTEGER NOT NULL DEFAULT 0,
  step            INTEGER NOT NULL DEFAULT 0,  -- attempts of this round; a redelivery begins a new one
  due_at          INTEGER NOT NULL,            -- next attempt, the end of the lease while claimed, or the largest number there is
  claim           INTEGER,                     -- token of the worker that holds it
  created_at      INTEGER NOT NULL,
  ended_at        INTEGER,
  resource        TEXT,                        -- whose events wait for each other; null where order does not matter
  round_at        INTEGER                      -- when this round of attempts began; null: created_at
);

INSERT INTO numbered_deliveries (id, event_seq, subscription_id, status, reason, attempt_count, step, due_at, claim, created_at,
                                 ended_at, resource, round_at)
  SELECT id, event_seq, subscription_id, status, reason, attempt_count, step, due_at, claim, created_at,
         ended_at, resource, round_at FROM deliveries ORDER BY id;
CREATE UNIQUE INDEX deliveries_id ON numbered_deliveries (id);

CREATE TABLE numbered_attempts (
  delivery_key INTEGER NOT NULL,
  number       INTEGER NOT NULL,
  started_at   INTEGER NOT NULL,
  duration_ms  INTEGER NOT NULL,
  outcome      TEXT NOT NULL,
  status       INTEGER,
  error        TEXT,
  answer       BLOB,
  PRIMARY KEY (delivery_key, number)
) WITHOUT ROWID;

INSERT INTO numbered_attempts
  SELECT d.key, a.number, a.started_at, a.duration_ms, a.outcome, a.status, a.error, a.answer
  FROM attempts a JOIN numbered_deliveries d ON d.id = a.delivery_id ORDER BY d.key, a.number;

DROP TABLE attempts;
DROP TABLE deliveries;
ALTER TABLE numbered_deliveries RENAME TO deliveries;
ALTER TABLE numbered_attempts RENAME TO attempts;

CREATE INDEX deliveries_due ON deliveries (subscription_id, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id);
CREATE INDEX deliveries_by_event ON deliveries (event_seq);
CREATE INDEX deliveries_in_order ON deliveries (subscription_id, resource, event_seq)
  WHERE status = 'pending' AND resource IS NOT NULL;
