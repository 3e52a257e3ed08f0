use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::manners::{Provider, Trouble};
use super::record::TakenMail;
use super::reply::{Cue, Kind, Reply};
use super::wire::{Received, Said};
use crate::settings::Api;
use crate::testing::Identity;

/// Bytes that a request may be ahead of its reader.
const RECEIVE_BUFFER: u32 = 65_536;

/// A provider's API on a free port of this machine, with the real answers of its documentation and whatever should go
/// wrong; it stops when it is dropped.
///
/// ```
/// use facteur::testing::{FakeProvider, Provider, Reply, Trouble};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mailgun = FakeProvider::start(Provider::Mailgun).await?;
/// mailgun.cue(Reply::trouble(Trouble::Throttled)).times(1);
/// mailgun.cue(Reply::trouble(Trouble::Recipient)).for_recipient("nobody@example.com");
/// mailgun.cue(Reply::reset().accepting()).for_recipient("doubt@example.com");
///
/// let settings = mailgun.settings(); // what a transport is given
/// assert!(matches!(settings, facteur::settings::Api::Mailgun(_)));
/// assert_eq!(mailgun.taken().len(), 0);
/// # Ok(())
/// # }
/// ```
pub struct FakeProvider {
    provider: Provider,
    base_url: String,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

struct State {
    provider: Provider,
    journal: Mutex<Journal>,
}

#[derive(Default)]
struct Journal {
    cues: Vec<Cue>,
    taken: Vec<TakenMail>,
    requests: usize,
    logins: usize,
}

impl FakeProvider {
    /// Listens on 127.0.0.1, in clear.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(provider: Provider) -> io::Result<Self> {
        Self::listen(provider, None).await
    }

    /// The same, over TLS, as 127.0.0.1.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start_tls(provider: Provider, identity: &Identity) -> io::Result<Self> {
        Self::listen(provider, Some(TlsAcceptor::from(Arc::clone(&identity.config)))).await
    }

    async fn listen(provider: Provider, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // The usual megabytes would take in most requests whole, without a reader.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(1024)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base_url = format!("{scheme}://{}", listener.local_addr()?);
        let state = Arc::new(State { provider, journal: Mutex::default() });
        let listening = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Ok(Self { provider, base_url, state, listening })
    }

    /// The settings that lead here, with the key that this provider knows.
    pub fn settings(&self) -> Api {
        (self.provider.manners().settings)(self.base_url.clone())
    }

    /// One more reply instead of success, each time, unless what follows narrows it. The first that fits is given.
    pub fn cue(&self, reply: Reply) -> Cue {
        let cue = Cue::new(reply);
        self.state.journal(|journal| journal.cues.push(cue.clone()));
        cue
    }

    /// The mails that it has taken, in order; each is here before its client hears so.
    pub fn taken(&self) -> Vec<TakenMail> {
        self.state.journal(|journal| journal.taken.clone())
    }

    /// How many requests to send came, complete or not.
    pub fn requests(&self) -> usize {
        self.state.journal(|journal| journal.requests)
    }

    /// How many times a key was tried without sending, with success.
    pub fn logins(&self) -> usize {
        self.state.journal(|journal| journal.logins)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    // Dropped with the listener's task: no connection outlives its server.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            // What breaks off is for the client to notice.
            let _ = serve(stream, tls, &state).await;
        });
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let ended = match tls {
        None => {
            let mut stream = stream;
            let ended = state.talk(&mut stream).await?;
            (ended, stream)
        }
        Some(tls) => {
            let mut stream = tls.accept(stream).await?;
            let ended = state.talk(&mut stream).await?;
            (ended, stream.into_inner().0)
        }
    };
    if let (End::Reset, stream) = ended {
        // Closed with a reset, whatever has been read.
        stream.set_zero_linger()?;
    }
    Ok(())
}

enum End {
    Closed,
    Reset,
}

impl State {
    fn journal<T>(&self, act: impl FnOnce(&mut Journal) -> T) -> T {
        act(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests and answers until one of both has enough.
    async fn talk(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<End> {
        let mut rest = Vec::new();
        let manners = self.provider.manners();
        while let Some(mut request) = Received::read(stream, &mut rest).await? {
            let sends = request.method == "POST" && request.path == manners.send;
            if sends {
                self.journal(|journal| journal.requests += 1);
            }
            let early = sends.then(|| self.cued(None)).flatten();
            if let Some(reply) = early {
                while rest.is_empty() && stream.read_buf(&mut rest).await? > 0 {}
                match perform(reply.kind, None, self.provider, stream).await? {
                    // The rest of the request is not read: nobody could go on from here.
                    None => return Ok(End::Closed),
                    Some(end) => return Ok(end),
                }
            }
            request.read_body(stream, &mut rest).await?;
            let end = if sends {
                self.answer(&request, stream).await?
            } else {
                self.other(&request).write(stream).await?;
                None
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
        Ok(End::Closed)
    }

    /// To a request to send. The end, when it is one.
    async fn answer(
        &self,
        request: &Received,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<Option<End>> {
        let manners = self.provider.manners();
        let refusal = |trouble| (manners.refuses)(trouble);
        if !(manners.knows)(request) {
            refusal(Trouble::Credentials).write(stream).await?;
            return Ok(None);
        }
        let Some(mail) = (manners.read)(request) else {
            refusal(Trouble::Malformed).write(stream).await?;
            return Ok(None);
        };
        let reply = self.cued(Some(&mail.recipient));
        let mut success = None;
        if reply.as_ref().is_none_or(|reply| reply.accepting) {
            let number = self.journal(|journal| {
                journal.taken.push(mail.clone());
                journal.taken.len()
            });
            success = Some((manners.took)(&format!("taken-{number}"), &mail));
        }
        match (reply, success) {
            (Some(reply), success) => perform(reply.kind, success, self.provider, stream).await,
            (None, Some(success)) => success.write(stream).await.map(|()| None),
            (None, None) => Ok(None),
        }
    }

    fn other(&self, request: &Received) -> Said {
        let manners = self.provider.manners();
        if request.method != "GET" || request.path != manners.login {
            return (manners.refuses)(Trouble::Address);
        }
        if !(manners.knows)(request) {
            return (manners.refuses)(Trouble::Credentials);
        }
        self.journal(|journal| journal.logins += 1);
        Said::new(200, "{}".into())
    }

    fn cued(&self, recipient: Option<&str>) -> Option<Reply> {
        self.journal(|journal| journal.cues.iter().find_map(|cue| cue.take(recipient)))
    }
}

/// Gives a reply. The end of the connection, when it is one.
async fn perform(
    kind: Kind,
    success: Option<Said>,
    provider: Provider,
    stream: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Option<End>> {
    match kind {
        Kind::Said(said) => said.write(stream).await?,
        Kind::Trouble(trouble) => (provider.manners().refuses)(trouble).write(stream).await?,
        Kind::Stall => std::future::pending().await,
        Kind::Close => return Ok(Some(End::Closed)),
        Kind::Reset => return Ok(Some(End::Reset)),
        Kind::Half => {
            if let Some(success) = success {
                success.write_half(stream).await?;
            }
            stream.shutdown().await?;
            return Ok(Some(End::Closed));
        }
    }
    Ok(None)
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl fmt::Debug for FakeProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeProvider").field("provider", &self.provider).finish_non_exhaustive()
    }
}
