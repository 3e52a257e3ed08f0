//! The database.

use secrecy::{ExposeSecret, SecretString};

use super::faults::Faults;
use super::reader::{Found, Reader};
use super::variables::Variables;

/// The database, and how many connections each side of Facteur may open.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://…`
    pub url: SecretString,
    /// Connections for the HTTP doors; the worker has a pool of its own, so that neither starves the other.
    pub api_connections: u32,
    /// Connections for the worker.
    pub worker_connections: u32,
}

impl Database {
    /// Reads the database alone, for a command that needs nothing else.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let database = Self::read(&mut reader);
        reader.finish(database)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (api_connections, worker_connections) = read_connections(reader);
        let url = read_url(reader);
        if url.is_none() && !reader.is_faulty(&["DATABASE_URL", "DATABASE_URL_FILE"]) {
            reader.fault(&["DATABASE_URL"], "required: postgres://user:password@host:5432/name");
        }
        Some(Self { url: url?, api_connections, worker_connections })
    }
}

/// For the HTTP doors, and for the worker.
pub(super) fn read_connections(reader: &mut Reader<'_>) -> (u32, u32) {
    let api = reader.number("API_DATABASE_CONNECTIONS", 10, 1..=10_000);
    (api, reader.number("WORKER_DATABASE_CONNECTIONS", 4, 1..=10_000))
}

/// Only the scheme is looked at here: whoever connects understands the rest.
pub(super) fn read_url(reader: &mut Reader<'_>) -> Option<SecretString> {
    let Found { name, value } = reader.secret("DATABASE_URL")?;
    let schemes = ["postgres://", "postgresql://"];
    let url = value.expose_secret();
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) || url.contains(char::is_whitespace) {
        let text = "is not a URL like postgres://user:password@host:5432/name (not shown)";
        reader.fault(&[&name], text);
        return None;
    }
    Some(value)
}
