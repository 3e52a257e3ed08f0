//! One line of the client, understood. What is refused here carries its reply.

/// What a client may ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Hello {
        extended: bool,
    },
    Auth {
        mechanism: Mechanism,
        initial: bool,
    },
    Mail {
        from: String,
    },
    Recipient {
        to: String,
    },
    Data,
    Reset,
    Noop,
    Verify,
    Quit,
    /// A browser that was talked into posting to this port.
    Http,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Mechanism {
    Plain,
    Login,
}

/// A reply line that says why not.
pub(super) type Refusal = &'static str;

/// A path is at most 256 octets (RFC 5321, 4.5.3.1.3).
const LONGEST_PATH: usize = 256;

/// Understands one line, without its CRLF; `largest` is the size that `SIZE=` may announce.
pub(super) fn understand(line: &[u8], largest: usize) -> Result<Command, Refusal> {
    let line = std::str::from_utf8(line).map_err(|_| "500 5.5.2 ASCII only")?;
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" | "HELO" if rest.is_empty() => Err("501 5.5.4 say who you are"),
        "EHLO" => Ok(Command::Hello { extended: true }),
        "HELO" => Ok(Command::Hello { extended: false }),
        "AUTH" => auth(rest),
        "MAIL" => mail(rest, largest),
        "RCPT" => recipient(rest),
        "DATA" => alone(rest, Command::Data),
        "RSET" => alone(rest, Command::Reset),
        "QUIT" => alone(rest, Command::Quit),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Verify),
        "STARTTLS" | "EXPN" | "HELP" | "BDAT" | "ETRN" => Err("502 5.5.1 not implemented"),
        "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" | "CONNECT" => Ok(Command::Http),
        _ => Err("500 5.5.1 unknown command"),
    }
}

fn alone(rest: &str, command: Command) -> Result<Command, Refusal> {
    if rest.is_empty() { Ok(command) } else { Err("501 5.5.4 this command takes no argument") }
}

fn auth(rest: &str) -> Result<Command, Refusal> {
    let (name, initial) = rest.split_once(' ').map_or((rest, false), |(name, _)| (name, true));
    let mechanism = match name.to_ascii_uppercase().as_str() {
        "PLAIN" => Mechanism::Plain,
        "LOGIN" => Mechanism::Login,
        _ => return Err("504 5.5.4 PLAIN or LOGIN"),
    };
    Ok(Command::Auth { mechanism, initial })
}

fn mail(rest: &str, largest: usize) -> Result<Command, Refusal> {
    let (from, parameters) = path(after(rest, "FROM:").ok_or("501 5.5.4 MAIL FROM:<address>")?)?;
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name.to_ascii_uppercase().as_str(), value.to_ascii_uppercase().as_str()) {
            ("SIZE", _) => announced(value, largest)?,
            ("BODY", "7BIT" | "8BITMIME") | ("AUTH", _) => {}
            _ => return Err("555 5.5.4 unknown parameter"),
        }
    }
    Ok(Command::Mail { from })
}

fn announced(size: &str, largest: usize) -> Result<(), Refusal> {
    if size.is_empty() || !size.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("501 5.5.4 SIZE takes a number");
    }
    // A number too long to be read is too large as well.
    match size.parse::<usize>() {
        Ok(size) if size <= largest => Ok(()),
        _ => Err(super::session::TOO_LARGE),
    }
}

fn recipient(rest: &str) -> Result<Command, Refusal> {
    let (to, parameters) = path(after(rest, "TO:").ok_or("501 5.5.4 RCPT TO:<address>")?)?;
    match (to.is_empty(), parameters.is_empty()) {
        (true, _) => Err("501 5.1.3 an address is needed"),
        (_, false) => Err("555 5.5.4 unknown parameter"),
        _ => Ok(Command::Recipient { to }),
    }
}

fn after<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let start = rest.get(..keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then(|| rest[keyword.len()..].trim_start())
}

/// `<address>` and the parameters behind it. A source route (`@a,@b:`) is dropped.
fn path(text: &str) -> Result<(String, &str), Refusal> {
    let inside = text.strip_prefix('<').ok_or("501 5.1.3 the address stands in <>")?;
    let end = closing(inside).ok_or("501 5.1.3 the address has no end")?;
    let parameters = &inside[end + 1..];
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Err("501 5.5.4 a space stands before parameters");
    }
    let address = match inside[..end].split_once(':') {
        Some((route, address)) if route.starts_with('@') => address,
        _ => &inside[..end],
    };
    let printable = address.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let spaced = address.contains(' ') && !address.starts_with('"');
    if !printable || spaced || address.len() > LONGEST_PATH {
        return Err("553 5.1.3 this is no address");
    }
    Ok((address.to_owned(), parameters.trim()))
}

/// The `>` that is not within quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(place),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> &'static str {
        understand(line.as_bytes(), 1000).expect_err("this line is refused").split_at(3).0
    }

    #[test]
    fn addresses_are_taken_as_they_stand() {
        for (line, from) in [
            ("MAIL FROM:<>", ""),
            ("mail from: <a@b.test> SIZE=1000 BODY=8BITMIME AUTH=<>", "a@b.test"),
            ("MAIL FROM:<@r.test,@s.test:a@b.test>", "a@b.test"),
            (r#"MAIL FROM:<"x> y"@b.test>"#, r#""x> y"@b.test"#),
        ] {
            assert_eq!(understand(line.as_bytes(), 1000), Ok(Command::Mail { from: from.into() }), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (line, expected) in [
            ("", "500"),
            ("NONSENSE", "500"),
            ("EHLO", "501"),
            ("DATA now", "501"),
            ("MAIL", "501"),
            ("MAIL FROM:a@b", "501"),
            ("MAIL FROM:<a@b", "501"),
            ("MAIL FROM:<a@b>SIZE=1", "501"),
            ("MAIL FROM:<a@b> SIZE=1001", "552"),
            ("MAIL FROM:<a@b> SIZE=99999999999999999999999", "552"),
            ("MAIL FROM:<a@b> SIZE=-1", "501"),
            ("MAIL FROM:<a@b> SMTPUTF8", "555"),
            ("MAIL FROM:<é@b>", "553"),
            ("RCPT TO:<a b@c>", "553"),
            ("RCPT TO:<>", "501"),
            ("RCPT TO:<a@b> NOTIFY=NEVER", "555"),
            ("RCPT TO:<a\tb@c>", "553"),
            ("AUTH CRAM-MD5", "504"),
            ("STARTTLS", "502"),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
    }
}
