//! The database.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::faults::Faults;
use super::reader::{Found, Reader};
use super::variables::Variables;

/// The database, and how Facteur reaches it.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://…`
    pub url: SecretString,
    /// What is between Facteur and it.
    pub access: DatabaseAccess,
}

/// How the database is reached, wherever it is.
#[derive(Debug, Clone)]
pub struct DatabaseAccess {
    /// Connections for the HTTP doors; the worker has a pool of its own, so that neither starves the other.
    pub api_connections: u32,
    /// Connections for the worker.
    pub worker_connections: u32,
    /// How long a statement may take before its connection is given up; six times as long for one
    /// that carries whole e-mails.
    pub timeout: Duration,
    /// What `DATABASE_URL` leads through.
    pub pooler: Pooler,
    /// Postgres itself, past the pooler: for migrations and for the bell between processes.
    pub direct_url: Option<SecretString>,
}

/// What stands between Facteur and Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler that keeps one connection a session.
    None,
    /// PgBouncer in transaction mode, or its like: nothing of a session may be relied upon.
    Transaction,
}

impl Database {
    /// Reads the database alone, for a command that needs nothing else.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let database = Self::read(&mut reader);
        reader.finish(database)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let access = DatabaseAccess::read(reader);
        let url = read_url(reader, "DATABASE_URL");
        if url.is_none() && !reader.is_faulty(&["DATABASE_URL", "DATABASE_URL_FILE"]) {
            reader.fault(&["DATABASE_URL"], "required: postgres://user:password@host:5432/name");
        }
        Some(Self { url: url?, access })
    }

    /// The address for what needs a session: past a pooler, when there is a way.
    pub fn session_url(&self) -> Option<&SecretString> {
        match self.access.pooler {
            Pooler::None => Some(self.access.direct_url.as_ref().unwrap_or(&self.url)),
            Pooler::Transaction => self.access.direct_url.as_ref(),
        }
    }
}

impl DatabaseAccess {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(600));
        Self {
            api_connections: reader.number("API_DATABASE_CONNECTIONS", 10, 1..=10_000),
            worker_connections: reader.number("WORKER_DATABASE_CONNECTIONS", 4, 1..=10_000),
            timeout: reader.duration("DATABASE_TIMEOUT", Duration::from_secs(10), shortest..=longest),
            pooler: reader
                .parse("DATABASE_POOLER", "none or transaction", parse_pooler)
                .map_or(Pooler::None, |found| found.value),
            direct_url: read_url(reader, "DATABASE_DIRECT_URL"),
        }
    }
}

fn parse_pooler(text: &str) -> Option<Pooler> {
    match text {
        "none" => Some(Pooler::None),
        "transaction" => Some(Pooler::Transaction),
        _ => None,
    }
}

/// Only the scheme is looked at here: whoever connects understands the rest.
pub(super) fn read_url(reader: &mut Reader<'_>, name: &str) -> Option<SecretString> {
    let Found { name, value } = reader.secret(name)?;
    let schemes = ["postgres://", "postgresql://"];
    let url = value.expose_secret();
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) || url.contains(char::is_whitespace) {
        let text = "is not a URL like postgres://user:password@host:5432/name (not shown)";
        reader.fault(&[&name], text);
        return None;
    }
    Some(value)
}
