//! The rule for everything that ends up on one line of a header or of a log.

/// Why a text cannot stand on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A control, line-ending or text-direction character; `at` counts characters from 0.
    #[error(
        "has a character that is not allowed (U+{code:04X} at position {at}): no control characters, line ends or direction overrides"
    )]
    Character {
        /// The character's code point.
        code: u32,
        /// Its position, in characters from 0.
        at: usize,
    },
    /// More characters than the field may have.
    #[error("has {length} characters, the most is {limit}")]
    TooLong {
        /// How many there are.
        length: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Refuses what could end a line, hide text or turn its direction; nothing is repaired.
///
/// # Errors
/// The first character that is not allowed, or the length when it is over `limit` characters.
pub(super) fn single_line(text: &str, limit: usize) -> Result<(), FieldError> {
    if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| forbidden(*c)) {
        return Err(FieldError::Character { code: found.into(), at });
    }
    let length = text.chars().count();
    if length > limit { Err(FieldError::TooLong { length, limit }) } else { Ok(()) }
}

/// C0, DEL and C1 controls, the two Unicode line ends, and the bidirectional overrides of UAX #9.
fn forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_passes() {
        for text in ["", "hello", "été — naïve", "日本語", "🎉 party", "שלום"] {
            assert_eq!(single_line(text, 100), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn whatever_ends_a_line_or_turns_it_is_refused() {
        for c in [
            '\r', '\n', '\0', '\t', '\u{7f}', '\u{85}', '\u{9b}', '\u{2028}', '\u{2029}', '\u{202e}',
            '\u{2066}',
        ] {
            let text = format!("a{c}b");
            assert_eq!(
                single_line(&text, 100),
                Err(FieldError::Character { code: c.into(), at: 1 }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn length_counts_characters() {
        assert_eq!(single_line("éé", 2), Ok(()));
        assert_eq!(single_line("ééé", 2), Err(FieldError::TooLong { length: 3, limit: 2 }));
    }
}
