//! The database.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::faults::Faults;
use super::passwords;
use super::profile::Environment;
use super::reader::{Found, Reader};
use super::url_password;
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
        // It opens no door: a weak password is refused where one does.
        let database = Self::read(&mut reader, Environment::Development);
        reader.finish(database)
    }

    pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> Option<Self> {
        let (url, access) = read(reader);
        let names = ["DATABASE_URL", "DATABASE_URL_FILE", "DATABASE_PASSWORD", "DATABASE_PASSWORD_FILE"];
        if url.is_none() && !reader.is_faulty(&names) {
            reader.fault(&["DATABASE_URL"], "required: postgres://user:password@host:5432/name");
        }
        let url = url?;
        let password = url_password::of(url.expose_secret());
        if environment != Environment::Development && password.is_some_and(|p| passwords::is_well_known(&p)) {
            let from: Vec<&str> = names.into_iter().filter(|name| reader.is_set(name)).collect();
            reader.fault(&from, passwords::TEXT);
        }
        Some(Self { url, access })
    }

    /// The address for what needs a session: past a pooler, when there is a way.
    pub fn session_url(&self) -> Option<&SecretString> {
        match self.access.pooler {
            Pooler::None => Some(self.access.direct_url.as_ref().unwrap_or(&self.url)),
            Pooler::Transaction => self.access.direct_url.as_ref(),
        }
    }
}

/// `DATABASE_URL`, if it is set, with its password; and how it is reached.
pub(super) fn read(reader: &mut Reader<'_>) -> (Option<SecretString>, DatabaseAccess) {
    let mut access = DatabaseAccess::read(reader);
    let url = read_url(reader, "DATABASE_URL");
    let Some(password) = reader.secret("DATABASE_PASSWORD") else { return (url, access) };
    let url = url.and_then(|url| with_password(reader, &url, &password));
    // The way past a pooler leads to the same user; it may have a password of its own.
    access.direct_url = access.direct_url.map(|direct| {
        let whole = url_password::insert(direct.expose_secret(), password.value.expose_secret());
        whole.map_or(direct, SecretString::from)
    });
    (url, access)
}

fn with_password(
    reader: &mut Reader<'_>,
    url: &SecretString,
    password: &Found<SecretString>,
) -> Option<SecretString> {
    match url_password::insert(url.expose_secret(), password.value.expose_secret()) {
        Ok(url) => Some(url.into()),
        Err(refused) => {
            let url = if reader.is_set("DATABASE_URL") { "DATABASE_URL" } else { "DATABASE_URL_FILE" };
            reader.fault(&[url, &password.name], refused.to_string());
            None
        }
    }
}

impl DatabaseAccess {
    fn read(reader: &mut Reader<'_>) -> Self {
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
fn read_url(reader: &mut Reader<'_>, name: &str) -> Option<SecretString> {
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
