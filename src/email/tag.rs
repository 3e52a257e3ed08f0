use serde::{Deserialize, Serialize};

/// Characters of a name, and of a value.
const MAX: usize = 256;

/// A label of the caller's own: kept with the e-mail and shown again, never sent along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// 1 to 256 ASCII letters, digits, `_` and `-`.
    pub name: String,
    /// The same, or empty.
    pub value: String,
}

/// Why a tag is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Its name.
    #[error("must have a name of 1 to 256 ASCII letters, digits, _ and -")]
    Name,
    /// Its value.
    #[error("must have a value of at most 256 ASCII letters, digits, _ and -")]
    Value,
}

impl Tag {
    /// Checks the name and the value.
    pub(super) fn check(&self) -> Result<(), TagError> {
        let plain = |text: &str| {
            text.len() <= MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if self.name.is_empty() || !plain(&self.name) {
            return Err(TagError::Name);
        }
        if plain(&self.value) { Ok(()) } else { Err(TagError::Value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), TagError> {
        Tag { name: name.into(), value: value.into() }.check()
    }

    #[test]
    fn letters_digits_underscores_and_hyphens() {
        assert_eq!(check("category", "confirm_email-2"), Ok(()));
        assert_eq!(check("category", ""), Ok(()));
        assert_eq!(check(&"n".repeat(256), &"v".repeat(256)), Ok(()));
        for bad in ["", "a b", "é", "a\n", &"n".repeat(257)] {
            assert_eq!(check(bad, "v"), Err(TagError::Name), "{bad:?}");
        }
        for bad in ["a b", "é", "a\n", &"v".repeat(257)] {
            assert_eq!(check("n", bad), Err(TagError::Value), "{bad:?}");
        }
    }
}
