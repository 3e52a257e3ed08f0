//! The only reader of the environment.
//!
//! Everything that can be set is read here, once, at start-up; every fault is reported at once,
//! with the name of the variable and what it accepts. The types have no value for what must not
//! run: production without a JWT key, or with a relay that would carry mail in clear over a network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use secrecy::{ExposeSecret, SecretString};

/// Where Facteur runs, and with it what it lets happen.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A laptop: no token anywhere, and any relay.
    Development { relay: Relay },
    /// Production with a mail catcher allowed.
    Staging { jwt: JwtKey, relay: Relay },
    /// Tokens always, TLS always.
    Production { jwt: JwtKey, relay: SecureRelay },
}

impl Profile {
    /// The SMTP server that mail leaves through.
    pub fn relay(&self) -> &Relay {
        match self {
            Self::Development { relay } | Self::Staging { relay, .. } => relay,
            Self::Production { relay, .. } => relay.get(),
        }
    }

    /// The key that bearer tokens are signed with; none in development, where nothing asks for one.
    pub fn jwt(&self) -> Option<&JwtKey> {
        match self {
            Self::Development { .. } => None,
            Self::Staging { jwt, .. } | Self::Production { jwt, .. } => Some(jwt),
        }
    }

    /// Whether mail may go to `@localhost`, the one domain without a dot.
    pub fn is_development(&self) -> bool {
        matches!(self, Self::Development { .. })
    }
}

/// An HS256 key of at least 32 bytes that is not well known.
#[derive(Debug, Clone)]
pub struct JwtKey(SecretString);

/// How mail is handed to one SMTP server.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Host name or address; the name is what its certificate is checked against.
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub credentials: Option<Credentials>,
    /// The name given in EHLO; the machine's own when unset.
    pub hello_name: Option<String>,
    /// At most this many connections at once.
    pub max_connections: usize,
}

/// What protects the connection to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Plain text: loopback and development only.
    None,
    /// Plain text, then `STARTTLS`, which the server must offer (port 587).
    StartTls,
    /// TLS from the first byte (port 465, RFC 8314).
    Implicit,
}

#[derive(Debug, Clone)]
pub struct Credentials {
    pub username: SecretString,
    pub password: SecretString,
}

/// A relay that carries nothing in clear over a network: TLS, or a loopback address.
#[derive(Debug, Clone)]
pub struct SecureRelay(Relay);

/// What `facteur serve` and `facteur worker` run with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub profile: Profile,
    pub http: SocketAddr,
    pub database: Database,
    /// `EMAIL_FROM`: the sender of mail that names none, as `Name <address>` or a bare address.
    pub sender: String,
    pub worker: Worker,
}

#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://…`
    pub url: SecretString,
    /// Connections for the HTTP doors; the worker has a pool of its own, so that neither starves the other.
    pub api_connections: u32,
    pub worker_connections: u32,
}

/// The worker's pace. The defaults are those of the design.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Mails being sent at once by this process.
    pub concurrency: usize,
    /// How often the queue is looked at when nothing woke the worker.
    pub poll: Duration,
    /// How long a claimed mail is this worker's alone.
    pub lease: Duration,
    pub heartbeat: Duration,
    /// A process that has not been heard of for so long is taken for dead.
    pub session_expiry: Duration,
    /// How long mail in flight may finish after the first signal.
    pub grace: Duration,
}

/// What `facteur dev` runs with: development, on this machine, with what it brings itself.
#[derive(Debug, Clone)]
pub struct DevSettings {
    pub http: SocketAddr,
    pub inbox_http: SocketAddr,
    pub inbox_smtp: SocketAddr,
    /// Where mail goes: the inbox, unless `SMTP_HOST` names something else.
    pub relay: Relay,
    /// `DATABASE_URL`; a private Postgres when unset.
    pub database_url: Option<SecretString>,
    /// The folder of the private Postgres and of the inbox: `.facteur` here, unless `FACTEUR_HOME` says otherwise.
    pub home: PathBuf,
    pub sender: String,
    pub worker: Worker,
}

/// How log lines look, and which.
#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    /// A `tracing` filter such as `info,facteur=debug`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl SecureRelay {
    pub fn get(&self) -> &Relay {
        &self.0
    }
}

impl JwtKey {
    pub fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}
