-- The outbox: what was accepted, what is still to be delivered, and what became of it.
--
-- Life of a delivery: queued -> sending -> (its row leaves `deliveries`, and) sent | failed | cancelled.
-- `deliveries` holds live rows only and stays small; everything else is only ever inserted.

-- The schema itself is made before the first migration: the record of migrations lives in it.
COMMENT ON SCHEMA facteur IS 'Facteur, the mail backend: outbox, deliveries, outcomes.';

CREATE TYPE facteur.delivery_state AS ENUM ('queued', 'sending', 'unknown');
COMMENT ON TYPE facteur.delivery_state IS
  'queued: due at run_at. sending: leased to one worker. unknown: parked, nobody can know whether it was sent.';
CREATE TYPE facteur.final_state AS ENUM ('sent', 'failed', 'cancelled');
COMMENT ON TYPE facteur.final_state IS
  'sent: a server took it. failed: it never will be. cancelled: withdrawn before it was sent.';

-- 1. What was handed over. Immutable. Partitioned by the time inside its UUIDv7, so that old weeks are dropped, not deleted.
CREATE TABLE facteur.emails (
  id           uuid        NOT NULL,
  message_id   text        NOT NULL CHECK (length(message_id) BETWEEN 3 AND 250 AND message_id !~ '[<>[:space:]]'),
  date         timestamptz NOT NULL,
  boundary     text        NOT NULL CHECK (boundary ~ '^[0-9A-Za-z]{16,60}$'),
  sender       jsonb       NOT NULL,
  recipients   jsonb       NOT NULL,
  cc           jsonb       NOT NULL DEFAULT '[]',
  bcc          jsonb       NOT NULL DEFAULT '[]',
  reply_to     jsonb       NOT NULL DEFAULT '[]',
  subject      text        NOT NULL CHECK (length(subject) <= 998),
  text_body    text,
  html_body    text,
  headers      jsonb       NOT NULL DEFAULT '[]',
  scheduled_at timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id),
  CONSTRAINT a_body CHECK (text_body IS NOT NULL OR html_body IS NOT NULL)
) PARTITION BY RANGE (id);
COMMENT ON TABLE facteur.emails IS 'Each accepted e-mail as structure; MIME is rendered from it at sending, the same bytes every time.';
COMMENT ON COLUMN facteur.emails.message_id IS 'Message-ID without angle brackets; every attempt and every copy carries it.';
COMMENT ON COLUMN facteur.emails.date IS 'The Date header, fixed at acceptance.';
COMMENT ON COLUMN facteur.emails.boundary IS 'What the MIME boundaries are made of, fixed at acceptance.';
COMMENT ON COLUMN facteur.emails.sender IS '{"name"?, "address"}: the From header and the envelope sender.';
COMMENT ON COLUMN facteur.emails.recipients IS 'The To header: [{"name"?, "address"}].';
COMMENT ON COLUMN facteur.emails.scheduled_at IS 'When the caller wanted it sent; NULL is at once. The queue itself goes by deliveries.run_at.';

CREATE TABLE facteur.attachments (
  email_id     uuid     NOT NULL,
  position     smallint NOT NULL CHECK (position >= 0),
  filename     text     NOT NULL CHECK (length(filename) BETWEEN 1 AND 255),
  content_type text     NOT NULL CHECK (length(content_type) BETWEEN 3 AND 255),
  content_id   text     CHECK (length(content_id) BETWEEN 1 AND 127),
  content      bytea    NOT NULL,
  PRIMARY KEY (email_id, position)
) PARTITION BY RANGE (email_id);
-- Mostly compressed formats already: EXTERNAL spares the attempt, and lets parts be read.
ALTER TABLE facteur.attachments ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE facteur.attachments IS 'The files of an e-mail, in order. content_id set: shown inline.';

-- 2. The queue. One row is one recipient of one e-mail: one SMTP transaction, one fate.
CREATE TABLE facteur.deliveries (
  email_id     uuid        NOT NULL,
  position     smallint    NOT NULL CHECK (position >= 0),
  state        facteur.delivery_state NOT NULL DEFAULT 'queued',
  priority     smallint    NOT NULL DEFAULT 2 CHECK (priority BETWEEN 0 AND 3),
  attempt      smallint    NOT NULL DEFAULT 0,
  max_attempts smallint    NOT NULL DEFAULT 20 CHECK (max_attempts BETWEEN 1 AND 100),
  hold_unknown boolean     NOT NULL DEFAULT false,
  data_started boolean     NOT NULL DEFAULT false,
  lease_token  bigint      NOT NULL DEFAULT 0,
  run_at       timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  lease_until  timestamptz,
  worker_id    uuid,
  recipient    text        NOT NULL CHECK (octet_length(recipient) BETWEEN 3 AND 254 AND recipient LIKE '%_@_%'),
  PRIMARY KEY (email_id, position),
  CONSTRAINT lease_iff_sending CHECK ((state = 'sending') = (lease_until IS NOT NULL AND worker_id IS NOT NULL)),
  CONSTRAINT attempt_in_range CHECK (attempt BETWEEN 0 AND max_attempts),
  CONSTRAINT queued_can_be_tried CHECK (state <> 'queued' OR attempt < max_attempts),
  CONSTRAINT unknown_only_when_held CHECK (state <> 'unknown' OR hold_unknown)
) WITH (fillfactor = 80,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE facteur.deliveries IS 'Live deliveries only: a row leaves when it ends. Small and hot.';
COMMENT ON COLUMN facteur.deliveries.position IS 'Which of the e-mail''s envelope recipients, from 0.';
COMMENT ON COLUMN facteur.deliveries.priority IS '0 urgent, 1 high, 2 normal, 3 low.';
COMMENT ON COLUMN facteur.deliveries.attempt IS 'Attempts begun, counted at the claim: mail that kills its worker still ends.';
COMMENT ON COLUMN facteur.deliveries.hold_unknown IS 'on_unknown = hold: when nobody can know whether it was sent, it waits for a person.';
COMMENT ON COLUMN facteur.deliveries.data_started IS 'Of a held mail: DATA was about to be sent under the present lease.';
COMMENT ON COLUMN facteur.deliveries.lease_token IS 'Fencing token: grows at each claim, checked by each write of the lease holder.';
COMMENT ON COLUMN facteur.deliveries.lease_until IS 'Until when the delivery is worker_id''s alone. Not indexed: leased rows are few.';

-- A scan of one priority stops at the first row that is not due.
CREATE INDEX deliveries_due ON facteur.deliveries (priority, run_at, email_id, position) WHERE state = 'queued';
CREATE INDEX deliveries_leased ON facteur.deliveries (worker_id) WHERE state = 'sending';

-- 3. What became of each delivery: one row, written by the same statement that takes it off the queue.
CREATE TABLE facteur.outcomes (
  email_id    uuid        NOT NULL,
  position    smallint    NOT NULL,
  recipient   text        NOT NULL,
  final       facteur.final_state NOT NULL,
  reason      text        NOT NULL CHECK (length(reason) BETWEEN 1 AND 64),
  transport   text        CHECK (length(transport) <= 64),
  code        smallint    CHECK (code BETWEEN 100 AND 599),
  reply       text        CHECK (length(reply) <= 1000),
  attempts    smallint    NOT NULL CHECK (attempts >= 0),
  finished_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (email_id, position)
) PARTITION BY RANGE (email_id);
COMMENT ON TABLE facteur.outcomes IS 'The final state of each delivery. Insert-only.';
COMMENT ON COLUMN facteur.outcomes.reason IS 'accepted, rejected, expired, exhausted, worker_lost, unrenderable, …';
COMMENT ON COLUMN facteur.outcomes.reply IS 'What the server said, as it said it: hostile text, escape it when shown.';

-- 4. What happened on the way. Insert-only; kept by age.
CREATE TABLE facteur.events (
  email_id    uuid        NOT NULL,
  position    smallint,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  kind        text        NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
  attempt     smallint,
  lease_token bigint,
  worker_id   uuid,
  transport   text        CHECK (length(transport) <= 64),
  stage       text        CHECK (length(stage) <= 32),
  code        smallint,
  detail      text        CHECK (length(detail) <= 1000)
) PARTITION BY RANGE (email_id);
CREATE INDEX events_email ON facteur.events (email_id);
COMMENT ON TABLE facteur.events IS 'The history of each e-mail: accepted, retry, released, lease_lost, sent, failed, … position NULL: of the whole e-mail.';

-- 5. Calling twice is safe.
CREATE TABLE facteur.idempotency (
  scope          text        NOT NULL CHECK (length(scope) BETWEEN 1 AND 64),
  key            text        NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_sha256 bytea       NOT NULL CHECK (octet_length(request_sha256) = 32),
  email_id       uuid        NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_age ON facteur.idempotency (created_at);
COMMENT ON TABLE facteur.idempotency IS 'Which e-mail a key stands for, and a hash of what it was asked with.';

-- 6. Which worker processes are alive.
CREATE TABLE facteur.worker_sessions (
  id         uuid        PRIMARY KEY,
  host       text        NOT NULL CHECK (length(host) <= 255),
  version    text        NOT NULL CHECK (length(version) <= 64),
  started_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  draining   boolean     NOT NULL DEFAULT false
) WITH (fillfactor = 50);
COMMENT ON TABLE facteur.worker_sessions IS 'One row a process start. A session that expired gives its leases up at once.';

-- Partitions: one a week, by the millisecond clock in the first 48 bits of a UUIDv7 (RFC 9562 §5.7).
CREATE FUNCTION facteur.uuid_from(instant timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
COMMENT ON FUNCTION facteur.uuid_from IS 'The smallest UUIDv7 of an instant: the bound of a partition.';

CREATE FUNCTION facteur.ensure_partitions(weeks_ahead integer DEFAULT 4) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
  parent text;
  week   timestamptz;
  part   text;
  made   integer := 0;
BEGIN
  -- One process at a time; the others find the work done.
  PERFORM pg_advisory_xact_lock(hashtext('facteur.ensure_partitions'));
  FOR i IN 0 .. weeks_ahead LOOP
    week := (date_trunc('week', now() AT TIME ZONE 'UTC') + make_interval(weeks => i)) AT TIME ZONE 'UTC';
    FOREACH parent IN ARRAY ARRAY['emails', 'attachments', 'outcomes', 'events'] LOOP
      part := parent || to_char(week AT TIME ZONE 'UTC', '_YYYYMMDD');
      IF to_regclass('facteur.' || part) IS NULL THEN
        EXECUTE format('CREATE TABLE facteur.%I PARTITION OF facteur.%I FOR VALUES FROM (%L) TO (%L)',
                       part, parent, facteur.uuid_from(week), facteur.uuid_from(week + interval '7 days'));
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;
COMMENT ON FUNCTION facteur.ensure_partitions IS 'Makes this week''s partitions and those of the weeks ahead; returns how many were missing.';

-- What fits in no week (an id with a strange clock, a worker that slept a month) is still taken.
CREATE TABLE facteur.emails_other      PARTITION OF facteur.emails      DEFAULT;
CREATE TABLE facteur.attachments_other PARTITION OF facteur.attachments DEFAULT;
CREATE TABLE facteur.outcomes_other    PARTITION OF facteur.outcomes    DEFAULT;
CREATE TABLE facteur.events_other      PARTITION OF facteur.events      DEFAULT;
SELECT facteur.ensure_partitions();
