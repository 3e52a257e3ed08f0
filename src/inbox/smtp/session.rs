//! One SMTP conversation (RFC 5321), over any stream.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::archive::Envelope;
use super::command::{Command, Mechanism, understand};
use super::wire::{Data, LineError, read_line};

pub(super) const TOO_LARGE: &str = "552 5.3.4 the mail is too large";
const STOPPING: &str = "421 4.3.2 the inbox is stopping";

/// Where a mail goes. Its 250 is said after `keep` returned.
pub(super) trait Mailbox {
    fn keep(&self, envelope: Envelope, raw: Vec<u8>) -> impl Future<Output = io::Result<Uuid>> + Send;
}

/// What a client may not exceed.
pub(super) struct Limits {
    pub(super) mail: usize,
    pub(super) recipients: usize,
    /// Octets of a command line; an `AUTH` answer may be this long (RFC 4954).
    pub(super) line: usize,
    pub(super) idle: Duration,
    /// Refused lines in a row.
    pub(super) mistakes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mail: 25 * 1024 * 1024,
            recipients: 1000,
            line: 12_288,
            idle: Duration::from_secs(300),
            mistakes: 20,
        }
    }
}

/// A conversation and how far it is.
pub(super) struct Session<S, M> {
    stream: BufStream<S>,
    mailbox: M,
    limits: Limits,
    stop: CancellationToken,
    greeted: bool,
    authenticated: bool,
    /// The mail being announced: its sender, then its recipients.
    envelope: Option<Envelope>,
    mistakes: usize,
}

/// Whether the conversation goes on.
enum Next {
    Listen,
    Close,
}

/// What was waited for, unless the conversation has to end with these last words.
enum Heard<T> {
    Value(T),
    LastWords(&'static str),
}

impl<S: AsyncRead + AsyncWrite + Unpin, M: Mailbox> Session<S, M> {
    pub(super) fn new(stream: S, mailbox: M, limits: Limits, stop: CancellationToken) -> Self {
        Self {
            stream: BufStream::new(stream),
            mailbox,
            limits,
            stop,
            greeted: false,
            authenticated: false,
            envelope: None,
            mistakes: 0,
        }
    }

    /// Talks until the client leaves, is idle for too long, or the inbox stops.
    pub(super) async fn run(mut self, busy: bool) -> io::Result<()> {
        if busy {
            return self.reply("421 4.3.2 too many connections").await;
        }
        self.reply("220 localhost Facteur inbox").await?;
        while let Next::Listen = self.step().await? {}
        self.stream.shutdown().await
    }

    async fn step(&mut self) -> io::Result<Next> {
        let line = match self.hear_line().await? {
            Heard::Value(line) => line,
            Heard::LastWords(words) => return self.close(words).await,
        };
        let understood = line.and_then(|line| understand(&line, self.limits.mail));
        match understood {
            Ok(command) => self.obey(command).await,
            Err(refusal) => self.refuse(refusal).await,
        }
    }

    async fn obey(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::Hello { extended } => self.hello(extended).await,
            Command::Auth { mechanism, initial } => self.authenticate(mechanism, initial).await,
            Command::Mail { from } => self.mail(from).await,
            Command::Recipient { to } => self.recipient(to).await,
            Command::Data => self.data().await,
            Command::Reset => {
                self.envelope = None;
                self.accept("250 2.0.0 forgotten").await
            }
            Command::Noop => self.accept("250 2.0.0 fine").await,
            Command::Verify => self.accept("252 2.5.0 send it and see").await,
            Command::Quit => self.close("221 2.0.0 goodbye").await,
            Command::Http => self.close("554 5.5.0 this is SMTP, not HTTP").await,
        }
    }

    async fn hello(&mut self, extended: bool) -> io::Result<Next> {
        self.greeted = true;
        self.envelope = None;
        if !extended {
            return self.accept("250 localhost").await;
        }
        let size = self.limits.mail;
        self.accept(&format!("250-localhost\r\n250-PIPELINING\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN LOGIN")).await
    }

    /// Takes any credentials and keeps none: what is tried out is the client's side.
    async fn authenticate(&mut self, mechanism: Mechanism, initial: bool) -> io::Result<Next> {
        if !self.greeted || self.authenticated || self.envelope.is_some() {
            return self.refuse("503 5.5.1 not now").await;
        }
        let prompts: &[&str] = match (mechanism, initial) {
            (Mechanism::Plain, true) => &[],
            (Mechanism::Plain, false) => &["334 "],
            (Mechanism::Login, true) => &["334 UGFzc3dvcmQ6"],
            (Mechanism::Login, false) => &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
        };
        for prompt in prompts {
            self.reply(prompt).await?;
            match self.hear_line().await? {
                Heard::Value(Ok(answer)) if answer == b"*" => {
                    return self.refuse("501 5.7.0 given up").await;
                }
                Heard::Value(Ok(_)) => {}
                Heard::Value(Err(refusal)) => return self.refuse(refusal).await,
                Heard::LastWords(words) => return self.close(words).await,
            }
        }
        self.authenticated = true;
        self.accept("235 2.7.0 any credentials do here").await
    }

    async fn mail(&mut self, from: String) -> io::Result<Next> {
        if !self.greeted {
            return self.refuse("503 5.5.1 EHLO first").await;
        }
        if self.envelope.is_some() {
            return self.refuse("503 5.5.1 one mail at a time").await;
        }
        self.envelope = Some(Envelope { from, to: Vec::new() });
        self.accept("250 2.1.0 sender taken").await
    }

    async fn recipient(&mut self, to: String) -> io::Result<Next> {
        match &mut self.envelope {
            None => self.refuse("503 5.5.1 MAIL first").await,
            Some(envelope) if envelope.to.len() >= self.limits.recipients => {
                self.refuse("452 4.5.3 too many recipients").await
            }
            Some(envelope) => {
                envelope.to.push(to);
                self.accept("250 2.1.5 recipient taken").await
            }
        }
    }

    async fn data(&mut self) -> io::Result<Next> {
        let Some(envelope) = self.envelope.take_if(|envelope| !envelope.to.is_empty()) else {
            return self.refuse("503 5.5.1 MAIL and RCPT first").await;
        };
        self.reply("354 end with CRLF.CRLF").await?;
        let raw = match self.hear_data().await? {
            Heard::Value(Some(raw)) => raw,
            Heard::Value(None) => return self.refuse(TOO_LARGE).await,
            Heard::LastWords(words) => return self.close(words).await,
        };
        match self.mailbox.keep(envelope, raw).await {
            Ok(id) => self.accept(&format!("250 2.0.0 kept as {id}")).await,
            Err(error) => {
                tracing::error!(%error, "a mail could not be kept");
                self.accept("451 4.3.0 the mail could not be kept").await
            }
        }
    }

    async fn hear_line(&mut self) -> io::Result<Heard<Result<Vec<u8>, &'static str>>> {
        let reading = tokio::time::timeout(self.limits.idle, read_line(&mut self.stream, self.limits.line));
        let Some(read) = self.stop.run_until_cancelled(reading).await else {
            return Ok(Heard::LastWords(STOPPING));
        };
        match read {
            Err(_) => Ok(Heard::LastWords("421 4.4.2 idle for too long")),
            Ok(Ok(line)) => Ok(Heard::Value(Ok(line))),
            Ok(Err(LineError::NotCrlf)) => Ok(Heard::Value(Err("500 5.5.2 lines end in CRLF"))),
            Ok(Err(LineError::TooLong)) => Ok(Heard::Value(Err("500 5.5.6 the line is too long"))),
            Ok(Err(LineError::Closed)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(LineError::Broken(error))) => Err(error),
        }
    }

    async fn hear_data(&mut self) -> io::Result<Heard<Option<Vec<u8>>>> {
        let mut data = Data::new(self.limits.mail);
        loop {
            let reading = tokio::time::timeout(self.limits.idle, data.read_some(&mut self.stream));
            match self.stop.run_until_cancelled(reading).await {
                None => return Ok(Heard::LastWords(STOPPING)),
                Some(Err(_)) => return Ok(Heard::LastWords("421 4.4.2 idle for too long")),
                Some(Ok(Err(error))) => return Err(error),
                Some(Ok(Ok(true))) => return Ok(Heard::Value(data.content())),
                Some(Ok(Ok(false))) => {}
            }
        }
    }

    async fn accept(&mut self, reply: &str) -> io::Result<Next> {
        self.mistakes = 0;
        self.reply(reply).await?;
        Ok(Next::Listen)
    }

    async fn refuse(&mut self, reply: &str) -> io::Result<Next> {
        self.mistakes += 1;
        if self.mistakes > self.limits.mistakes {
            return self.close("421 4.7.0 too many mistakes").await;
        }
        self.reply(reply).await?;
        Ok(Next::Listen)
    }

    async fn close(&mut self, last_words: &str) -> io::Result<Next> {
        self.reply(last_words).await?;
        Ok(Next::Close)
    }

    /// A client that does not read its replies counts as idle.
    async fn reply(&mut self, reply: &str) -> io::Result<()> {
        let saying = async {
            self.stream.write_all(reply.as_bytes()).await?;
            self.stream.write_all(b"\r\n").await?;
            self.stream.flush().await
        };
        tokio::time::timeout(self.limits.idle, saying).await?
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    /// A folder that is full.
    struct Full;

    impl Mailbox for Full {
        async fn keep(&self, _: Envelope, _: Vec<u8>) -> io::Result<Uuid> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    /// Says all of it at once, and gives the codes of the replies until the server leaves.
    async fn codes(said: &str, limits: Limits) -> Vec<String> {
        let (mut client, server): (DuplexStream, DuplexStream) = duplex(4096);
        let session = tokio::spawn(Session::new(server, Full, limits, CancellationToken::new()).run(false));
        client.write_all(said.as_bytes()).await.expect("the session reads");
        let mut replies = String::new();
        client.read_to_string(&mut replies).await.expect("replies are ASCII");
        session.await.expect("a session does not panic").expect("the session ends in order");
        replies.lines().filter(|line| line.get(3..4) == Some(" ")).map(|line| line[..3].to_owned()).collect()
    }

    #[tokio::test]
    async fn a_mail_that_cannot_be_kept_is_not_taken() {
        let said = "EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n";
        assert_eq!(codes(said, Limits::default()).await, ["220", "250", "250", "250", "354", "451", "221"]);
    }

    #[tokio::test]
    async fn a_silent_client_is_sent_away() {
        let soon = || Limits { idle: Duration::from_millis(20), ..Limits::default() };
        assert_eq!(codes("EHLO me\r\nNOO", soon()).await, ["220", "250", "421"]);
        let within = "EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nDATA\r\nhalf a mail";
        assert_eq!(codes(within, soon()).await, ["220", "250", "250", "250", "354", "421"]);
    }

    #[tokio::test]
    async fn recipients_have_an_end() {
        let said = "EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nQUIT\r\n";
        let one = Limits { recipients: 1, ..Limits::default() };
        assert_eq!(codes(said, one).await, ["220", "250", "250", "250", "452", "221"]);
    }
}
