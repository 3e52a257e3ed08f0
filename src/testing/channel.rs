use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::journal::Journal;
use super::transcript::Speaker;

/// One connection's bytes, each of them written down on its way.
pub(super) struct Channel {
    stream: Stream,
    journal: Arc<Journal>,
    connection: usize,
    unread: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Between the two, and after the end.
    Gone,
}

/// The connection has ended, by the script's will or the client's.
pub(super) struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Channel {
    pub(super) fn new(stream: TcpStream, journal: Arc<Journal>, connection: usize) -> Self {
        Self { stream: Stream::Plain(stream), journal, connection, unread: Vec::new() }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// One read; what it brought waits in `unread`.
    pub(super) async fn read(&mut self) -> Result<(), Over> {
        let mut space = vec![0; 65_536];
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut space).await?,
            Stream::Tls(stream) => stream.read(&mut space).await?,
            Stream::Gone => 0,
        };
        if count == 0 {
            return Err(Over);
        }
        let bytes = &space[..count];
        self.journal.heard(self.connection, Speaker::Client, self.is_encrypted(), bytes);
        self.unread.extend_from_slice(bytes);
        Ok(())
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> Result<String, Over> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            self.read().await?;
        }
    }

    /// Waits for the first bytes of what is not a line.
    pub(super) async fn first_bytes(&mut self) -> Result<(), Over> {
        while self.unread.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    /// The content up to CRLF, dot, CRLF and nothing less, with its dots as they were.
    pub(super) async fn content(&mut self) -> Result<Vec<u8>, Over> {
        let mut looked_at = 0;
        let end = loop {
            if self.unread.starts_with(b".\r\n") {
                break 0;
            }
            let found = self.unread[looked_at..].windows(5).position(|five| five == b"\r\n.\r\n");
            if let Some(place) = found {
                break looked_at + place + 2;
            }
            looked_at = self.unread.len().saturating_sub(4);
            self.read().await?;
        };
        let stuffed: Vec<u8> = self.unread.drain(..end).collect();
        self.unread.drain(..3);
        Ok(unstuffed(&stuffed))
    }

    /// One write, one segment where it fits.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.journal.heard(self.connection, Speaker::Server, self.is_encrypted(), bytes);
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await?,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Stream::Gone => return Err(Over),
        }
        Ok(())
    }

    pub(super) async fn drip(&mut self, bytes: &[u8], every: Duration) -> Result<(), Over> {
        for byte in bytes {
            self.write(&[*byte]).await?;
            tokio::time::sleep(every).await;
        }
        Ok(())
    }

    /// The handshake. What was received in clear does not count any more (RFC 3207 §4.2).
    pub(super) async fn secure(&mut self, config: Arc<ServerConfig>) -> Result<(), Over> {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(Over);
        };
        self.unread.clear();
        self.stream = Stream::Tls(Box::new(TlsAcceptor::from(config).accept(stream).await?));
        Ok(())
    }

    /// Silence until the client hangs up.
    pub(super) async fn stall(&mut self) -> Over {
        while self.read().await.is_ok() {}
        Over
    }

    /// Takes in what comes, a byte at a time, until it ends.
    pub(super) async fn sip(&mut self, every: Duration) -> Over {
        loop {
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read_u8().await,
                Stream::Tls(stream) => stream.read_u8().await,
                Stream::Gone => return Over,
            };
            if read.is_err() {
                return Over;
            }
            tokio::time::sleep(every).await;
        }
    }

    /// FIN.
    pub(super) async fn hang_up(&mut self) -> Over {
        // A client that is gone already has what it was to get.
        let _ = match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
            Stream::Gone => Ok(()),
        };
        Over
    }

    /// RST.
    pub(super) fn reset(&mut self) -> Over {
        let _ = match &self.stream {
            Stream::Plain(stream) => stream.set_zero_linger(),
            Stream::Tls(stream) => stream.get_ref().0.set_zero_linger(),
            Stream::Gone => Ok(()),
        };
        self.stream = Stream::Gone;
        Over
    }
}

/// RFC 5321 §4.5.2: a dot that begins a line is there twice.
fn unstuffed(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut line_begins = true;
    for byte in content {
        if !(line_begins && *byte == b'.') {
            bytes.push(*byte);
        }
        // A dot that was taken away does not begin the line a second time.
        line_begins = !(line_begins && *byte == b'.') && bytes.ends_with(b"\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_as_they_were() {
        assert_eq!(unstuffed(b"..\r\n...a\r\nb.\r\n"), b".\r\n..a\r\nb.\r\n");
        assert_eq!(unstuffed(b"a\n..\r\n"), b"a\n..\r\n");
        assert_eq!(unstuffed(b""), b"");
    }
}
