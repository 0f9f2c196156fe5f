-- A place in the order of acceptance is given once: whoever reads on after a place must miss nothing, even where the newest
-- events were forgotten in between. SQLite would give the places of forgotten rows at the end of the table again.

CREATE TRIGGER events_last AFTER DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM events WHERE seq > OLD.seq)
BEGIN
  INSERT INTO meta (name, value) VALUES ('last_event', OLD.seq)
    ON CONFLICT (name) DO UPDATE SET value = MAX(value, excluded.value);
END;
