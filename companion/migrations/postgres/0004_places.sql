-- The one row that whoever accepts events takes first, until its commit: so places appear in their order, and whoever reads
-- on after a place misses nothing. A change of subscriptions, tokens or signing keys takes it too and makes the version
-- grow: events are accepted before it or after it, whichever process took either.

CREATE TABLE places (
  is_only    boolean PRIMARY KEY DEFAULT TRUE CHECK (is_only),
  last_event bigint NOT NULL,        -- the last place that was given, even where its event is forgotten
  version    bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO places (last_event, version) VALUES (0, 1);

CREATE FUNCTION grow_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('UPDATE %I.places SET version = version + 1', TG_TABLE_SCHEMA);
  PERFORM pg_notify(('gatehook.' || TG_TABLE_SCHEMA)::name::text, 'changed');
  RETURN NULL;
END $$;

CREATE TRIGGER subscriptions_come_and_go AFTER INSERT OR DELETE ON subscriptions
  FOR EACH ROW EXECUTE FUNCTION grow_version();
CREATE TRIGGER subscriptions_change AFTER UPDATE ON subscriptions
  FOR EACH ROW WHEN (OLD.revision IS DISTINCT FROM NEW.revision) EXECUTE FUNCTION grow_version();
CREATE TRIGGER tokens_come_and_go AFTER INSERT OR DELETE ON tokens
  FOR EACH ROW EXECUTE FUNCTION grow_version();
CREATE TRIGGER signing_keys_change AFTER INSERT OR UPDATE ON meta
  FOR EACH ROW WHEN (NEW.name = 'signing_keys') EXECUTE FUNCTION grow_version();
