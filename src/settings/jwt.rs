//! The key of bearer tokens.

use secrecy::{ExposeSecret, SecretString};

use super::faults::Faults;
use super::reader::{Found, Reader};
use super::variables::Variables;

/// HS256 has 256 bits; a shorter key weakens it (RFC 7518, 3.2).
const SHORTEST: usize = 32;

/// A key that repeats itself after at most so many bytes is as short as that.
const LONGEST_REPEATED: usize = 16;

/// So much must remain of a key without the words that everybody tries first.
const LEAST_REMAINDER: usize = 16;

/// The words of example keys, longer ones first where one holds another.
const WELL_KNOWN: [&str; 40] = [
    "0123456789abcdef",
    "0123456789",
    "1234567890",
    "123456789",
    "12345678",
    "123456",
    "abcdefghijklmnopqrstuvwxyz",
    "characters",
    "production",
    "development",
    "replaceme",
    "changeme",
    "insecure",
    "password",
    "facteur",
    "example",
    "default",
    "replace",
    "secret",
    "change",
    "atleast",
    "letmein",
    "string",
    "django",
    "qwerty",
    "please",
    "token",
    "admin",
    "super",
    "local",
    "bytes",
    "long",
    "your",
    "test",
    "this",
    "with",
    "bits",
    "256",
    "jwt",
    "key",
];

/// An HS256 key of at least 32 bytes that is not well known.
#[derive(Debug, Clone)]
pub struct JwtKey(SecretString);

/// Why a key is refused. The key itself is not in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// Fewer than 32 bytes.
    #[error("the key is shorter than 32 bytes; make one with `openssl rand -base64 48`")]
    Short,
    /// Example words, or one piece repeated.
    #[error("the key is well known or repeats itself; make one with `openssl rand -base64 48`")]
    WellKnown,
}

impl JwtKey {
    /// Takes a key that is long enough and not the first that one would try.
    pub fn new(key: SecretString) -> Result<Self, WeakKey> {
        let text = key.expose_secret();
        if is_well_known(text) {
            return Err(WeakKey::WellKnown);
        }
        if text.len() < SHORTEST {
            return Err(WeakKey::Short);
        }
        Ok(Self(key))
    }

    /// Reads `JWT_SECRET`, or the file that `JWT_SECRET_FILE` names.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let key = read(&mut reader);
        reader.finish(key)
    }

    /// The key, to sign with.
    pub fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<JwtKey> {
    let Some(Found { name, value }) = reader.secret("JWT_SECRET") else {
        if !reader.is_faulty(&["JWT_SECRET", "JWT_SECRET_FILE"]) {
            let text = "required: the key of bearer tokens, at least 32 bytes; make one with \
                        `openssl rand -base64 48`";
            reader.fault(&["JWT_SECRET"], text);
        }
        return None;
    };
    JwtKey::new(value).map_err(|weak| reader.fault(&[&name], weak.to_string())).ok()
}

fn is_well_known(key: &str) -> bool {
    let key = key.to_lowercase();
    repeats_itself(key.as_bytes()) || is_made_of_well_known_words(&key)
}

fn repeats_itself(key: &[u8]) -> bool {
    (1..=LONGEST_REPEATED.min(key.len() / 2)).any(|period| key[period..] == key[..key.len() - period])
}

fn is_made_of_well_known_words(key: &str) -> bool {
    let separator = |c: char| c.is_whitespace() || "-_.,:/+=".contains(c);
    let key = key.replace(separator, "");
    let remainder = WELL_KNOWN.iter().fold(key.clone(), |rest, word| rest.replace(word, ""));
    remainder.len() < LEAST_REMAINDER && remainder.len() < key.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "kW3vXo0n1yqfT8sB5hUe2RmZ7dLcA9pJ4gQiYxN6wFt";

    fn verdict(key: &str) -> Option<WeakKey> {
        JwtKey::new(key.into()).err()
    }

    #[test]
    fn takes_a_random_key() {
        assert_eq!(verdict(GOOD), None);
        assert_eq!(verdict("3f9c1e7ab05d48c2961fe07d3ba84c5e"), None);
        assert_eq!(JwtKey::new(GOOD.into()).expect("a strong key").bytes(), GOOD.as_bytes());
    }

    #[test]
    fn refuses_fewer_than_32_bytes() {
        assert_eq!(verdict(&GOOD[..31]), Some(WeakKey::Short));
        assert_eq!(verdict(&GOOD[..32]), None);
        assert_eq!(verdict(""), Some(WeakKey::Short));
    }

    #[test]
    fn refuses_what_everybody_tries_first() {
        let well_known = [
            "changeme",
            "ChangeMe",
            "secret",
            "password",
            "changemechangemechangemechangeme",
            "changeme-changeme-changeme-changeme",
            "secretsecretsecretsecretsecretsec",
            "password1password1password1password1",
            "changeme-secret-password-changeme-1",
            "your-256-bit-secret-your-256-bit-secret",
            "a-string-secret-at-least-256-bits-long",
            "your-super-secret-jwt-token-with-at-least-32-characters-long",
            "django-insecure-change-me-in-production",
            "0123456789abcdef0123456789abcdef",
            "12345678901234567890123456789012",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "facteur-development-secret-key-please-replace",
        ];
        for key in well_known {
            assert_eq!(verdict(key), Some(WeakKey::WellKnown), "{key}");
        }
        for c in ["a", "0", "-", "é", "\0"] {
            assert_eq!(verdict(&c.repeat(64)), Some(WeakKey::WellKnown), "{c}");
        }
    }

    #[test]
    fn refuses_every_value_of_the_example_file() {
        for line in include_str!("../../.env.example").lines() {
            if let Some((name, value)) = line.split_once('=')
                && name.contains("JWT_SECRET")
                && !name.contains("_FILE")
                && !value.is_empty()
            {
                assert!(verdict(value).is_some(), "{line}");
            }
        }
    }

    #[test]
    fn debug_prints_no_key() {
        let key = JwtKey::new(GOOD.into()).expect("a strong key");
        assert!(!format!("{key:?}").contains(&GOOD[..8]));
    }
}
