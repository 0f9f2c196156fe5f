-- The event catalogue: what was learnt of event types, and what operators say of them. Bounded.

CREATE TABLE event_types (
  seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of first sight
  tenant   text COLLATE "C" NOT NULL,  -- whose events these are; '': all, with and without a tenant
  type     text COLLATE "C" NOT NULL,
  count    bigint NOT NULL,
  first_at bigint NOT NULL,            -- accepted_at of the first event and of the last
  last_at  bigint NOT NULL,
  state    text,                       -- JSON: what the schema is made of; null where no data were seen
  sample   text,                       -- JSON: the last data, masked
  UNIQUE (tenant, type)
);
CREATE INDEX event_types_by_age ON event_types (last_at) WHERE tenant = '';
CREATE INDEX event_types_of_tenants_by_age ON event_types (last_at) WHERE tenant <> '';

-- What an operator says of a type, whether it was seen or not.
CREATE TABLE event_type_notes (
  type        text COLLATE "C" PRIMARY KEY,
  description text,
  published   bigint NOT NULL DEFAULT 0  -- 1: tenants see it that have no events of it
);

-- Who reads the accepted events in their order, and how far it has come.
CREATE TABLE followers (
  name     text COLLATE "C" PRIMARY KEY,
  position bigint NOT NULL,  -- place of the last event that it has read
  turn     bigint NOT NULL   -- grows where what it learns is forgotten in between
);
INSERT INTO followers (name, position, turn) VALUES ('catalogue', 0, 0);
