use std::net::SocketAddr;

use crate::email::InvalidEmail;
use crate::outbox::OutboxError;
use crate::settings::Way;
use crate::telemetry::TelemetryError;
use crate::transport::OpenError;

/// Why Facteur does not run. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// `DATABASE_URL` is not one.
    #[error("{variable} is not a Postgres URL (postgres://user:password@host:5432/database): {source}")]
    DatabaseUrl {
        /// Which variable.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: sqlx::Error,
    },
    /// Migrations need a session, and only a pooler without any is known.
    #[error(
        "migrations cannot go through a pooler in transaction mode.\nSet DATABASE_DIRECT_URL to Postgres itself."
    )]
    NoSession,
    /// Behind a pooler nobody migrates at the start.
    #[error(
        "the schema is not up to date, and migrations cannot go through a pooler in transaction mode.\n\
         Set DATABASE_DIRECT_URL to Postgres itself, or run `facteur migrate` with it once."
    )]
    NotMigrated,
    /// The database is away, or refuses.
    #[error("{0}\nIs Postgres running, and is DATABASE_URL right? `facteur check` tells more.")]
    Outbox(#[from] OutboxError),
    /// A way out cannot be used at all.
    #[error(transparent)]
    Transport(#[from] OpenError),
    /// The settings name no such way out.
    #[error("no transport is called {name:?}; there are: {known}")]
    NoSuchTransport {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// An end that is not after its beginning.
    #[error("--until must be later than --since")]
    NoTimeBetween,
    /// What was asked for cannot be written out.
    #[error("the output cannot be written: {0}")]
    Output(#[source] std::io::Error),
    /// What is to be sent is not an e-mail.
    #[error("the e-mail cannot be sent: {0}")]
    Email(#[from] InvalidEmail),
    /// It is one, and cannot be written.
    #[error("the e-mail cannot be written: {0}")]
    Unrenderable(String),
    /// What became of it was printed.
    #[error("the mail was not sent (above)")]
    NotSent,
    /// Counting cannot start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A port is taken, or may not be used.
    #[error("cannot listen on {address}: {source}\nAnother program has port {port}, or this user may not use it. Stop it, or choose another port: {variable}=<port>", port = address.port())]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What moves it.
        variable: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The process does not answer its probe.
    #[error("no life at {asked}: {source}\nA worker answers only where METRICS_PORT is set.")]
    NotLive {
        /// Where.
        asked: String,
        /// What came instead.
        #[source]
        source: std::io::Error,
    },
    /// What was asked for of the parked mail cannot be done as it was asked for.
    #[error("{0}")]
    Held(String),
    /// The server broke down.
    #[error("the HTTP server broke down: {0}")]
    Http(#[source] std::io::Error),
    /// The inbox cannot be opened.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Inbox(#[from] crate::inbox::InboxError),
    /// The private Postgres does not run.
    #[cfg(feature = "local")]
    #[error(transparent)]
    LocalPostgres(#[from] crate::local_postgres::LocalPostgresError),
    /// Something that was checked is not right; what, was printed.
    #[error("not everything is right (above)")]
    Check,
}

impl AppError {
    /// With the names that there are.
    pub(super) fn no_such_transport(name: Option<&str>, ways: &[Way]) -> Self {
        let known: Vec<&str> = ways.iter().map(|way| way.name.as_str()).collect();
        Self::NoSuchTransport { name: name.unwrap_or_default().to_owned(), known: known.join(", ") }
    }
}
