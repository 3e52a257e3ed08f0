use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::journal::Journal;
use super::record::AcceptedMail;
use super::script::{Script, Tls};
use super::session::Session;
use super::transcript::Conversation;
use crate::settings::{Credentials, Relay, SecretString, Tls as RelayTls};

/// How long a test waits for what is sure to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An SMTP server on a free port of this machine that performs a [`Script`], and stops when it is dropped.
pub struct SmtpServer {
    addr: SocketAddr,
    script: Arc<Script>,
    journal: Arc<Journal>,
    listening: JoinHandle<()>,
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections ever, those that were turned away among them.
    pub opened: usize,
    /// Connections now.
    pub open: usize,
    /// Connections at the same time, at most.
    pub most_open: usize,
    /// Connections now between a good reply to DATA and the reply to the content.
    pub in_data: usize,
    /// Those at the same time, at most.
    pub most_in_data: usize,
    /// Connections that were one too many.
    pub turned_away: usize,
    /// MAIL commands.
    pub mails: usize,
    /// Times that a fault of the script has shown.
    pub faults: usize,
}

impl SmtpServer {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(script: Script) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = script.receive_buffer {
            // Before it listens: connections have it from their first byte.
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(1024)?;
        let addr = listener.local_addr()?;
        let (script, journal) = (Arc::new(script), Arc::new(Journal::default()));
        let listening = tokio::spawn(listen(listener, Arc::clone(&script), Arc::clone(&journal)));
        Ok(Self { addr, script, journal, listening })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The settings that lead here, with the script's TLS and login; tokens are the
    /// [endpoint's](super::TokenEndpoint::oauth).
    ///
    /// The host is 127.0.0.1, so this is also the name to [issue](super::TestAuthority::issue) a certificate for.
    pub fn relay(&self) -> Relay {
        let tls = match &self.script.tls {
            None => RelayTls::None,
            Some(Tls::StartTls(_)) => RelayTls::StartTls,
            Some(Tls::Implicit(_)) => RelayTls::Implicit,
        };
        let credentials =
            self.script.login.as_ref().filter(|login| login.tokens.is_none()).map(|login| Credentials {
                username: SecretString::from(login.username.clone()),
                password: SecretString::from(login.password.clone()),
            });
        let here = Relay::new(self.addr.ip().to_string(), self.addr.port());
        Relay { tls, credentials, max_connections: 4, ..here }
    }

    /// The mails that it has taken, in order; each is here before its client hears so.
    pub fn accepted(&self) -> Vec<AcceptedMail> {
        self.journal.accepted()
    }

    /// Every byte of every connection, in the order in which they were opened.
    pub fn conversations(&self) -> Vec<Conversation> {
        self.journal.conversations()
    }

    /// How many connections and mails there were.
    pub fn counters(&self) -> Counters {
        self.journal.counters()
    }

    /// Waits until so many mails have been taken, and gives them.
    ///
    /// # Panics
    /// They do not come within 20 seconds.
    pub async fn wait_for(&self, mails: usize) -> Vec<AcceptedMail> {
        self.wait_until(|server| server.journal.accepted_count() >= mails).await;
        self.accepted()
    }

    /// Waits until something holds that only a connection can bring about.
    ///
    /// # Panics
    /// It does not hold within 20 seconds.
    pub async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.journal.changes();
        let holding = async {
            while !holds(self) {
                changes.changed().await.expect("the server holds the sender");
            }
        };
        if timeout(PATIENCE, holding).await.is_err() {
            let (counters, taken) = (self.counters(), self.journal.accepted_count());
            panic!("waited in vain: {taken} mails taken, {counters:?}");
        }
    }
}

async fn listen(listener: TcpListener, script: Arc<Script>, journal: Arc<Journal>) {
    // Dropped with the listener's task: no session outlives its server.
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while sessions.try_join_next().is_some() {}
        // Replies of a byte each must not wait for one another.
        let _ = stream.set_nodelay(true);
        let open = journal.open(script.most_connections);
        sessions.spawn(Session::run(stream, Arc::clone(&script), Arc::clone(&journal), open));
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}
