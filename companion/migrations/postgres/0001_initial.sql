-- Times are microseconds since 1970-01-01T00:00:00Z. Ids are UUIDv7 with a prefix, so they sort by age; "C" has them sort by
-- bytes. JSON is kept as it was written, so it is text: jsonb would change it, and knows no \u0000. A zero byte in other text
-- is written `\0`, and a backslash twice.

CREATE TABLE meta (
  name  text COLLATE "C" PRIMARY KEY,
  value bytea NOT NULL
);

CREATE TABLE subscriptions (
  id          text COLLATE "C" PRIMARY KEY,
  revision    bigint NOT NULL,
  tenant      text COLLATE "C",
  target_url  text NOT NULL,
  events      text NOT NULL,     -- JSON array of patterns
  status      text NOT NULL CHECK (status IN ('on', 'off')),
  off_reason  text,
  description text,
  format      text NOT NULL,
  metadata    text NOT NULL,     -- JSON object
  secrets     bytea NOT NULL,    -- sealed, newest first
  created_at  bigint NOT NULL,
  updated_at  bigint NOT NULL
);

CREATE TABLE events (
  seq             bigint PRIMARY KEY,    -- order of acceptance, which is the order in which they appear
  id              text COLLATE "C" NOT NULL,
  source          text COLLATE "C" NOT NULL,
  type            text COLLATE "C" NOT NULL,
  subject         text COLLATE "C",
  time            bigint NOT NULL,
  datacontenttype text,
  data            bytea,                 -- as it came, byte for byte
  tenant          text COLLATE "C",
  extensions      text,                  -- JSON object
  accepted_at     bigint NOT NULL
);

-- A repeat is recognised by source and id; the id leads because it grows, which keeps inserts at the index's edge.
CREATE UNIQUE INDEX events_identity ON events (id, source);

-- Whether a text is JSON; only `gatehook integrity` asks.
CREATE FUNCTION json_valid(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM value::json;
  RETURN TRUE;
EXCEPTION WHEN invalid_text_representation THEN
  RETURN FALSE;
END $$;
