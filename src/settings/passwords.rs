//! Passwords that everybody tries first: refused wherever strangers may try.

use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;
use super::transports::{Kind, Way};

/// The words of example passwords, longer ones first where one holds another.
const WELL_KNOWN: [&str; 22] = [
    "correcthorsebatterystaple",
    "changeit",
    "changeme",
    "replaceme",
    "postgres",
    "password",
    "passwort",
    "passw0rd",
    "facteur",
    "example",
    "default",
    "letmein",
    "secret",
    "change",
    "qwerty",
    "admin",
    "guest",
    "email",
    "mail",
    "test",
    "root",
    "pass",
];

pub(super) const TEXT: &str =
    "the password is well known or repeats one character; `openssl rand -hex 24` makes a good one";

/// Nothing but such words, with at most four digits and any punctuation, or one character again and again.
pub(super) fn is_well_known(password: &str) -> bool {
    let text = password.to_lowercase();
    let mut characters = text.chars();
    let first = characters.next();
    if characters.all(|c| Some(c) == first) {
        return true;
    }
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let rest = WELL_KNOWN.iter().fold(letters.clone(), |rest, word| rest.replace(word, ""));
    let words = rest.len() < letters.len();
    (words && rest.len() <= 4 && rest.chars().all(|c| c.is_ascii_digit())) || is_counted(&letters)
}

/// `12345678`, `0123456789`.
fn is_counted(text: &str) -> bool {
    !text.is_empty() && "01234567890".contains(text)
}

/// Notes a fault for each way out whose login has such a password.
pub(super) fn refuse_well_known(reader: &mut Reader<'_>, ways: &[Way]) {
    let is_weak = |password: &SecretString| is_well_known(password.expose_secret());
    for way in ways {
        if let Kind::Smtp(relay) = &way.kind
            && relay.credentials.as_ref().is_some_and(|login| is_weak(&login.password))
        {
            let names = NAMES.into_iter().filter(|name| reader.is_set(name)).collect::<Vec<_>>();
            reader.fault(&names, format!("{}: {TEXT}", way.name));
        }
    }
}

/// Where the password of a way out can have come from.
const NAMES: [&str; 6] = [
    "MAIL_TRANSPORTS",
    "MAIL_TRANSPORTS_FILE",
    "SMTP_PASSWORD",
    "SMTP_PASSWORD_FILE",
    "EMAIL_HOST_PASSWORD",
    "EMAIL_HOST_PASSWORD_FILE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_tries_first_is_well_known() {
        for password in [
            "changeme",
            "ChangeMe!",
            "change-me",
            "secret",
            "password",
            "password123",
            "Passw0rd2026",
            "test",
            "postgres",
            "facteur",
            "facteur-secret",
            "aaaaaaaaaaaaaaaa",
            "0",
            "123456",
            "mail-secret-2026",
        ] {
            assert!(is_well_known(password), "{password}");
        }
    }

    #[test]
    fn what_was_chosen_is_not() {
        for password in [
            "kW3vXo0n1yqfT8sB",
            "3f9c1e7ab05d48c2961fe07d3ba84c5e",
            "secretary-of-the-sea",
            "mailbox7XQ",
            "7391562",
            "test12345",
        ] {
            assert!(!is_well_known(password), "{password}");
        }
    }
}
