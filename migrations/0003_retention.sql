-- Retention: what ended goes by its outcome and its age, in whole weeks, by dropping and not by deleting.
--
-- Who reads or writes e-mails must never queue behind this for long. So: an exclusive lock on a parent is
-- asked for with a short patience, held for a time that no volume changes, and given up when it is not had.
-- What is kept is copied before that; triggers tell whether the copy still holds when the lock is there.
SET LOCAL lock_timeout = '2s';

COMMENT ON TABLE facteur.deliveries IS
  'Live deliveries only: a row leaves when it ends. Small and hot. While one is here, the week of its e-mail stays whole. '
  'Who makes an ended delivery live again takes its row out of outcomes in the same transaction: retention watches for that.';

CREATE TABLE facteur.upkeep (
  task     text        PRIMARY KEY CHECK (length(task) BETWEEN 1 AND 64),
  last_run timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE facteur.upkeep IS
  'When a task was last run by anybody: a fleet runs it once, not each process. "week YYYYMMDD": when that week was last looked through.';

CREATE FUNCTION facteur.is_kept(
  final facteur.final_state, finished_at timestamptz, keep_sent interval, keep_failed interval
) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT finished_at > now() - CASE final WHEN 'failed' THEN keep_failed ELSE keep_sent END
$$;
COMMENT ON FUNCTION facteur.is_kept IS 'The rule: whether an outcome still keeps its e-mail.';

CREATE FUNCTION facteur.lock_tables(names text[], mode text, patience interval) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  until timestamptz := clock_timestamp() + patience;
  name  text;
BEGIN
  FOREACH name IN ARRAY names LOOP
    -- What is locked already holds others up while the next is waited for: the patience is for all together.
    PERFORM set_config('lock_timeout',
      greatest(1, ceil(extract(epoch FROM until - clock_timestamp()) * 1000))::bigint::text, true);
    EXECUTE format('LOCK TABLE ONLY facteur.%I IN %s MODE', name, mode);
  END LOOP;
END
$$;
COMMENT ON FUNCTION facteur.lock_tables IS 'Locks all of them within this time, or fails with lock_not_available.';

-- A table that can become a partition without a scan: its CHECK is the partition's own.
CREATE FUNCTION facteur.make_table(name text, parent text, low uuid, high uuid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  key text := CASE parent WHEN 'emails' THEN 'id' ELSE 'email_id' END;
BEGIN
  EXECUTE format('CREATE TABLE facteur.%I (LIKE facteur.%I INCLUDING ALL)', name, parent);
  EXECUTE format('ALTER TABLE facteur.%I ADD CONSTRAINT in_week CHECK (%I IS NOT NULL AND %I >= %L AND %I < %L)',
                 name, key, key, low, key, high);
END
$$;

-- ATTACH and not CREATE … PARTITION OF, which would lock the parent, and whoever enqueues, exclusively.
CREATE FUNCTION facteur.attach_table(name text, parent text, low uuid, high uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER TABLE facteur.%I ATTACH PARTITION facteur.%I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
  EXECUTE format('ALTER TABLE facteur.%I DROP CONSTRAINT in_week', name);
END
$$;

CREATE FUNCTION facteur.make_week(week timestamptz) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $$
DECLARE
  low    uuid := facteur.uuid_from(week);
  high   uuid := facteur.uuid_from(week + interval '7 days');
  day    text := to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD');
  parent text;
  made   integer := 0;
BEGIN
  -- Rows that came before their partition stay where they are, and go by age.
  IF EXISTS (SELECT FROM facteur.emails_other WHERE id >= low AND id < high)
     OR EXISTS (SELECT FROM facteur.attachments_other WHERE email_id >= low AND email_id < high)
     OR EXISTS (SELECT FROM facteur.outcomes_other WHERE email_id >= low AND email_id < high)
     OR EXISTS (SELECT FROM facteur.events_other WHERE email_id >= low AND email_id < high) THEN
    RETURN 0;
  END IF;
  FOREACH parent IN ARRAY ARRAY['emails', 'attachments', 'outcomes', 'events'] LOOP
    IF to_regclass(format('facteur.%I', parent || '_' || day)) IS NULL THEN
      PERFORM facteur.make_table(parent || '_' || day, parent, low, high);
      PERFORM facteur.attach_table(parent || '_' || day, parent, low, high);
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END
$$;
COMMENT ON FUNCTION facteur.make_week IS 'Makes the partitions of the week that begins then; returns how many were missing.';

CREATE OR REPLACE FUNCTION facteur.ensure_partitions(weeks_ahead integer DEFAULT 4) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $$
DECLARE
  made integer := 0;
BEGIN
  -- One process at a time; the others leave it to that one.
  IF pg_try_advisory_xact_lock(hashtext('facteur.ensure_partitions')) THEN
    FOR i IN 0 .. weeks_ahead LOOP
      made := made + facteur.make_week(
        (date_trunc('week', now() AT TIME ZONE 'UTC') + make_interval(weeks => i)) AT TIME ZONE 'UTC');
    END LOOP;
  END IF;
  RETURN made;
END
$$;

CREATE FUNCTION facteur.old_weeks(keep_sent interval, keep_failed interval) RETURNS SETOF timestamptz
LANGUAGE sql STABLE AS $$
  SELECT w.week
  FROM (
    SELECT DISTINCT to_date(substring(c.relname FROM '[0-9]{8}$'), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS week
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('facteur.emails'::regclass, 'facteur.attachments'::regclass,
                          'facteur.outcomes'::regclass, 'facteur.events'::regclass)
      AND c.relname ~ '^(emails|attachments|outcomes|events)_[0-9]{8}$'
  ) w
  LEFT JOIN facteur.upkeep u ON u.task = 'week ' || to_char(w.week AT TIME ZONE 'UTC', 'YYYYMMDD')
  WHERE w.week + interval '7 days' <= now() - least(keep_sent, keep_failed)
    AND NOT EXISTS (SELECT FROM facteur.deliveries d
                    WHERE d.email_id >= facteur.uuid_from(w.week) AND d.email_id < facteur.uuid_from(w.week + interval '7 days'))
    -- A week is looked through when the shorter time is over, when the longer is, and each seven days.
    AND (u.last_run IS NULL OR u.last_run < now() - interval '7 days'
         OR (u.last_run < w.week + interval '7 days' + greatest(keep_sent, keep_failed)
             AND w.week + interval '7 days' + greatest(keep_sent, keep_failed) <= now()))
  ORDER BY w.week
$$;
COMMENT ON FUNCTION facteur.old_weeks IS 'The weeks in which something may have to go, oldest first.';

CREATE TABLE facteur.late_writes (
  day text        NOT NULL CHECK (day ~ '^[0-9]{8}$'),
  at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE facteur.late_writes IS
  'A row for each row written to a week that is being looked through: what was copied of it may not hold any more.';

-- With its owner's rights: who may write an event need not know of this table.
CREATE FUNCTION facteur.note_late_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO facteur.late_writes (day) VALUES (TG_ARGV[0]);
  RETURN NULL;
END
$$;

CREATE FUNCTION facteur.parents_with(day text) RETURNS text[]
LANGUAGE sql STABLE AS $$
  SELECT array_agg(p.name ORDER BY p.n)
  FROM unnest(ARRAY['emails', 'attachments', 'outcomes', 'events']) WITH ORDINALITY AS p (name, n)
  WHERE to_regclass(format('facteur.%I', p.name || '_' || day)) IS NOT NULL
$$;
COMMENT ON FUNCTION facteur.parents_with IS 'Those that have a partition of that week, in the order in which everybody locks them.';

CREATE FUNCTION facteur.watch_week(week timestamptz) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $$
DECLARE
  day   text := to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD');
  parts text[];
  part  text;
BEGIN
  SELECT coalesce(array_agg(p.name || '_' || day ORDER BY p.n), '{}') INTO parts
  FROM unnest(facteur.parents_with(day)) WITH ORDINALITY AS p (name, n)
  WHERE NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = to_regclass(format('facteur.%I', p.name || '_' || day)) AND tgname = 'note_late_write');
  PERFORM facteur.lock_tables(parts, 'SHARE ROW EXCLUSIVE', interval '250 milliseconds');
  FOREACH part IN ARRAY parts LOOP
    EXECUTE format('CREATE TRIGGER note_late_write AFTER INSERT OR UPDATE OR DELETE ON facteur.%I
                    FOR EACH ROW EXECUTE FUNCTION facteur.note_late_write(%L)', part, day);
  END LOOP;
  RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected OR duplicate_object THEN
  RETURN false;
END
$$;
COMMENT ON FUNCTION facteur.watch_week IS
  'From its commit on, writes to that old week are noted. Must be committed before prune_week, which copies. False: not now.';

CREATE FUNCTION facteur.prune_week(week timestamptz, keep_sent interval, keep_failed interval) RETURNS text
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $$
DECLARE
  low     uuid := facteur.uuid_from(week);
  high    uuid := facteur.uuid_from(week + interval '7 days');
  week_of text := to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD');
  parents text[];
  locks   text[];
  kept    boolean;
  parent  text;
  did     text := 'busy';
BEGIN
  -- Each statement must see what was committed before it, or what changes in between goes unseen and is lost.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'facteur.prune_week needs a transaction that is READ COMMITTED, not %', current_setting('transaction_isolation');
  END IF;
  IF NOT pg_try_advisory_xact_lock(hashtext('facteur.prune')) THEN
    RETURN 'elsewhere';
  END IF;
  parents := facteur.parents_with(week_of);
  IF parents IS NULL OR week + interval '7 days' > now() - least(keep_sent, keep_failed) THEN
    RETURN 'nothing';
  END IF;
  IF EXISTS (SELECT FROM facteur.deliveries WHERE email_id >= low AND email_id < high) THEN
    RETURN 'live';
  END IF;

  -- From here on whatever is written to this week is noted: by the triggers, which came before this
  -- transaction, or else it waits for this one's end.
  IF EXISTS (SELECT FROM unnest(parents) name WHERE NOT EXISTS (
               SELECT FROM pg_trigger
               WHERE tgrelid = to_regclass(format('facteur.%I', name || '_' || week_of)) AND tgname = 'note_late_write')) THEN
    RAISE 'facteur.watch_week must come before facteur.prune_week, in a transaction of its own';
  END IF;
  DELETE FROM facteur.late_writes l WHERE l.day = week_of;
  -- Reading and copying, which take as long as they take: nobody is held up.
  kept := EXISTS (SELECT FROM facteur.outcomes o WHERE o.email_id >= low AND o.email_id < high
                    AND facteur.is_kept(o.final, o.finished_at, keep_sent, keep_failed));
  IF kept AND NOT EXISTS (
    SELECT FROM facteur.emails e WHERE e.id >= low AND e.id < high
      AND NOT EXISTS (SELECT FROM facteur.outcomes o WHERE o.email_id = e.id AND o.email_id >= low AND o.email_id < high
                        AND facteur.is_kept(o.final, o.finished_at, keep_sent, keep_failed))
  ) THEN
    INSERT INTO facteur.upkeep (task) VALUES ('week ' || week_of) ON CONFLICT (task) DO UPDATE SET last_run = now();
    RETURN 'nothing';
  END IF;
  IF kept THEN
    FOREACH parent IN ARRAY parents LOOP
      PERFORM facteur.make_table(parent || '_' || week_of || '_new', parent, low, high);
      EXECUTE format(
        'INSERT INTO facteur.%1$I SELECT * FROM facteur.%2$I t WHERE t.%3$I >= $1 AND t.%3$I < $2 AND EXISTS (
           SELECT FROM facteur.outcomes o WHERE o.email_id = t.%3$I AND o.email_id >= $1 AND o.email_id < $2
             AND facteur.is_kept(o.final, o.finished_at, $3, $4))',
        parent || '_' || week_of || '_new', parent, CASE parent WHEN 'emails' THEN 'id' ELSE 'email_id' END)
      USING low, high, keep_sent, keep_failed;
    END LOOP;
  END IF;

  SELECT array_agg(l.name ORDER BY p.n, l.n) INTO locks
  FROM unnest(parents) WITH ORDINALITY AS p (name, n),
       unnest(ARRAY[p.name, p.name || '_other', p.name || '_' || week_of]) WITH ORDINALITY AS l (name, n);
  FOR attempt IN 1 .. 5 LOOP
    BEGIN
      -- From here on everybody waits: nothing below depends on how much there is.
      PERFORM facteur.lock_tables(locks, 'ACCESS EXCLUSIVE', interval '150 milliseconds');
      IF EXISTS (SELECT FROM facteur.late_writes l WHERE l.day = week_of)
         OR EXISTS (SELECT FROM facteur.deliveries WHERE email_id >= low AND email_id < high) THEN
        did := 'changed';
        EXIT;
      END IF;
      FOREACH parent IN ARRAY parents LOOP
        EXECUTE format('DROP TABLE facteur.%I', parent || '_' || week_of);
        IF kept THEN
          EXECUTE format('ALTER TABLE facteur.%I RENAME TO %I', parent || '_' || week_of || '_new', parent || '_' || week_of);
          PERFORM facteur.attach_table(parent || '_' || week_of, parent, low, high);
        END IF;
      END LOOP;
      did := CASE WHEN kept THEN 'compacted' ELSE 'dropped' END;
      EXIT;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      -- The locks are gone with the attempt: whoever queued behind them moves now.
      PERFORM pg_sleep(0.2 + 0.3 * random());
    END;
  END LOOP;

  IF did = 'compacted' THEN
    INSERT INTO facteur.upkeep (task) VALUES ('week ' || week_of) ON CONFLICT (task) DO UPDATE SET last_run = now();
  ELSIF did = 'dropped' THEN
    DELETE FROM facteur.upkeep WHERE task = 'week ' || week_of;
  ELSIF kept THEN
    FOREACH parent IN ARRAY parents LOOP
      EXECUTE format('DROP TABLE facteur.%I', parent || '_' || week_of || '_new');
    END LOOP;
  END IF;
  RETURN did;
END
$$;
COMMENT ON FUNCTION facteur.prune_week IS
  'Drops a week of which nothing is kept, or puts what is kept in its place. dropped, compacted, nothing (to do), live (a delivery '
  'has not ended), changed or busy (given up for now), elsewhere (another process is at it).';

CREATE FUNCTION facteur.prune_other(keep_sent interval, keep_failed interval, at_most integer) RETURNS bigint
LANGUAGE plpgsql SET lock_timeout = '250ms' AS $$
DECLARE
  ids  uuid[];
  gone bigint := 0;
  more bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('facteur.prune')) THEN
    RETURN 0;
  END IF;
  ids := facteur.old_others(NULL, keep_sent, keep_failed, at_most);
  IF cardinality(ids) > 0 THEN
    -- A retry by hand takes an outcome away: either it did before this, and is seen below, or it finds nothing.
    PERFORM FROM facteur.outcomes WHERE email_id = ANY (ids) ORDER BY email_id, position FOR UPDATE;
    ids := facteur.old_others(ids, keep_sent, keep_failed, at_most);
    DELETE FROM facteur.attachments WHERE email_id = ANY (ids);
    DELETE FROM facteur.outcomes WHERE email_id = ANY (ids);
    DELETE FROM facteur.events WHERE email_id = ANY (ids);
    DELETE FROM facteur.emails WHERE id = ANY (ids);
    gone := cardinality(ids);
  END IF;
  -- What came in late for a week that is gone.
  DELETE FROM facteur.events_other WHERE ctid = ANY (ARRAY (
    SELECT v.ctid FROM facteur.events_other v
    WHERE v.at < now() - least(keep_sent, keep_failed) AND NOT EXISTS (SELECT FROM facteur.emails e WHERE e.id = v.email_id)
    LIMIT at_most));
  GET DIAGNOSTICS more = ROW_COUNT;
  gone := gone + more;
  DELETE FROM facteur.outcomes_other WHERE ctid = ANY (ARRAY (
    SELECT o.ctid FROM facteur.outcomes_other o
    WHERE NOT facteur.is_kept(o.final, o.finished_at, keep_sent, keep_failed)
      AND NOT EXISTS (SELECT FROM facteur.emails e WHERE e.id = o.email_id)
    LIMIT at_most));
  GET DIAGNOSTICS more = ROW_COUNT;
  RETURN gone + more;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  -- Somebody is at one of them: the next run finds them again.
  RETURN 0;
END
$$;

CREATE FUNCTION facteur.old_others(among uuid[], keep_sent interval, keep_failed interval, at_most integer) RETURNS uuid[]
LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(array_agg(old.id), '{}') FROM (
    SELECT e.id FROM facteur.emails_other e
    WHERE (among IS NULL OR e.id = ANY (among))
      AND e.created_at < now() - least(keep_sent, keep_failed)
      AND NOT EXISTS (SELECT FROM facteur.deliveries d WHERE d.email_id = e.id)
      AND NOT EXISTS (SELECT FROM facteur.outcomes o WHERE o.email_id = e.id
                        AND facteur.is_kept(o.final, o.finished_at, keep_sent, keep_failed))
    LIMIT at_most
  ) old
$$;
COMMENT ON FUNCTION facteur.prune_other IS
  'Deletes by age, at most so many of each kind, what no week has; returns how many rows (e-mails with all of theirs count one).';
