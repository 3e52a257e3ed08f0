-- The ways out, as the whole fleet sees them: which is broken, which has had enough for now.
--
-- One new table of a few rows; nothing that exists is touched.
SET LOCAL lock_timeout = '2s';

CREATE TYPE facteur.breaker_state AS ENUM ('closed', 'open', 'half_open');
COMMENT ON TYPE facteur.breaker_state IS
  'closed: mail goes through. open: none does before held_until. half_open: one probe at a time does.';

CREATE TABLE facteur.transports (
  name         text        PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 300),
  state        facteur.breaker_state NOT NULL DEFAULT 'closed',
  since        timestamptz NOT NULL DEFAULT now(),
  held_until   timestamptz,
  reason       text        CHECK (length(reason) <= 500),
  rounds       smallint    NOT NULL DEFAULT 0 CHECK (rounds >= 0),
  version      bigint      NOT NULL DEFAULT 0,
  probe        bigint      NOT NULL DEFAULT 0,
  probe_until  timestamptz,
  tripped_by   text        CHECK (length(tripped_by) BETWEEN 1 AND 128),
  reset_by     text        CHECK (length(reset_by) BETWEEN 1 AND 128),
  slow_until   timestamptz,
  next_at      timestamptz,
  window_start timestamptz,
  used         bigint      NOT NULL DEFAULT 0 CHECK (used >= 0),
  last_success timestamptz,
  CONSTRAINT held_says_how_long CHECK (state <> 'open' OR held_until IS NOT NULL OR tripped_by IS NOT NULL),
  CONSTRAINT closed_holds_nothing CHECK (state <> 'closed' OR (held_until IS NULL AND probe_until IS NULL AND tripped_by IS NULL)),
  CONSTRAINT a_probe_has_an_end CHECK ((state = 'half_open') = (probe_until IS NOT NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
COMMENT ON TABLE facteur.transports IS
  'One row a way out, by its name in the settings, and one "domain:…" for each recipients'' domain with a rate. Read by all processes, at most once a second each.';
COMMENT ON COLUMN facteur.transports.since IS 'When the state last changed.';
COMMENT ON COLUMN facteur.transports.held_until IS
  'Of an open one: when a probe may go. NULL: when a person resets it.';
COMMENT ON COLUMN facteur.transports.reason IS 'Why it is not closed, as the server or the person said: hostile text, escape it when shown.';
COMMENT ON COLUMN facteur.transports.rounds IS 'How many times in a row it has been opened: each holds for longer.';
COMMENT ON COLUMN facteur.transports.version IS
  'Grows with each change of the state: who gathered evidence under an older one changes nothing.';
COMMENT ON COLUMN facteur.transports.probe IS 'Fencing token: grows with each probe, and only the newest probe''s outcome counts.';
COMMENT ON COLUMN facteur.transports.probe_until IS 'Until when the probe is one process''s alone; then another may go.';
COMMENT ON COLUMN facteur.transports.tripped_by IS 'Who opened it by hand; NULL when it opened by itself.';
COMMENT ON COLUMN facteur.transports.reset_by IS 'Who last closed it by hand.';
COMMENT ON COLUMN facteur.transports.slow_until IS 'Until when it is given half of its pace, because it asked for less.';
COMMENT ON COLUMN facteur.transports.next_at IS 'The rate: when the next mail would be due at an even pace (theoretical arrival time of GCRA).';
COMMENT ON COLUMN facteur.transports.window_start IS 'The quota: the minute, hour or day (UTC) that `used` counts.';
COMMENT ON COLUMN facteur.transports.used IS 'Mails reserved in that window; those that were never begun are given back.';
COMMENT ON COLUMN facteur.transports.last_success IS 'When a mail last left this way; written every half minute at most.';
