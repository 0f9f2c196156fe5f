-- Deliveries in the order they were made, by a number: indexes and attempts name a delivery by it instead of by an id of 40
-- bytes, and what is new goes to the end of both tables.

CREATE TABLE deliveries (
  key             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order in which they were made
  id              text COLLATE "C" NOT NULL,
  event_seq       bigint NOT NULL,
  subscription_id text COLLATE "C" NOT NULL,
  status          text NOT NULL CHECK (status IN ('pending', 'delivered', 'exhausted', 'cancelled')),
  reason          text,
  attempt_count   bigint NOT NULL DEFAULT 0,
  step            bigint NOT NULL DEFAULT 0,  -- attempts of this round; a redelivery begins a new one
  due_at          bigint NOT NULL,            -- next attempt, the end of the lease while claimed, or the largest number there is
  claim           bigint,                     -- token of the worker that holds it
  created_at      bigint NOT NULL,
  ended_at        bigint,
  resource        text,                       -- whose events wait for each other; null where order does not matter
  lane            bigint,                     -- subscription and resource as a number, which fits an index and a lock
  round_at        bigint,                     -- when this round of attempts began; null: created_at
  CHECK ((resource IS NULL) = (lane IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);  -- each row is written three times
CREATE UNIQUE INDEX deliveries_id ON deliveries (id);
CREATE INDEX deliveries_due ON deliveries (subscription_id, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, key);
CREATE INDEX deliveries_by_event ON deliveries (event_seq);
CREATE INDEX deliveries_in_order ON deliveries (lane, event_seq) WHERE status = 'pending' AND lane IS NOT NULL;

CREATE TABLE attempts (
  delivery_key bigint NOT NULL,
  number       bigint NOT NULL,
  started_at   bigint NOT NULL,
  duration_ms  bigint NOT NULL,
  outcome      text NOT NULL,
  status       bigint,
  error        text,
  answer       bytea,
  PRIMARY KEY (delivery_key, number)
);
