use std::net::IpAddr;

use reqwest::Url;

use super::reach::Reach;
use super::refusal::Refusal;
use crate::settings::Fetching;

/// Characters of an address.
const LONGEST: usize = 2_048;

/// The address of a file, as the caller wrote it.
pub(super) fn parse(text: &str, rules: &Fetching, reach: &dyn Reach) -> Result<Url, Refusal> {
    if text.len() > LONGEST || text.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Refusal::Url);
    }
    check(Url::parse(text).map_err(|_| Refusal::Url)?, rules, reach)
}

/// What can be told of an address without asking anybody. A host that is a number is held to the same rule as
/// the ones that names stand for: it is connected to without being looked up.
pub(super) fn check(url: Url, rules: &Fetching, reach: &dyn Reach) -> Result<Url, Refusal> {
    match url.scheme() {
        "https" => {}
        "http" if rules.plain => {}
        "http" => return Err(Refusal::Scheme),
        _ => return Err(Refusal::Url),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Credentials);
    }
    if url.port().is_some() && !rules.plain {
        return Err(Refusal::Port);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(Refusal::Url)?;
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if !reach.admits(address) => Err(Refusal::Address),
        _ => Ok(url),
    }
}

/// The last part of an address's path, as a name for the file.
pub(super) fn name(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let last = url.path_segments()?.next_back()?;
    let mut bytes = Vec::with_capacity(last.len());
    let mut rest = last.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        match (byte, ahead.next().and_then(digit), ahead.next().and_then(digit)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high << 4 | low);
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::reach::Internet;
    use super::*;

    fn asked(text: &str, plain: bool, loopback: bool) -> Result<String, Refusal> {
        let rules = Fetching { plain, loopback, patience: Duration::ZERO };
        parse(text, &rules, &Internet { loopback }).map(|url| url.to_string())
    }

    #[test]
    fn https_on_its_own_port_without_a_login_and_nothing_else() {
        assert!(asked("https://files.example.com/a.pdf?sig=1", false, false).is_ok());
        assert!(asked("https://files.example.com:443/a.pdf", false, false).is_ok());
        assert!(asked("https://8.8.8.8/a.pdf", false, false).is_ok());
        for (text, refusal) in [
            ("", Refusal::Url),
            ("a.pdf", Refusal::Url),
            ("//files.example.com/a.pdf", Refusal::Url),
            ("https://", Refusal::Url),
            ("https://a b.test/", Refusal::Url),
            ("https://x.test/\r\nHost: evil.test", Refusal::Url),
            ("file:///etc/passwd", Refusal::Url),
            ("ftp://files.example.com/a", Refusal::Url),
            ("gopher://x.test/", Refusal::Url),
            ("data:text/plain,x", Refusal::Url),
            ("http://files.example.com/a", Refusal::Scheme),
            ("https://user@files.example.com/a", Refusal::Credentials),
            ("https://user:secret@files.example.com/a", Refusal::Credentials),
            ("https://:secret@files.example.com/a", Refusal::Credentials),
            ("https://files.example.com:8443/a", Refusal::Port),
            ("https://files.example.com:80/a", Refusal::Port),
        ] {
            assert_eq!(asked(text, false, false), Err(refusal), "{text}");
        }
        let long = format!("https://x.test/{}", "a".repeat(LONGEST));
        assert_eq!(asked(&long, false, false), Err(Refusal::Url));
    }

    #[test]
    fn numbers_of_any_spelling_are_held_to_the_rule() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "0",
            "10.0.0.1",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::1]",
            "[fe80::1]",
            "[fd00::1]",
            "１２７.0.0.1",
        ] {
            assert_eq!(asked(&format!("https://{host}/a"), false, false), Err(Refusal::Address), "{host}");
        }
    }

    #[test]
    fn development_is_plain_and_this_machine_only_if_it_is_said() {
        assert!(asked("http://files.example.com:3000/a", true, false).is_ok());
        assert_eq!(asked("http://127.0.0.1:3000/a", true, false), Err(Refusal::Address));
        assert!(asked("http://127.0.0.1:3000/a", true, true).is_ok());
        assert!(asked("http://[::1]:3000/a", true, true).is_ok());
        assert_eq!(asked("http://10.0.0.1/a", true, true), Err(Refusal::Address));
        assert_eq!(asked("http://169.254.169.254/a", true, true), Err(Refusal::Address));
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        let name = |text: &str| name(&format!("https://x.test{text}"));
        assert_eq!(name("/a/order%207.pdf?sig=1#x").as_deref(), Some("order 7.pdf"));
        assert_eq!(name("/%C3%A9t%C3%A9.pdf").as_deref(), Some("été.pdf"));
        assert_eq!(name("/100%.pdf").as_deref(), Some("100%.pdf"));
        assert_eq!(name("/"), None);
        assert_eq!(name("/%ff"), None);
    }
}
