-- A sender's domain leaves room for the Message-ID, which is the e-mail's id, an @ and this domain: 250 octets at most.
--
-- Without it a longer one passed every rule of the address and failed the CHECK on the column. The rule is
-- email::check::sender's, in its words; tests/sql_door/table.rs sends both sides of the limit through every door.
-- One function is replaced: no table is touched.
SET LOCAL lock_timeout = '2s';

-- email::Mailbox::from_str, with email::address::unquote: {"name"?, "address"}; of a sender, email::check::sender.
CREATE OR REPLACE FUNCTION facteur.mailbox(field text, given text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  hint     text    := 'Accepted: ada@example.com or Ada Lovelace <ada@example.com>, one address in each text.';
  open     integer := position('<' IN given);
  name     text    := btrim(left(given, open - 1), ' ');
  problem  text;
  octets   integer;
BEGIN
  IF open = 0 THEN
    name  := '';
    given := facteur.address(field, given);
  ELSIF right(given, 1) <> '>' OR name ~ '^"' AND name !~ '^"([^"\\]|\\.)*"$' THEN
    PERFORM facteur.refuse(field, 'must be ada@example.com or Ada Lovelace <ada@example.com>', hint);
  ELSE
    IF name ~ '^"' THEN
      name := regexp_replace(substr(name, 2, length(name) - 2), '\\(.)', '\1', 'g');
    END IF;
    problem := facteur.line_problem(name, 200);
    IF problem IS NOT NULL THEN
      PERFORM facteur.refuse(field, 'has a display name that ' || problem, hint);
    END IF;
    given := facteur.address(field, substr(given, open + 1, length(given) - open - 1));
  END IF;
  octets := octet_length(given) - position('@' IN given);
  IF field = 'from' AND octets > 213 THEN
    PERFORM facteur.refuse(field, format('has a domain of %s octets, the most in a sender is 213: it is part of the Message-ID', octets),
      'Send from a domain with a shorter name.');
  END IF;
  RETURN CASE name WHEN '' THEN jsonb_build_object('address', given) ELSE jsonb_build_object('name', name, 'address', given) END;
END
$$;
