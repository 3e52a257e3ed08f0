/// Bytes that go out with the final dot: a small mail is one write.
const LAST_PIECE: usize = 16_384;
const END: &[u8] = b".\r\n";

/// A message made transparent for DATA (RFC 5321 §4.5.2), its last piece apart from the rest.
pub(super) struct Content {
    bytes: Vec<u8>,
    last: usize,
    /// Bytes that are there for transparency only, the final dot's line among them.
    added: usize,
}

impl Content {
    /// Doubles each dot that begins a line, ends the last line, and adds the final dot.
    pub(super) fn new(message: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(message.len() + message.len() / 64 + 8);
        let mut at_line_start = true;
        let mut added = END.len();
        for byte in message {
            if at_line_start && *byte == b'.' {
                bytes.push(b'.');
                added += 1;
            }
            bytes.push(*byte);
            at_line_start = bytes.ends_with(b"\r\n");
        }
        if !at_line_start {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(END);
        let last = bytes.len().saturating_sub(LAST_PIECE);
        Self { bytes, last, added }
    }

    /// The message's own bytes: what `SIZE=` announces (RFC 1870 §5).
    pub(super) fn message_size(&self) -> u64 {
        (self.bytes.len() - self.added) as u64
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing in here makes it a mail.
    pub(super) fn all_but_last(&self) -> &[u8] {
        &self.bytes[..self.last]
    }

    /// Ends in the final dot.
    pub(super) fn last(&self) -> &[u8] {
        &self.bytes[self.last..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(message: &str) -> String {
        let content = Content::new(message.as_bytes());
        let whole = [content.all_but_last(), content.last()].concat();
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn dots_are_doubled_and_the_end_is_added() {
        assert_eq!(wire("a\r\n"), "a\r\n.\r\n");
        assert_eq!(wire("a"), "a\r\n.\r\n");
        assert_eq!(wire(""), ".\r\n");
        assert_eq!(wire("."), "..\r\n.\r\n");
        assert_eq!(wire("a\r\n.\r\nMAIL FROM:<e@x>\r\n"), "a\r\n..\r\nMAIL FROM:<e@x>\r\n.\r\n");
        assert_eq!(wire("a.b\r\n..c"), "a.b\r\n...c\r\n.\r\n");
    }

    #[test]
    fn the_size_is_that_of_the_message_as_it_is_kept() {
        for (message, size) in [("", 0), ("a\r\n", 3), ("a", 3), (".\r\n.a.\r\n", 8), ("a\r\n.", 6)] {
            assert_eq!(Content::new(message.as_bytes()).message_size(), size, "{message:?}");
        }
    }

    #[test]
    fn the_dot_is_always_in_the_last_piece() {
        for size in [0, 1, LAST_PIECE - 1, LAST_PIECE, LAST_PIECE + 1, 5 * LAST_PIECE] {
            let content = Content::new(&vec![b'x'; size]);
            assert!(content.last().ends_with(b".\r\n"));
            assert_eq!(content.all_but_last().len() + content.last().len(), content.len());
        }
    }
}
