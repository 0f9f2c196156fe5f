-- Attempts counted for charts, by the minute and by the hour. Rows are added to; what they count is nobody's truth.

CREATE TABLE statistics (
  seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  resolution_s    bigint NOT NULL,   -- 60 or 3600
  at              bigint NOT NULL,   -- when the minute or the hour begins
  subscription_id text COLLATE "C" NOT NULL,  -- empty: all subscriptions together
  type            text COLLATE "C" NOT NULL,
  owner           bigint NOT NULL,   -- the subscription's tenant then, as a hash; 0: none
  attempts        bigint NOT NULL,
  delivered       bigint NOT NULL,
  failed          bigint NOT NULL,
  exhausted       bigint NOT NULL,   -- attempts that were the last of their delivery, and failed
  -- How many took how long, in buckets that end at 1, 2, 3, 5, 8, 13, 20, 35, 60, 100, 170, 300, 500, 850, 1500, 2500,
  -- 4300, 7500 and 13000 ms.
  d0 bigint NOT NULL, d1 bigint NOT NULL, d2 bigint NOT NULL, d3 bigint NOT NULL, d4 bigint NOT NULL,
  d5 bigint NOT NULL, d6 bigint NOT NULL, d7 bigint NOT NULL, d8 bigint NOT NULL, d9 bigint NOT NULL,
  d10 bigint NOT NULL, d11 bigint NOT NULL, d12 bigint NOT NULL, d13 bigint NOT NULL, d14 bigint NOT NULL,
  d15 bigint NOT NULL, d16 bigint NOT NULL, d17 bigint NOT NULL, d18 bigint NOT NULL, d19 bigint NOT NULL,
  UNIQUE (subscription_id, resolution_s, at, type, owner)
) WITH (fillfactor = 80);  -- each row is written many times while its hour lasts
CREATE INDEX statistics_by_age ON statistics (resolution_s, at);
