//! The development inbox: an SMTP server that keeps what it is given, a page to read it, and
//! JSON for tests.
//!
//! ```text
//! SMTP 1025 ──▶ smtp/ ──▶ store ──▶ folder/<id>.eml, <id>.json
//!                           │ revision
//! HTTP 1080 ◀── web/ ◀──────┘  list, mail, /api/messages, /api/events
//! ```
//!
//! Nothing leaves it: no mail is sent on, and what a mail's HTML asks for is not fetched.
//! Its log lines hold an inbox id and a size, never an address, a subject or a body.

mod archive;
mod inline_images;
mod reading;
mod smtp;
mod store;
mod web;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use store::Store;

/// How long open connections may finish once the inbox is told to stop.
const GRACE: Duration = Duration::from_millis(700);

/// Where the inbox listens, and where it keeps its mails.
#[derive(Debug, Clone)]
pub struct InboxSettings {
    /// The page and its JSON. Port 0 takes a free one.
    pub http: SocketAddr,
    /// The SMTP server. Port 0 takes a free one.
    pub smtp: SocketAddr,
    /// The mails, as `<id>.eml` and `<id>.json`. Created when missing.
    pub folder: PathBuf,
    /// The base URL of the API, `http://localhost:8000`: an empty inbox tells how to send a first mail there.
    pub api: String,
}

/// One of the two doors of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The page and its JSON.
    Page,
    /// The SMTP server.
    Smtp,
}

impl Door {
    /// The variable that moves this door to another port.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Page => "INBOX_HTTP_PORT",
            Self::Smtp => "INBOX_SMTP_PORT",
        }
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Page => "page",
            Self::Smtp => "SMTP server",
        })
    }
}

/// Why the inbox cannot run.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Something else listens there.
    #[error("the inbox's {door} cannot have {address}: it is taken; free it, or choose another port with {}", door.variable())]
    PortTaken {
        /// Which of the two.
        door: Door,
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on for another reason.
    #[error("the inbox's {door} cannot listen on {address}")]
    Listen {
        /// Which of the two.
        door: Door,
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The folder cannot be created or listed.
    #[error("the inbox's folder {} cannot be used", folder.display())]
    Folder {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of the two servers stopped by itself.
    #[error("the inbox's {door} stopped")]
    Stopped {
        /// Which of the two.
        door: Door,
        /// What the system said.
        source: io::Error,
    },
}

/// The inbox with both its ports taken, not serving yet.
pub struct Inbox {
    http: (TcpListener, SocketAddr),
    smtp: (TcpListener, SocketAddr),
    store: Arc<Store>,
    api: Arc<str>,
}

impl Inbox {
    /// Takes both ports and reads the mails of earlier runs.
    pub async fn bind(settings: InboxSettings) -> Result<Self, InboxError> {
        let http = listen(Door::Page, settings.http).await?;
        let smtp = listen(Door::Smtp, settings.smtp).await?;
        let folder = settings.folder;
        let store = off_the_runtime({
            let folder = folder.clone();
            move || Store::open(&folder)
        })
        .await
        .map_err(|source| InboxError::Folder { folder, source })?;
        Ok(Self { http, smtp, store: Arc::new(store), api: settings.api.into() })
    }

    /// Where the page is, with the real port.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.1
    }

    /// Where mail is taken, with the real port.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp.1
    }

    /// Serves until `stop`, then ends within a second whatever is still connected.
    pub async fn run(self, stop: CancellationToken) -> Result<(), InboxError> {
        // When one of the two fails, the other ends as well.
        let stop = stop.child_token();
        let guard = stop.clone().drop_guard();
        let smtp = smtp::serve(self.smtp.0, Arc::clone(&self.store), stop.clone());
        let page = web::serve(self.http.0, self.store, self.api, stop);
        let page = async { page.await.map_err(|source| InboxError::Stopped { door: Door::Page, source }) };
        let smtp = async {
            smtp.await;
            Ok(())
        };
        let served = tokio::try_join!(page, smtp).map(|_| ());
        drop(guard);
        served
    }
}

async fn listen(door: Door, address: SocketAddr) -> Result<(TcpListener, SocketAddr), InboxError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let real = listener.local_addr()?;
        Ok((listener, real))
    };
    bound.await.map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => InboxError::PortTaken { door, address, source },
        _ => InboxError::Listen { door, address, source },
    })
}

/// Runs file work on the blocking pool. It finishes even when nobody waits for it any more.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
