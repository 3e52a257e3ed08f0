//! The byte stream below lettre's SMTP client, strict about whose turn it is.
//!
//! lettre owns its stream and cannot be asked what it has read; so it gets one handle of a
//! [`Wire`], and the connection keeps another, through which the content is written, piece by
//! piece, with the last byte apart.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::recorder::{Mode, Recorder, Tap};
use super::tls::is_certificate_fault;

/// Bytes of one reply, all its lines together.
const MAX_REPLY: usize = 100_000;
/// Its lines. lettre reads all of them again at each one, so that many short ones cost minutes.
const MAX_LINES: usize = 200;
/// Bytes of a reply that are kept: enough for all that a server offers.
const KEPT_REPLY: usize = 8_000;
/// Bytes of a reply that are shown.
const SHOWN_REPLY: usize = 1_500;

/// Plain or encrypted: what a [`Wire`] runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// One of the handles of a connection's stream.
#[derive(Clone)]
pub(super) struct Wire {
    state: Arc<Mutex<State>>,
    peer: SocketAddr,
}

struct State {
    stream: Box<dyn Stream>,
    /// Received, and not asked for yet.
    unread: Vec<u8>,
    /// The reply to what was written last, cut.
    reply: Vec<u8>,
    reply_length: usize,
    reply_lines: usize,
    /// Of the line that is being handed out.
    line_length: usize,
    /// Set by the first byte of a reply, cleared by the next write.
    listening: bool,
    /// Until EHLO was taken nothing is said after a refusal: lettre's QUIT would hide what it was.
    opening: bool,
    /// The peer ended TLS over our certificate.
    certificate_refused: bool,
    /// For who watches.
    tap: Option<Tap>,
}

impl Wire {
    /// A wire over an open stream; `unread` is served first, as if the server had sent it.
    pub(super) fn new(
        stream: Box<dyn Stream>,
        peer: SocketAddr,
        unread: &[u8],
        recorder: Option<Recorder>,
    ) -> Self {
        let state = State {
            stream,
            unread: unread.to_vec(),
            reply: Vec::new(),
            reply_length: 0,
            reply_lines: 0,
            line_length: 0,
            listening: true,
            opening: true,
            certificate_refused: false,
            tap: recorder.map(Tap::new),
        };
        Self { state: Arc::new(Mutex::new(state)), peer }
    }

    /// What the server said last, without its code, its lines in one.
    pub(super) fn reply_text(&self) -> String {
        let state = self.lock();
        let shown = state.reply.len().min(SHOWN_REPLY);
        lines(&state.reply[..shown]).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Its lines, without their codes.
    pub(super) fn reply_lines(&self) -> Vec<String> {
        lines(&self.lock().reply).collect()
    }

    /// The code of it.
    pub(super) fn reply_code(&self) -> String {
        String::from_utf8_lossy(self.lock().reply.get(..3).unwrap_or_default()).into_owned()
    }

    /// What is to be shown of what is said from here on.
    pub(super) fn show(&self, mode: Mode) {
        self.lock().tap.iter_mut().for_each(|tap| tap.set(mode));
    }

    /// EHLO was taken.
    pub(super) fn opened(&self) {
        self.lock().opening = false;
    }

    /// Whether the peer ended TLS over our certificate, or over having none.
    pub(super) fn certificate_refused(&self) -> bool {
        self.lock().certificate_refused
    }

    /// Commands that belong together, each of which is owed a reply. The server may answer the first
    /// before it has the last; before the first of them, as ever, it has nothing to say.
    pub(super) async fn write_group(&self, group: &[u8]) -> io::Result<()> {
        poll_fn(|cx| Poll::Ready(self.lock().begin_write(cx))).await?;
        let mut left = group;
        while !left.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut self.lock().stream).poll_write(cx, left)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.lock().tap.iter_mut().for_each(|tap| tap.ours(&left[..written]));
            left = &left[written..];
        }
        poll_fn(|cx| Pin::new(&mut self.lock().stream).poll_flush(cx)).await
    }

    /// What comes now is the reply to the next command of the group. Whatever is still unread when
    /// the last was answered is one too many: nothing can be written after it.
    pub(super) fn next_reply(&self) {
        self.lock().begin_reply();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves nothing half-changed that the deadlines would not end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads ahead once, without waiting; true when the server has spoken or hung up.
    fn peer_spoke(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if !self.unread.is_empty() {
            return Ok(true);
        }
        match self.fill(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            self.certificate_refused |= is_certificate_fault(&error);
            return Poll::Ready(Err(error));
        }
        self.unread.extend_from_slice(buffer.filled());
        self.tap.iter_mut().for_each(|tap| tap.theirs(buffer.filled()));
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Hands out the received bytes up to the end of a line, and keeps the rest: what comes behind
    /// a complete reply must not be taken for the next one.
    fn serve(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        self.mend_bare_code();
        let line = self.unread.iter().position(|b| *b == b'\n').map_or(self.unread.len(), |end| end + 1);
        let served: Vec<u8> = self.unread.drain(..line.min(buffer.remaining())).collect();
        self.listening = true;
        self.reply_length += served.len();
        self.line_length += served.len();
        if served.ends_with(b"\n") {
            self.line_length = 0;
            self.reply_lines += 1;
        }
        if self.reply_length > MAX_REPLY || self.reply_lines > MAX_LINES {
            let text = "the reply is longer than 100 kB or 200 lines";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let room = KEPT_REPLY.saturating_sub(self.reply.len());
        self.reply.extend_from_slice(&served[..served.len().min(room)]);
        buffer.put_slice(&ascii(served));
        Ok(())
    }

    /// A code needs no text (RFC 5321 §4.2), but lettre wants the space before it.
    fn mend_bare_code(&mut self) {
        let Some(behind_code) = 3_usize.checked_sub(self.line_length) else { return };
        if self.unread.get(behind_code) == Some(&b'\r') {
            self.unread.insert(behind_code, b' ');
        }
    }

    /// Our turn: refused while the server has said more than it was asked.
    fn begin_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.peer_spoke(cx)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server spoke out of turn"));
        }
        if self.opening && matches!(self.reply.first(), Some(b'4' | b'5')) {
            return Err(io::Error::other("the server has refused already"));
        }
        self.begin_reply();
        Ok(())
    }

    fn begin_reply(&mut self) {
        if self.listening {
            self.listening = false;
            self.reply.clear();
            self.reply_length = 0;
            self.reply_lines = 0;
        }
    }
}

/// The lines of a reply, without their codes.
fn lines(reply: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(reply).into_owned();
    let lines: Vec<_> =
        text.lines().map(|line| line.get(4..).unwrap_or_default().trim().to_owned()).collect();
    lines.into_iter()
}

/// lettre takes a reply in another encoding than UTF-8 for a broken connection, and nothing of it but
/// ASCII matters to it.
fn ascii(mut line: Vec<u8>) -> Vec<u8> {
    line.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    line
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.unread.is_empty() && ready!(state.fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(state.serve(buffer))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        state.begin_write(cx)?;
        let written = ready!(Pin::new(&mut state.stream).poll_write(cx, bytes))?;
        state.tap.iter_mut().for_each(|tap| tap.ours(&bytes[..written]));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn wire() -> (Wire, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (Wire::new(Box::new(ours), ([127, 0, 0, 1], 25).into(), b"", None), theirs)
    }

    #[tokio::test]
    async fn one_line_at_a_time_and_the_reply_is_kept() {
        let (mut wire, mut server) = wire();
        server.write_all(b"250-one\r\n250 two\r\n").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 9);
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 9);
        assert_eq!(wire.reply_text(), "one two");
    }

    #[tokio::test]
    async fn a_server_that_spoke_out_of_turn_is_not_written_to() {
        let (mut wire, mut server) = wire();
        server.write_all(b"250 ok\r\n250 and again\r\n").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 8);
        let refused = wire.write_all(b"RCPT").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        drop(server);
    }

    #[tokio::test]
    async fn a_server_that_hung_up_is_noticed_before_the_write() {
        let (mut wire, server) = wire();
        drop(server);
        assert_eq!(wire.write_all(b"NOOP").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    /// RFC 2920 §3.1: a server may answer what it has while the rest is still on its way.
    #[tokio::test]
    async fn an_answer_to_the_first_of_a_group_is_not_out_of_turn() {
        let (ours, mut server) = tokio::io::duplex(8);
        let mut wire = Wire::new(Box::new(ours), ([127, 0, 0, 1], 25).into(), b"", None);
        let answering = async {
            let mut heard = [0; 12];
            server.read_exact(&mut heard).await.unwrap();
            server.write_all(b"250 a\r\n").await.unwrap();
            server.read_exact(&mut heard).await.unwrap();
            server.write_all(b"550 b\r\n").await.unwrap();
        };
        let asking = async {
            wire.write_group(b"RSET 12345\r\nNOOP 12345\r\n").await.unwrap();
            let mut buffer = [0; 100];
            for (code, text) in [("250", "a"), ("550", "b")] {
                wire.next_reply();
                while !wire.reply_text().ends_with(text) {
                    assert_ne!(wire.read(&mut buffer).await.unwrap(), 0);
                }
                assert_eq!(wire.reply_code(), code);
            }
        };
        tokio::join!(answering, asking);
    }

    #[tokio::test]
    async fn an_endless_reply_is_cut() {
        let (mut wire, mut server) = wire();
        server.write_all(&vec![b'x'; MAX_REPLY + 1]).await.unwrap();
        let read = wire.read_to_end(&mut Vec::new()).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
