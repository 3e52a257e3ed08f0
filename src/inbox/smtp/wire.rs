//! Lines and data on an SMTP connection.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What came instead of a line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The line ends in a bare LF.
    NotCrlf,
    TooLong,
    Closed,
    Broken(io::Error),
}

/// Reads one line and gives it without its CRLF. A line that is too long is read to its end.
pub(super) async fn read_line(
    from: &mut (impl AsyncBufRead + Unpin),
    longest: usize,
) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = from.fill_buf().await.map_err(LineError::Broken)?;
        if available.is_empty() {
            return Err(LineError::Closed);
        }
        let end = available.iter().position(|byte| *byte == b'\n').map(|place| place + 1);
        let taken = end.unwrap_or(available.len());
        too_long |= line.len() + taken > longest;
        if !too_long {
            line.extend_from_slice(&available[..taken]);
        }
        from.consume(taken);
        if end.is_some() {
            break;
        }
    }
    match line.strip_suffix(b"\r\n") {
        _ if too_long => Err(LineError::TooLong),
        Some(line) => Ok(line.to_vec()),
        None => Err(LineError::NotCrlf),
    }
}

/// What stands between `354` and the final dot, the dots of the transport taken away.
///
/// Only CRLF.CRLF ends it. A dot between bare line feeds or carriage returns is content:
/// whoever takes it for the end can be made to read one mail as two (SMTP smuggling).
pub(super) struct Data {
    content: Vec<u8>,
    largest: usize,
    place: Place,
    too_large: bool,
}

/// Where in a line the reader stands.
#[derive(Clone, Copy)]
enum Place {
    LineStart,
    /// Behind a dot at the start of a line.
    Dot,
    /// Behind a dot and a CR at the start of a line.
    DotCr,
    Within,
    /// Behind a CR.
    Cr,
    End,
}

impl Data {
    pub(super) fn new(largest: usize) -> Self {
        Self { content: Vec::new(), largest, place: Place::LineStart, too_large: false }
    }

    /// Takes what is available and says whether the final dot was among it; what follows the dot stays.
    pub(super) async fn read_some(&mut self, from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<bool> {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = available.iter().position(|byte| self.take(*byte)).map(|place| place + 1);
        let taken = end.unwrap_or(available.len());
        from.consume(taken);
        Ok(end.is_some())
    }

    /// The mail; none when it was too large.
    pub(super) fn content(self) -> Option<Vec<u8>> {
        (!self.too_large).then_some(self.content)
    }

    fn take(&mut self, byte: u8) -> bool {
        self.place = match (self.place, byte) {
            (Place::LineStart, b'.') => Place::Dot,
            (Place::Dot, b'\r') => Place::DotCr,
            (Place::DotCr, b'\n') => Place::End,
            (Place::DotCr, _) => {
                self.push(b'\r');
                self.keep(byte)
            }
            (Place::Cr, b'\n') => {
                self.push(byte);
                Place::LineStart
            }
            _ => self.keep(byte),
        };
        matches!(self.place, Place::End)
    }

    fn keep(&mut self, byte: u8) -> Place {
        self.push(byte);
        if byte == b'\r' { Place::Cr } else { Place::Within }
    }

    fn push(&mut self, byte: u8) {
        if self.content.len() < self.largest {
            self.content.push(byte);
        } else if !self.too_large {
            self.too_large = true;
            self.content = Vec::new();
            self.largest = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads with every possible size of buffer: the end is found wherever the writes are cut.
    async fn data(sent: &[u8], largest: usize) -> Option<Vec<u8>> {
        let mut seen = Vec::new();
        for capacity in 1..=sent.len() {
            let mut from = tokio::io::BufReader::with_capacity(capacity, sent);
            let mut data = Data::new(largest);
            while !data.read_some(&mut from).await.expect("these bytes can be read") {}
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut from, &mut rest)
                .await
                .expect("these bytes can be read");
            seen.push((data.content(), rest));
        }
        let (content, rest) = seen.pop().expect("these bytes can be read");
        assert!(seen.iter().all(|other| *other == (content.clone(), rest.clone())));
        assert_eq!(rest, b"QUIT\r\n");
        content
    }

    #[tokio::test]
    async fn only_crlf_dot_crlf_ends_a_mail() {
        for content in [
            "a\n.\nb",
            "a\n.\r\nb",
            "a\r.\rb",
            "a\r.\r\nb",
            "a\n.\rb",
            "\n.\n",
            "\r.\r",
            "a\r\n\n.\r\nMAIL FROM:<x@y>\r\nb",
            "a\r\r\nb",
        ] {
            let sent = format!("{content}\r\n.\r\nQUIT\r\n");
            assert_eq!(
                data(sent.as_bytes(), 1000).await,
                Some(format!("{content}\r\n").into_bytes()),
                "{content:?}"
            );
        }
    }

    #[tokio::test]
    async fn dots_at_the_start_of_a_line_are_unstuffed_once() {
        assert_eq!(
            data(b"..\r\n...a\r\na.\r\n.b\r\n.\r\nQUIT\r\n", 1000).await.expect("these bytes can be read"),
            b".\r\n..a\r\na.\r\nb\r\n"
        );
        assert_eq!(data(b".\r\nQUIT\r\n", 1000).await.expect("these bytes can be read"), b"");
        assert_eq!(data(b".\r\r\n.\r\nQUIT\r\n", 1000).await.expect("these bytes can be read"), b"\r\r\n");
    }

    #[tokio::test]
    async fn a_mail_that_is_too_large_is_read_to_its_end() {
        assert_eq!(data(b"12345\r\n.\r\nQUIT\r\n", 6).await, None);
        assert_eq!(data(b"1234\r\n.\r\nQUIT\r\n", 6).await.expect("these bytes can be read"), b"1234\r\n");
    }

    #[tokio::test]
    async fn a_line_ends_in_crlf_and_is_not_too_long() {
        let mut from: &[u8] = b"NOOP\r\nNOOP\n123456789\r\n\r\nNO";
        assert_eq!(read_line(&mut from, 8).await.expect("these bytes can be read"), b"NOOP");
        assert!(matches!(read_line(&mut from, 8).await, Err(LineError::NotCrlf)));
        assert!(matches!(read_line(&mut from, 8).await, Err(LineError::TooLong)));
        assert_eq!(read_line(&mut from, 8).await.expect("these bytes can be read"), b"");
        assert!(matches!(read_line(&mut from, 8).await, Err(LineError::Closed)));
    }
}
