-- Writes that no rule of a filter named, counted by the shape of their path. Bounded, so it needs no index by age.

CREATE TABLE unmatched (
  seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of first sight, which settles the order of equal counts
  identity bytea NOT NULL UNIQUE,  -- SHA-256 of source, method and path, which are too long for an index
  source   text NOT NULL,
  method   text NOT NULL,
  path     text NOT NULL,          -- ids replaced: /v1/users/{id}/settle
  count    bigint NOT NULL,
  status   bigint NOT NULL,        -- HTTP status last seen
  first_at bigint NOT NULL,
  last_at  bigint NOT NULL
);
