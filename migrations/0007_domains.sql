-- Limits of each recipients' domain: how fast, and how many at once, for all processes together.
--
-- Two new tables of few rows and a function; nothing that exists is touched. A process without such limits
-- reads and writes none of it.
SET LOCAL lock_timeout = '2s';

CREATE TABLE facteur.domains (
  name    text        PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 254),
  next_at timestamptz,
  used_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
COMMENT ON TABLE facteur.domains IS
  'One row a limited domain that mail went to lately. Locked before anything of the domain is granted.';
COMMENT ON COLUMN facteur.domains.next_at IS 'The rate: when the next mail would be due at an even pace (theoretical arrival time of GCRA).';
COMMENT ON COLUMN facteur.domains.used_at IS 'When a mail was last admitted.';

CREATE TABLE facteur.domain_slots (
  domain      text     NOT NULL,
  email_id    uuid     NOT NULL,
  position    smallint NOT NULL,
  lease_token bigint   NOT NULL,
  PRIMARY KEY (domain, email_id, position)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
COMMENT ON TABLE facteur.domain_slots IS
  'Deliveries that were admitted to a domain with a limit of mails at once. A slot lives as long as its delivery is being sent '
  'under that lease: settling frees it, and so does whoever takes back what a dead worker had leased. Rows of dead slots go when the '
  'domain is next asked for.';

CREATE FUNCTION facteur.is_taken(slot facteur.domain_slots) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM facteur.deliveries d
                 WHERE d.email_id = slot.email_id AND d.position = slot.position
                   AND d.lease_token = slot.lease_token AND d.state = 'sending')
$$;

CREATE FUNCTION facteur.admit(
  names text[], every float8[], burst integer[], most integer[],
  domains text[], email_ids uuid[], positions smallint[], tokens bigint[]
) RETURNS TABLE (to_domain text, admitted integer, spare integer, wait float8)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  l    record;
  due  timestamptz;
  at   timestamptz;
  room integer;
BEGIN
  -- In order, as everybody locks several.
  FOR l IN SELECT * FROM unnest(names, every, burst, most) AS u (name, every, burst, most) ORDER BY u.name LOOP
    LOOP
      SELECT d.next_at INTO due FROM facteur.domains d WHERE d.name = l.name FOR UPDATE;
      EXIT WHEN FOUND;
      INSERT INTO facteur.domains (name) VALUES (l.name) ON CONFLICT DO NOTHING;
    END LOOP;
    -- The row first, then the clock and the count: each statement here sees what was committed before it began,
    -- and with it every slot that was granted under this lock.
    at := clock_timestamp();
    room := 2147483647;
    IF l.most IS NOT NULL THEN
      DELETE FROM facteur.domain_slots s WHERE s.domain = l.name AND NOT facteur.is_taken(s);
      room := least(room, l.most - (SELECT count(*) FROM facteur.domain_slots s WHERE s.domain = l.name));
    END IF;
    IF l.every IS NOT NULL THEN
      due := greatest(due, at);
      room := least(room, floor(l.burst - extract(epoch FROM due - at) / l.every + 1e-6));
    END IF;
    room := greatest(room, 0);
    admitted := least(room, (SELECT count(*) FROM unnest(domains) AS wanted WHERE wanted = l.name));
    IF admitted > 0 THEN
      UPDATE facteur.domains d
      SET next_at = CASE WHEN l.every IS NULL THEN d.next_at ELSE due + make_interval(secs => l.every * admitted) END,
          used_at = at
      WHERE d.name = l.name
      RETURNING d.next_at INTO due;
      IF l.most IS NOT NULL THEN
        INSERT INTO facteur.domain_slots (domain, email_id, position, lease_token)
        SELECT l.name, w.email_id, w.position, w.token
        FROM unnest(domains, email_ids, positions, tokens) WITH ORDINALITY AS w (domain, email_id, position, token, n)
        WHERE w.domain = l.name ORDER BY w.n LIMIT admitted;
      END IF;
    END IF;
    to_domain := l.name;
    spare := room - admitted;
    wait := CASE WHEN l.every IS NULL THEN 0
                 ELSE greatest(0, extract(epoch FROM due - at) - (l.burst - 1) * l.every) END;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION facteur.admit IS
  'Of the deliveries asked for (domains, email_ids, positions, tokens: leased by the caller), how many of each limited domain (names, with '
  'the seconds between two mails, how many may go at once after a pause, and how many may be under way; NULL is no such limit) may be '
  'sent now, in their order; how many more could have been; and in how many seconds the rate has room again.';

REVOKE ALL ON FUNCTION facteur.is_taken, facteur.admit FROM PUBLIC;
