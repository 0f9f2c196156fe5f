-- Times are microseconds since 1970-01-01T00:00:00Z. Ids are UUIDv7 with a prefix, so they sort by age.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE subscriptions (
  id          TEXT PRIMARY KEY,
  revision    INTEGER NOT NULL,
  tenant      TEXT,
  target_url  TEXT NOT NULL,
  events      TEXT NOT NULL,     -- JSON array of patterns
  status      TEXT NOT NULL CHECK (status IN ('on', 'off')),
  off_reason  TEXT,
  description TEXT,
  format      TEXT NOT NULL,
  metadata    TEXT NOT NULL,     -- JSON object
  secrets     BLOB NOT NULL,     -- sealed, newest first
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
  seq             INTEGER PRIMARY KEY,   -- order of acceptance
  id              TEXT NOT NULL,
  source          TEXT NOT NULL,
  type            TEXT NOT NULL,
  subject         TEXT,
  time            INTEGER NOT NULL,
  datacontenttype TEXT,
  data            BLOB,                  -- as it came, byte for byte
  tenant          TEXT,
  extensions      TEXT,                  -- JSON object
  accepted_at     INTEGER NOT NULL
);

-- A repeat is recognised by source and id; the id leads because it grows, which keeps inserts at the index's edge.
CREATE UNIQUE INDEX events_identity ON events (id, source);

CREATE TABLE deliveries (
  id              TEXT PRIMARY KEY,
  event_seq       INTEGER NOT NULL,
  subscription_id TEXT NOT NULL,
  status          TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'exhausted', 'cancelled')),
  reason          TEXT,
  attempt_count   INTEGER NOT NULL DEFAULT 0,
  step            INTEGER NOT NULL DEFAULT 0,  -- attempts of this round; a redelivery begins a new one
  due_at          INTEGER NOT NULL,            -- next attempt, or the end of the lease while claimed
  claim           INTEGER,                     -- token of the worker that holds it
  created_at      INTEGER NOT NULL,
  ended_at        INTEGER
) WITHOUT ROWID;

CREATE INDEX deliveries_due ON deliveries (subscription_id, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, id);
CREATE INDEX deliveries_by_event ON deliveries (event_seq);

CREATE TABLE attempts (
  delivery_id TEXT NOT NULL,
  number      INTEGER NOT NULL,
  started_at  INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL,
  outcome     TEXT NOT NULL,
  status      INTEGER,
  error       TEXT,
  answer      BLOB,
  PRIMARY KEY (delivery_id, number)
) WITHOUT ROWID;
