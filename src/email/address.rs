use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::field::{FieldError, single_line};

/// Octets of a whole address (RFC 5321 §4.5.3.1.3, less the angle brackets).
const MAX_ADDRESS: usize = 254;
/// Octets before the `@` (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Characters of a display name.
const MAX_NAME: usize = 200;

/// A mailbox address that is safe to put on an SMTP command line: `local@domain`.
///
/// Stricter than RFC 5321: no quoted local part, no domain literal, no source route, ASCII before
/// the `@`. The domain is kept in lower case, in A-labels (IDNA, UTS #46).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: String,
    at: usize,
}

/// Why a text is not an [`Address`] or a [`Mailbox`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("is empty; an address such as ada@example.com is expected")]
    Empty,
    /// No `@`, or more than one.
    #[error("must have exactly one @, as in ada@example.com")]
    At,
    /// The part before the `@`.
    #[error(
        "has a local part (before the @) that is not accepted: 1 to 64 ASCII letters, digits and .!#$&'*+-/=?^_`{{|}}~ without ! and %, no dot at an end or twice in a row"
    )]
    Local,
    /// The part after the `@`.
    #[error(
        "has a domain (after the @) that is not accepted: a host name with a dot, such as example.com, with labels of at most 63 letters, digits and inner hyphens"
    )]
    Domain,
    /// Over 254 octets.
    #[error("is longer than 254 octets")]
    TooLong,
    /// A display name that cannot be written on one line.
    #[error("has a display name that {0}")]
    Name(#[source] FieldError),
    /// Angle brackets that do not match.
    #[error("must be ada@example.com or Ada Lovelace <ada@example.com>")]
    Brackets,
}

impl Address {
    /// The part before the `@`.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part after the `@`, in lower case and A-labels. This, and not the whole, may be logged.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the domain is `localhost`, the one without a dot that is taken in development.
    pub fn is_localhost(&self) -> bool {
        self.domain() == "localhost"
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let (local, domain) = text.split_once('@').ok_or(AddressError::At)?;
        if domain.contains('@') {
            return Err(AddressError::At);
        }
        check_local(local)?;
        let domain = to_a_labels(domain)?;
        let text = format!("{local}@{domain}");
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        Ok(Self { at: local.len(), text })
    }
}

/// A dot-atom (RFC 5321 §4.1.2) without what has been used to smuggle routes: `%`, `!`, `=?`.
fn check_local(local: &str) -> Result<(), AddressError> {
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"#$&'*+-/=?^_`{|}~".contains(&b);
    let atoms = local.split('.').all(|part| !part.is_empty() && part.bytes().all(atom));
    if atoms && local.len() <= MAX_LOCAL && !local.contains("=?") { Ok(()) } else { Err(AddressError::Local) }
}

/// The domain in lower-case A-labels; host names with a dot, and `localhost`.
fn to_a_labels(domain: &str) -> Result<String, AddressError> {
    // A trailing dot is a different host name to some resolvers and the same to others: refused.
    if domain.is_empty() || domain.ends_with('.') || domain.starts_with('[') {
        return Err(AddressError::Domain);
    }
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| AddressError::Domain)?;
    let labels: Vec<&str> = ascii.split('.').collect();
    let numeric_end = labels.last().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let dotted = labels.len() > 1 || ascii == "localhost";
    if dotted && !numeric_end && labels.iter().all(|label| is_ldh(label)) {
        Ok(ascii)
    } else {
        Err(AddressError::Domain)
    }
}

/// Letters, digits, inner hyphens, 1 to 63 of them (RFC 1123 §2.1).
fn is_ldh(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

/// An address with the name that is shown beside it: `Ada Lovelace <ada@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// The display name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address.
    pub address: Address,
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some(open) = text.find('<') else {
            return Ok(Self { name: None, address: text.parse()? });
        };
        let inner = text[open + 1..].strip_suffix('>').ok_or(AddressError::Brackets)?;
        let name = unquote(text[..open].trim_matches(' '))?;
        single_line(&name, MAX_NAME).map_err(AddressError::Name)?;
        let name = (!name.is_empty()).then_some(name);
        Ok(Self { name, address: inner.parse()? })
    }
}

/// `"Lovelace, Ada"` without its quotes (RFC 5322 §3.2.4); any other text as it is.
fn unquote(name: &str) -> Result<String, AddressError> {
    let Some(inner) = name.strip_prefix('"') else {
        return Ok(name.to_owned());
    };
    let inner = inner.strip_suffix('"').ok_or(AddressError::Brackets)?;
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().ok_or(AddressError::Brackets)?),
            '"' => return Err(AddressError::Brackets),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

impl From<Address> for Mailbox {
    fn from(address: Address) -> Self {
        Self { name: None, address }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address),
            None => self.address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_and_how_it_is_kept() {
        for (given, kept) in [
            ("test@local.test", "test@local.test"),
            ("a+b.c@sub.x.test", "a+b.c@sub.x.test"),
            ("Ada@EXAMPLE.com", "Ada@example.com"),
            ("a@ü.test", "a@xn--tda.test"),
            ("o'neil/sales=x@x.test", "o'neil/sales=x@x.test"),
            ("dev@localhost", "dev@localhost"),
        ] {
            assert_eq!(given.parse::<Address>().map(String::from), Ok(kept.to_owned()), "{given}");
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        let long_local = format!("{}@x.test", "a".repeat(65));
        let long_label = format!("a@{}.test", "b".repeat(64));
        let long = format!("{}@{}.test", "a".repeat(60), vec!["b".repeat(60); 4].join("."));
        for (given, error) in [
            ("", AddressError::Empty),
            ("ada", AddressError::At),
            ("a@@x.test", AddressError::At),
            ("a@x.test,b@x.test", AddressError::At),
            ("@x.test", AddressError::Local),
            (" a@x.test", AddressError::Local),
            ("a b@x.test", AddressError::Local),
            ("\"a b\"@x.test", AddressError::Local),
            (".a@x.test", AddressError::Local),
            ("a..b@x.test", AddressError::Local),
            ("a%b@x.test", AddressError::Local),
            ("a!b@x.test", AddressError::Local),
            ("é@x.test", AddressError::Local),
            ("=?utf-8?q?a=40evil.test=3e?=@x.test", AddressError::Local),
            (&long_local, AddressError::Local),
            ("a@x.test\r\nRCPT TO:<evil@x>", AddressError::At),
            ("a@x.test\r\nDATA", AddressError::Domain),
            ("a@[127.0.0.1]", AddressError::Domain),
            ("a@127.0.0.1", AddressError::Domain),
            ("a@-x.test", AddressError::Domain),
            ("a@x-.test", AddressError::Domain),
            ("a@x..test", AddressError::Domain),
            ("a@x.test.", AddressError::Domain),
            ("a@test", AddressError::Domain),
            ("a@x_y.test", AddressError::Domain),
            ("a@x.test ", AddressError::Domain),
            (&long_label, AddressError::Domain),
        ] {
            assert_eq!(given.parse::<Address>(), Err(error), "{given:?}");
        }
        assert!(matches!(long.parse::<Address>(), Err(AddressError::TooLong | AddressError::Domain)));
    }

    #[test]
    fn lettre_accepts_whatever_is_accepted_here() {
        for given in ["a+b.c@sub.x.test", "a@ü.test", "dev@localhost", "o'neil/s=x@x.test"] {
            let address: Address = given.parse().unwrap();
            assert!(address.as_str().parse::<lettre::Address>().is_ok(), "{given}");
        }
    }

    #[test]
    fn mailboxes_with_and_without_a_name() {
        let name = |text: &str| text.parse::<Mailbox>().map(|m| (m.name, m.address.into()));
        let ada = || "ada@x.test".to_owned();
        assert_eq!(name("ada@x.test"), Ok((None, ada())));
        assert_eq!(name("<ada@x.test>"), Ok((None, ada())));
        assert_eq!(name("Ada L. <ada@x.test>"), Ok((Some("Ada L.".into()), ada())));
        assert_eq!(
            name("\"Lovelace, \\\"Ada\\\"\" <ada@x.test>"),
            Ok((Some("Lovelace, \"Ada\"".into()), ada()))
        );
        assert_eq!(name("Ada <ada@x.test"), Err(AddressError::Brackets));
        assert_eq!(name("Ada <<ada@x.test>>"), Err(AddressError::Local));
        assert!(matches!(name("A\r\nBcc: e@x <ada@x.test>"), Err(AddressError::Name(_))));
    }
}
