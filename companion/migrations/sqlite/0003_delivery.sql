-- Delivery in full: options of subscriptions, order per resource, replays, tokens, the audit log.

ALTER TABLE subscriptions ADD COLUMN options TEXT NOT NULL DEFAULT '{}';  -- JSON object, only what is not the default
ALTER TABLE subscriptions ADD COLUMN credentials BLOB;                    -- sealed JSON: headers, auth, client certificate
ALTER TABLE subscriptions ADD COLUMN expires_at INTEGER;
ALTER TABLE subscriptions ADD COLUMN failing_since INTEGER;               -- every attempt since then has failed

ALTER TABLE deliveries ADD COLUMN resource TEXT;     -- whose events wait for each other; null where order does not matter
ALTER TABLE deliveries ADD COLUMN round_at INTEGER;  -- when this round of attempts began; null: created_at

-- A delivery that waits for an earlier one of its resource has the largest due_at there is.
CREATE INDEX deliveries_in_order ON deliveries (subscription_id, resource, event_seq)
  WHERE status = 'pending' AND resource IS NOT NULL;

CREATE TABLE replays (
  id              TEXT PRIMARY KEY,
  kind            TEXT NOT NULL CHECK (kind IN ('replay', 'recover')),
  subscription_id TEXT,               -- null: of every subscription (recover only)
  range           TEXT NOT NULL,      -- JSON: what the caller asked for
  status          TEXT NOT NULL CHECK (status IN ('running', 'done', 'cancelled')),
  first           INTEGER NOT NULL,   -- the range as places in the order of acceptance
  position        INTEGER NOT NULL,   -- events looked at: up to this seq
  last            INTEGER NOT NULL,   -- seq of the last event to look at
  made            INTEGER NOT NULL DEFAULT 0,
  created_at      INTEGER NOT NULL,
  ended_at        INTEGER
) WITHOUT ROWID;

CREATE TABLE tokens (
  id          TEXT PRIMARY KEY,
  hash        BLOB NOT NULL UNIQUE,   -- SHA-256; the token itself is kept nowhere
  scope       TEXT NOT NULL CHECK (scope IN ('admin', 'read', 'ingest')),
  description TEXT,
  expires_at  INTEGER,
  created_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
  seq      INTEGER PRIMARY KEY,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,             -- the token's id or kind, or `gatehook` itself
  action   TEXT NOT NULL,
  resource TEXT NOT NULL,
  detail   TEXT                       -- JSON: names of fields, never a secret
);

-- Answers to creates that bore an Idempotency-Key, so that a repeat gets the same one.
CREATE TABLE idempotency (
  key        TEXT PRIMARY KEY,        -- caller, route and key
  request    BLOB NOT NULL,           -- SHA-256 of the body
  resource   TEXT NOT NULL,           -- id of what was made
  created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at);
