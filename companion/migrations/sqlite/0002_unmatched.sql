-- Writes that no rule of a filter named, counted by the shape of their path. Bounded, so it needs no index by age.

CREATE TABLE unmatched (
  seq      INTEGER PRIMARY KEY,  -- order of first sight, which settles the order of equal counts
  source   TEXT NOT NULL,
  method   TEXT NOT NULL,
  path     TEXT NOT NULL,        -- ids replaced: /v1/users/{id}/settle
  count    INTEGER NOT NULL,
  status   INTEGER NOT NULL,     -- HTTP status last seen
  first_at INTEGER NOT NULL,
  last_at  INTEGER NOT NULL,
  UNIQUE (source, method, path)
);
