-- Attempts counted for charts, by the minute and by the hour. Rows are added to; what they count is nobody's truth.

CREATE TABLE statistics (
  seq             INTEGER PRIMARY KEY,
  resolution_s    INTEGER NOT NULL,   -- 60 or 3600
  at              INTEGER NOT NULL,   -- when the minute or the hour begins
  subscription_id TEXT NOT NULL,  -- empty: all subscriptions together
  type            TEXT NOT NULL,
  owner           INTEGER NOT NULL,   -- the subscription's tenant then, as a hash; 0: none
  attempts        INTEGER NOT NULL,
  delivered       INTEGER NOT NULL,
  failed          INTEGER NOT NULL,
  exhausted       INTEGER NOT NULL,   -- attempts that were the last of their delivery, and failed
  -- How many took how long, in buckets that end at 1, 2, 3, 5, 8, 13, 20, 35, 60, 100, 170, 300, 500, 850, 1500, 2500,
  -- 4300, 7500 and 13000 ms.
  d0 INTEGER NOT NULL, d1 INTEGER NOT NULL, d2 INTEGER NOT NULL, d3 INTEGER NOT NULL, d4 INTEGER NOT NULL,
  d5 INTEGER NOT NULL, d6 INTEGER NOT NULL, d7 INTEGER NOT NULL, d8 INTEGER NOT NULL, d9 INTEGER NOT NULL,
  d10 INTEGER NOT NULL, d11 INTEGER NOT NULL, d12 INTEGER NOT NULL, d13 INTEGER NOT NULL, d14 INTEGER NOT NULL,
  d15 INTEGER NOT NULL, d16 INTEGER NOT NULL, d17 INTEGER NOT NULL, d18 INTEGER NOT NULL, d19 INTEGER NOT NULL,
  UNIQUE (subscription_id, resolution_s, at, type, owner)
);
CREATE INDEX statistics_by_age ON statistics (resolution_s, at);
