-- What an operator looks back with: which trace an e-mail belongs to, and events that are found by their time.
--
-- A column that is NULL for all that is there, and small indexes on the tables of weeks that are still small. No table is
-- rewritten, none that is large is scanned. Processes of 0001 on go on working beside it.
SET LOCAL lock_timeout = '2s';
-- In the order in which acceptance and settling take them.
LOCK TABLE facteur.emails IN ACCESS EXCLUSIVE MODE;
LOCK TABLE facteur.events IN SHARE MODE;

ALTER TABLE facteur.emails
  ADD COLUMN traceparent text,
  ADD CONSTRAINT a_traceparent CHECK (traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$') NOT VALID;
COMMENT ON COLUMN facteur.emails.traceparent IS
  'W3C Trace Context of what handed it over, which its attempts go on with. NULL: it was not traced.';

-- By time: events of a week are written nearly in its order, so that a BRIN index says where an hour is. It is some kilobytes
-- long, and writing to it costs next to nothing.
CREATE OR REPLACE FUNCTION facteur.make_table(name text, parent text, low uuid, high uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  key text := CASE parent WHEN 'emails' THEN 'id' ELSE 'email_id' END;
BEGIN
  EXECUTE format('CREATE TABLE facteur.%I (LIKE facteur.%I INCLUDING ALL)', name, parent);
  EXECUTE format('ALTER TABLE facteur.%I ADD CONSTRAINT in_week CHECK (%I IS NOT NULL AND %I >= %L AND %I < %L)',
                 name, key, key, low, key, high);
  IF parent = 'events' THEN
    EXECUTE format('CREATE INDEX ON facteur.%I USING brin (at) WITH (autosummarize = on)', name);
  END IF;
END
$$;

-- The weeks to come are empty. A week that is already large is read through until it is pruned.
DO $$
DECLARE
  part regclass;
BEGIN
  FOR part IN
    SELECT inhrelid::regclass FROM pg_inherits
    WHERE inhparent = 'facteur.events'::regclass AND pg_relation_size(inhrelid) < 16 * 1024 * 1024
  LOOP
    EXECUTE format('CREATE INDEX ON %s USING brin (at) WITH (autosummarize = on)', part);
  END LOOP;
END
$$;
