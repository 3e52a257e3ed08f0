-- What the HTTP door keeps: who handed an e-mail over, its tags, and which e-mails the key of a batch stands for.
--
-- Additive columns only, none of which rewrites or scans a table. Processes of 0001 on go on working beside it.
SET LOCAL lock_timeout = '2s';
-- In the order in which acceptance takes them.
LOCK TABLE facteur.idempotency, facteur.emails IN ACCESS EXCLUSIVE MODE;

ALTER TABLE facteur.emails
  ADD COLUMN tags    jsonb NOT NULL DEFAULT '[]',
  ADD COLUMN sent_by text,
  ADD CONSTRAINT a_caller CHECK (length(sent_by) BETWEEN 1 AND 64) NOT VALID;
COMMENT ON COLUMN facteur.emails.tags IS '[{"name", "value"}]: the caller''s own, never sent along.';
COMMENT ON COLUMN facteur.emails.sent_by IS
  'Who handed it over by HTTP: the subject of the bearer''s token, or its role. NULL: by the library, by SQL, or before it was kept.';

ALTER TABLE facteur.idempotency ADD COLUMN email_ids uuid[];
COMMENT ON COLUMN facteur.idempotency.email_ids IS 'Of a batch: all its e-mails, in order; email_id is the first.';
