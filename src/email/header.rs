use serde::{Deserialize, Serialize};

use super::field::{FieldError, single_line};

/// Characters of one header's value.
const MAX_VALUE: usize = 4_000;

/// A header of the caller's own, such as `List-Unsubscribe` or `X-Campaign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// An RFC 5322 field name.
    pub name: String,
    /// The value, unfolded, in plain Unicode; it is encoded when the mail is rendered.
    pub value: String,
}

/// Headers that Facteur writes itself, and those that only a server on the way may write.
pub(crate) const RESERVED: [&str; 13] = [
    "from",
    "to",
    "cc",
    "bcc",
    "sender",
    "date",
    "subject",
    "message-id",
    "mime-version",
    "reply-to",
    "dkim-signature",
    "received",
    "return-path",
];

/// Why a header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a field name.
    #[error("must have a name of 1 to 76 ASCII letters, digits and hyphens")]
    Name,
    /// Written by Facteur.
    #[error("may not be set by hand: Facteur writes it")]
    Reserved,
    /// A value that does not fit on one line.
    #[error("has a value that {0}")]
    Value(#[source] FieldError),
}

impl Header {
    /// Checks the name and the value.
    ///
    /// # Errors
    /// A name that is not an RFC 5322 field name of letters, digits and hyphens, one that Facteur
    /// writes itself (`From`, `Content-*`, `Received`, …), or a value with control characters.
    pub(super) fn check(&self) -> Result<(), HeaderError> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=76).contains(&self.name.len()) || !self.name.bytes().all(token) {
            return Err(HeaderError::Name);
        }
        let name = self.name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) || name.starts_with("content-") {
            return Err(HeaderError::Reserved);
        }
        single_line(&self.value, MAX_VALUE).map_err(HeaderError::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), HeaderError> {
        Header { name: name.into(), value: value.into() }.check()
    }

    #[test]
    fn the_callers_own_pass() {
        assert_eq!(check("X-Campaign", "été"), Ok(()));
        assert_eq!(check("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"), Ok(()));
    }

    #[test]
    fn injection_and_reserved_names_are_refused() {
        assert_eq!(check("", "x"), Err(HeaderError::Name));
        assert_eq!(check("X-A: b\r\nY", "x"), Err(HeaderError::Name));
        assert_eq!(check("Bcc", "e@x.test"), Err(HeaderError::Reserved));
        assert_eq!(check("CONTENT-type", "text/html"), Err(HeaderError::Reserved));
        assert!(matches!(check("X-A", "b\r\nBcc: e@x"), Err(HeaderError::Value(_))));
    }
}
