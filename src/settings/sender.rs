//! Who mail is from when it does not say.

use super::faults::Faults;
use super::profile::Environment;
use super::reader::Reader;
use super::variables::Variables;

/// The sender in development.
const DEVELOPMENT: &str = "noreply@local.test";

/// The sender of mail that names none, from the environment of this process: `EMAIL_FROM` or
/// `DEFAULT_FROM_EMAIL`.
pub fn default_sender() -> Result<String, Faults> {
    default_sender_from(&Variables::from_process())
}

fn default_sender_from(variables: &Variables) -> Result<String, Faults> {
    let mut reader = Reader::new(variables);
    let environment = Environment::read(&mut reader, Environment::Production);
    let sender = read(&mut reader, environment);
    reader.finish(sender)
}

pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> Option<String> {
    let accepts = "an address, or Name <address>";
    let check = |text: &str| is_sender(text).then(|| text.to_owned());
    let one = reader.parse("EMAIL_FROM", accepts, check);
    let other = reader.parse("DEFAULT_FROM_EMAIL", accepts, check);
    if let Some(found) = reader.agreed(one, other, PartialEq::eq) {
        return Some(found.value);
    }
    if environment == Environment::Development {
        return Some(DEVELOPMENT.to_owned());
    }
    if !reader.is_faulty(&["EMAIL_FROM", "DEFAULT_FROM_EMAIL"]) {
        let text = "required: the sender of mail that names none, an address or Name <address>";
        reader.fault(&["EMAIL_FROM"], text);
    }
    None
}

/// A light check, to find a slip at start-up: the e-mail itself is held to the whole grammar.
fn is_sender(text: &str) -> bool {
    let address = match text.strip_suffix('>') {
        Some(text) => match text.split_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let stray = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';');
    let halves: Vec<&str> = address.split('@').collect();
    !text.contains(char::is_control)
        && !address.contains(stray)
        && halves.len() == 2
        && halves.iter().all(|half| !half.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_one_address() {
        let accepted = [
            "noreply@local.test",
            "Acme <noreply@acme.test>",
            "\"Acme, Inc.\" <noreply@acme.test>",
            "Facteur é <a@ü.test>",
            "<a@b.test>",
        ];
        for text in accepted {
            assert!(is_sender(text), "{text}");
        }
        let refused = [
            "",
            "noreply",
            "@local.test",
            "noreply@",
            "a@@b.test",
            "a@b.test, c@d.test",
            "Acme noreply@acme.test",
            "Acme <noreply@acme.test",
            "Acme noreply@acme.test>",
            "A <a@b.test>, B <c@d.test>",
            "Acme\r\nBcc: x <a@b.test>",
            "a@b.test\nBcc:c@d.test",
            "Acme <a b@c.test>",
        ];
        for text in refused {
            assert!(!is_sender(text), "{text}");
        }
    }

    #[test]
    fn the_library_finds_its_sender_in_either_family() {
        for name in ["EMAIL_FROM", "DEFAULT_FROM_EMAIL"] {
            let variables = Variables::from_iter([(name, "a@b.test")]);
            assert_eq!(default_sender_from(&variables).expect("no fault"), "a@b.test");
        }
        let development = Variables::from_iter([("APP_ENV", "development")]);
        assert_eq!(default_sender_from(&development).expect("no fault"), "noreply@local.test");
        let text = default_sender_from(&Variables::default()).expect_err("a fault").to_string();
        assert!(text.starts_with("EMAIL_FROM: required"), "{text}");
    }
}
