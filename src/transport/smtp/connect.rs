//! From nothing to a connection that is logged in.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::super::Stage;
use super::super::recorder::Recorder;
use super::SmtpTransport;
use super::connection::Connection;
use super::failure::Failure;
use super::wire::{Stream, Wire};
use super::{certificate, tls};
use crate::settings;

/// Bytes of a reply before EHLO: nobody has proved who they are yet.
const MAX_EARLY_REPLY: u64 = 10_000;
/// lettre begins by reading a greeting and takes any for good. The server's has been read by then, or
/// there is none, after STARTTLS (RFC 3207 §4.2): it gets this one.
const GREETING: &[u8] = b"220 greeted\r\n";

impl SmtpTransport {
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let connection = self.open().await?;
        self.log_in(connection).await
    }

    /// Nobody is logged in yet.
    pub(super) async fn open(&self) -> Result<Connection, Failure> {
        let counted = self.pool.count();
        let stream = self.dial().await?;
        if let (Some(recorder), Ok(peer)) = (&self.recorder, stream.peer_addr()) {
            recorder.note(&format!("connected to {peer}"));
        }
        let local = stream.local_addr().map_err(|e| broken(Stage::Connect, &e))?;
        let hello = hello(self.relay.hello_name.as_deref(), local.ip());
        let wire = self.secure(stream, &hello).await?;
        Connection::open(wire, &hello, self.deadlines, counted).await
    }

    async fn dial(&self) -> Result<TcpStream, Failure> {
        let stage = Stage::Connect;
        let address = (self.relay.host.as_str(), self.relay.port);
        let connecting = timeout(self.deadlines.connect, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| Failure::late(stage))?.map_err(|e| broken(stage, &e))?;
        // With Nagle's algorithm each mail waits 40 ms for the peer's delayed acknowledgement.
        stream.set_nodelay(true).map_err(|e| broken(stage, &e))?;
        Ok(stream)
    }

    async fn secure(&self, mut stream: TcpStream, hello: &ClientId) -> Result<Wire, Failure> {
        let peer = stream.peer_addr().map_err(|e| broken(Stage::Connect, &e))?;
        let stream: Box<dyn Stream> = match (self.relay.tls, &self.tls) {
            (settings::Tls::Implicit, Some(tls)) => {
                let mut stream = tls.wrap(stream, &self.deadlines).await?;
                self.note_tls(&stream);
                self.hear_greeting(&mut stream).await?;
                Box::new(stream)
            }
            (settings::Tls::StartTls, Some(tls)) => {
                self.ask_for_tls(&mut stream, hello).await?;
                let stream = tls.wrap(stream, &self.deadlines).await?;
                self.note_tls(&stream);
                Box::new(stream)
            }
            // `SmtpTransport::new` makes the connector for every relay that asks for TLS.
            _ => {
                self.hear_greeting(&mut stream).await?;
                Box::new(stream)
            }
        };
        Ok(Wire::new(stream, peer, GREETING, self.recorder.clone()))
    }

    /// For who watches: what protects the connection.
    fn note_tls(&self, stream: &TlsStream<TcpStream>) {
        let Some(recorder) = &self.recorder else { return };
        let (_, tls) = stream.get_ref();
        let version = tls.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
        let suite = tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        recorder.note(&format!("{version}, {}", suite.unwrap_or_default()));
        let theirs = tls.peer_certificates().and_then(<[_]>::first);
        if let Some((name, end)) = theirs.and_then(|theirs| certificate::facts(theirs)) {
            let name = name.unwrap_or_else(|| "a subject without a name".to_owned());
            recorder.note(&format!("the certificate is good for {}: {name}, until {end}", self.relay.host));
        }
    }

    async fn hear_greeting(&self, stream: &mut impl Stream) -> Result<(), Failure> {
        let mut early = Early { stream: BufReader::new(stream), recorder: self.recorder.as_ref() };
        early.expect(Stage::Banner, self.deadlines.banner, None, 220).await?;
        if early.stream.buffer().is_empty() {
            Ok(())
        } else {
            Err(Failure::Broken { stage: Stage::Banner, text: "the server spoke out of turn".into() })
        }
    }

    /// Greeting, EHLO and STARTTLS in clear. lettre's own upgrade keeps what an attacker put behind
    /// the reply to STARTTLS and takes it for the first reply inside TLS; here anything there ends it.
    async fn ask_for_tls(&self, stream: &mut TcpStream, hello: &ClientId) -> Result<(), Failure> {
        let mut plain = Early { stream: BufReader::new(stream), recorder: self.recorder.as_ref() };
        let deadlines = &self.deadlines;
        plain.expect(Stage::Banner, deadlines.banner, None, 220).await?;
        let offers =
            plain.expect(Stage::Ehlo, deadlines.ehlo, Some(format!("EHLO {hello}\r\n")), 250).await?;
        let stage = Stage::StartTls;
        if !offers
            .lines()
            .any(|line| line.get(4..).is_some_and(|w| w.trim().eq_ignore_ascii_case("STARTTLS")))
        {
            return Err(Failure::Unfit { stage, text: "the server does not offer STARTTLS".into() });
        }
        plain.expect(stage, deadlines.ehlo, Some("STARTTLS\r\n".into()), 220).await?;
        if plain.stream.buffer().is_empty() {
            Ok(())
        } else {
            Err(Failure::Unfit { stage, text: "the server sent bytes behind its reply to STARTTLS".into() })
        }
    }
}

/// The few lines that are spoken before lettre's.
struct Early<'a, S> {
    stream: BufReader<&'a mut S>,
    recorder: Option<&'a Recorder>,
}

impl<S: Stream> Early<'_, S> {
    async fn expect(
        &mut self,
        stage: Stage,
        deadline: Duration,
        command: Option<String>,
        expected: u16,
    ) -> Result<String, Failure> {
        let reply = timeout(deadline, self.exchange(command)).await.map_err(|_| Failure::late(stage))?;
        let reply = reply.map_err(|e| broken(stage, &e))?;
        match code(&reply) {
            Some(code) if code == expected => Ok(reply),
            Some(code @ 400..=599) => Err(Failure::Refused { stage, code, text: text(&reply) }),
            _ => Err(Failure::Broken { stage, text: "the server's reply is not one to this command".into() }),
        }
    }

    async fn exchange(&mut self, command: Option<String>) -> std::io::Result<String> {
        if let Some(command) = command {
            self.recorder.inspect(|recorder| recorder.us(command.trim_end()));
            self.stream.write_all(command.as_bytes()).await?;
        }
        let mut reply = Vec::new();
        loop {
            let start = reply.len();
            let room = MAX_EARLY_REPLY.saturating_sub(start as u64);
            (&mut self.stream).take(room).read_until(b'\n', &mut reply).await?;
            if let Some(recorder) = self.recorder {
                recorder.them(String::from_utf8_lossy(&reply[start..]).trim_end_matches(['\r', '\n']));
            }
            if reply.last() != Some(&b'\n') {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            // `250-` goes on, `250 ` and a bare `250` end (RFC 5321 §4.2.1).
            if reply.get(start + 3) != Some(&b'-') {
                return Ok(String::from_utf8_lossy(&reply).into_owned());
            }
        }
    }
}

/// The code of a reply, the same on each of its lines.
fn code(reply: &str) -> Option<u16> {
    let mut codes = reply.lines().map(|line| {
        let code = line.get(..3).filter(|code| code.bytes().all(|digit| digit.is_ascii_digit()))?;
        matches!(line.as_bytes().get(3), None | Some(b' ' | b'-')).then_some(code)
    });
    let first = codes.next()??;
    codes.all(|code| code == Some(first)).then(|| first.parse().ok())?
}

/// What it says, its lines in one.
fn text(reply: &str) -> String {
    let lines = reply.lines().map(|line| line.get(4..).unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The name in EHLO: the one that was set, or this end's address (RFC 5321 §4.1.3).
fn hello(name: Option<&str>, local: IpAddr) -> ClientId {
    match (name, local) {
        (Some(name), _) => ClientId::Domain(name.to_owned()),
        (None, IpAddr::V4(address)) => ClientId::Ipv4(address),
        (None, IpAddr::V6(address)) => ClientId::Ipv6(address),
    }
}

fn broken(stage: Stage, error: &std::io::Error) -> Failure {
    if tls::is_certificate_fault(error) {
        return Failure::Unfit { stage: Stage::Tls, text: error.to_string() };
    }
    Failure::Broken { stage, text: error.to_string() }
}

/// Where a relay listens, for messages to people.
pub(super) fn place(relay: &settings::Relay) -> String {
    match relay.host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, relay.port).to_string(),
        Err(_) => format!("{}:{}", relay.host, relay.port),
    }
}
