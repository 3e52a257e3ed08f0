-- What a delivery's life lacked: withdrawal, supersession, a second chance by hand, and e-mails whose
-- content goes when it is not needed any more.
--
-- No table is rewritten or scanned: columns with constant defaults, constraints NOT VALID, and new tables
-- in the place of new indexes on large ones. Processes of 0001 go on working beside it.
SET LOCAL lock_timeout = '2s';
-- In the order in which acceptance and settling take them: the other way round, a process at work and
-- this migration wait for each other, and the database ends one of them.
LOCK TABLE facteur.emails, facteur.deliveries, facteur.outcomes, facteur.events IN ACCESS EXCLUSIVE MODE;

-- 1. The queue.
ALTER TABLE facteur.deliveries
  ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false,
  ADD COLUMN may_have_left    boolean NOT NULL DEFAULT false,
  ADD COLUMN supersedes       text,
  ADD CONSTRAINT a_name CHECK (length(supersedes) BETWEEN 1 AND 128) NOT VALID;
COMMENT ON COLUMN facteur.deliveries.cancel_requested IS
  'Its caller withdrew it while it was being sent: should it come back, it ends instead of being tried again.';
COMMENT ON COLUMN facteur.deliveries.may_have_left IS
  'An earlier attempt ended with nobody knowing whether a server took it: such mail is never called cancelled.';
COMMENT ON COLUMN facteur.deliveries.supersedes IS
  'The name under which a newer e-mail replaces it; see facteur.newest.';

-- 2. The e-mail: what its deliveries need should they be made again, and what became of its content.
ALTER TABLE facteur.emails
  ADD COLUMN priority     smallint,
  ADD COLUMN hold_unknown boolean,
  ADD COLUMN supersedes   text,
  ADD COLUMN sensitive    boolean NOT NULL DEFAULT false,
  ADD COLUMN wiped_at     timestamptz,
  ADD CONSTRAINT a_priority CHECK (priority BETWEEN 0 AND 3) NOT VALID,
  ADD CONSTRAINT a_name CHECK (length(supersedes) BETWEEN 1 AND 128) NOT VALID,
  ADD CONSTRAINT only_the_sensitive_are_wiped CHECK (wiped_at IS NULL OR sensitive) NOT VALID,
  DROP CONSTRAINT a_body;
ALTER TABLE facteur.emails
  ADD CONSTRAINT a_body CHECK (text_body IS NOT NULL OR html_body IS NOT NULL OR wiped_at IS NOT NULL) NOT VALID;
COMMENT ON TABLE facteur.emails IS
  'Each accepted e-mail as structure; MIME is rendered from it at sending, the same bytes every time. Two things change: scheduled_at, and the content of a sensitive e-mail, once.';
COMMENT ON COLUMN facteur.emails.scheduled_at IS
  'When the caller wanted it sent; NULL is at once. Changes when it is rescheduled. The queue itself goes by deliveries.run_at.';
COMMENT ON COLUMN facteur.emails.priority IS 'As in deliveries; NULL was accepted before it was kept here.';
COMMENT ON COLUMN facteur.emails.hold_unknown IS 'As in deliveries; NULL was accepted before it was kept here.';
COMMENT ON COLUMN facteur.emails.supersedes IS 'The name under which a newer e-mail replaces it; see facteur.newest.';
COMMENT ON COLUMN facteur.emails.sensitive IS 'Its content is wiped once none of its deliveries can be sent any more.';
COMMENT ON COLUMN facteur.emails.wiped_at IS
  'When subject, bodies, headers and the content of its attachments were wiped: it can never be sent again.';

-- The sensitive e-mails whose content is still there, in the place of an index on `emails`, whose making
-- would keep mail from being accepted. Also the lock by which wiping and trying again exclude each other.
CREATE TABLE facteur.to_wipe (
  email_id uuid    PRIMARY KEY,
  retried  integer NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
COMMENT ON TABLE facteur.to_wipe IS 'Sensitive e-mails whose content has not been wiped yet.';
COMMENT ON COLUMN facteur.to_wipe.retried IS
  'Grows when a person tries the e-mail again: whoever saw an older number does not wipe.';

-- 3. Newer e-mails in the place of older ones.
CREATE TABLE facteur.newest (
  scope    text        NOT NULL CHECK (length(scope) BETWEEN 1 AND 64),
  name     text        NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
  email_id uuid        NOT NULL,
  previous uuid,
  at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, name)
);
CREATE INDEX newest_age ON facteur.newest (at);
COMMENT ON TABLE facteur.newest IS
  'The newest e-mail of each name. Its row lock puts the writers of one name in order; claims look here.';
COMMENT ON COLUMN facteur.newest.previous IS 'The e-mail that this one replaced.';

-- 4. Ends, and what happened on the way.
ALTER TABLE facteur.outcomes
  ADD COLUMN lease_token   bigint,
  ADD COLUMN may_have_left boolean NOT NULL DEFAULT false;
COMMENT ON TABLE facteur.outcomes IS
  'The final state of each delivery. Never changed; removed only when a person has it tried again.';
COMMENT ON COLUMN facteur.outcomes.lease_token IS
  'The last fencing token, so that it grows on when the delivery is tried again. NULL: ended before it was kept here.';
COMMENT ON COLUMN facteur.outcomes.may_have_left IS 'Of what was not sent: an attempt ended with nobody knowing whether a server took it.';
COMMENT ON COLUMN facteur.outcomes.reason IS
  'accepted, rejected, expired, exhausted, worker_lost, unrenderable, withdrawn, superseded, unknown, …';

ALTER TABLE facteur.events
  ADD COLUMN actor text,
  ADD CONSTRAINT an_actor CHECK (length(actor) BETWEEN 1 AND 128) NOT VALID;
COMMENT ON COLUMN facteur.events.actor IS 'Who did it, of what a person did by hand.';
