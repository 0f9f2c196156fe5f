-- Delivery in full: options of subscriptions, replays, tokens, the audit log.

ALTER TABLE subscriptions ADD COLUMN options text NOT NULL DEFAULT '{}';  -- JSON object, only what is not the default
ALTER TABLE subscriptions ADD COLUMN is_paced boolean NOT NULL DEFAULT FALSE;  -- the options have a rate or a cap
ALTER TABLE subscriptions ADD COLUMN credentials bytea;                   -- sealed JSON: headers, auth, client certificate
ALTER TABLE subscriptions ADD COLUMN expires_at bigint;
ALTER TABLE subscriptions ADD COLUMN failing_since bigint;                -- every attempt since then has failed

-- What is left of a subscription's rate, for all processes; whoever holds the row may claim.
CREATE TABLE buckets (
  subscription_id text COLLATE "C" PRIMARY KEY,
  tokens          double precision,      -- null: full, or there is a cap alone
  filled_at       bigint
);

CREATE TABLE replays (
  id              text COLLATE "C" PRIMARY KEY,
  kind            text NOT NULL CHECK (kind IN ('replay', 'recover')),
  subscription_id text COLLATE "C",   -- null: of every subscription (recover only)
  range           text NOT NULL,      -- JSON: what the caller asked for
  status          text NOT NULL CHECK (status IN ('running', 'done', 'cancelled')),
  first           bigint NOT NULL,    -- the range as places in the order of acceptance
  position        bigint NOT NULL,    -- events looked at: up to this seq
  last            bigint NOT NULL,    -- seq of the last event to look at
  made            bigint NOT NULL DEFAULT 0,
  created_at      bigint NOT NULL,
  ended_at        bigint
);

-- The process that carries out replays and prunes, by a number of its own.
CREATE TABLE leader (
  is_only boolean PRIMARY KEY DEFAULT TRUE CHECK (is_only),
  name    bigint NOT NULL,
  until   timestamptz NOT NULL
);
INSERT INTO leader (name, until) VALUES (0, '-infinity');

CREATE TABLE tokens (
  id          text COLLATE "C" PRIMARY KEY,
  hash        bytea NOT NULL UNIQUE,  -- SHA-256; the token itself is kept nowhere
  scope       text NOT NULL CHECK (scope IN ('admin', 'read', 'ingest')),
  description text,
  expires_at  bigint,
  created_at  bigint NOT NULL
);

CREATE TABLE audit (
  seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       bigint NOT NULL,
  actor    text NOT NULL,             -- the token's id or kind, or `gatehook` itself
  action   text NOT NULL,
  resource text NOT NULL,
  detail   text                       -- JSON: names of fields, never a secret
);

-- Answers to creates that bore an Idempotency-Key, so that a repeat gets the same one.
CREATE TABLE idempotency (
  key        text COLLATE "C" PRIMARY KEY,  -- caller, route and key
  request    bytea NOT NULL,                -- SHA-256 of the body
  resource   text NOT NULL,                 -- id of what was made
  created_at bigint NOT NULL
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);
