//! What can go wrong with the private Postgres, and what to do about it.

use std::io;
use std::path::PathBuf;

const OWN_DATABASE: &str = "or set DATABASE_URL to a PostgreSQL database of your own";

const INSTALL: &str = "Install PostgreSQL (Debian, Ubuntu: `apt-get install postgresql`; Fedora: `dnf install postgresql-server`; \
     macOS: `brew install postgresql@17`; Windows: `winget install PostgreSQL.PostgreSQL.17`)";

/// Why the private Postgres did not start or stop. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalPostgresError {
    /// Another Facteur uses this home.
    #[error(
        "Facteur already runs in {} ({}). Use that one, or end it first; to run two, give this one another folder with FACTEUR_HOME",
        .home.display(),
        .pid.map_or_else(|| "its process is unknown".to_owned(), |pid| format!("process {pid}"))
    )]
    AlreadyRunning {
        /// The process that holds the home, when it could be read.
        pid: Option<u32>,
        /// The home folder.
        home: PathBuf,
    },
    /// A folder or file could not be made, read or written.
    #[error(
        "cannot use {}: {source}. Give this user the right to write there, name another folder with FACTEUR_HOME, {OWN_DATABASE}",
        .path.display()
    )]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Started by root, and no other user to run Postgres as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has no user `postgres`, `nobody` or `daemon` to run it as. \
         Make one (`useradd --system postgres`), start Facteur as a normal user, {OWN_DATABASE}"
    )]
    NoUnprivilegedUser,
    /// No PostgreSQL here, and none could be downloaded.
    #[error(
        "PostgreSQL is not on this machine, and downloading {url} failed: {reason}. {INSTALL}, {OWN_DATABASE}"
    )]
    Download {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The archive is not the one that its checksum belongs to.
    #[error(
        "the archive from {url} is damaged: its SHA-256 is {found}, its checksum file says {expected}. Nothing of it was kept. \
         Try again; if it stays so, do not trust that server. {INSTALL}, {OWN_DATABASE}"
    )]
    Checksum {
        /// What was downloaded.
        url: String,
        /// What the checksum file says.
        expected: String,
        /// What the bytes say.
        found: String,
    },
    /// No archive is published for this kind of machine.
    #[error(
        "PostgreSQL is not on this machine, and there is no download for this kind of machine ({target}). {INSTALL}, {OWN_DATABASE}"
    )]
    NoDownload {
        /// Architecture and system.
        target: String,
    },
    /// Downloaded binaries do not run here.
    #[error(
        "the downloaded PostgreSQL in {} does not run here: {said}. If a shared library is missing, install it \
         (`libxml2.so.2`: `apt-get install libxml2`). {INSTALL}, {OWN_DATABASE}",
        .folder.display()
    )]
    Unusable {
        /// Where they are.
        folder: PathBuf,
        /// What they printed.
        said: String,
    },
    /// The data was written by another major version.
    #[error(
        "the data in {} was written by PostgreSQL {cluster}, and this machine has {found}. \
         Install PostgreSQL {cluster}, move that folder away to start with an empty database, {OWN_DATABASE}",
        .folder.display()
    )]
    ClusterVersion {
        /// The major version of the data.
        cluster: String,
        /// The versions found on this machine.
        found: String,
        /// The data folder.
        folder: PathBuf,
    },
    /// `initdb` failed; nothing was left behind.
    #[error("PostgreSQL could not make its data folder in {}: {said}", .folder.display())]
    Init {
        /// Where.
        folder: PathBuf,
        /// What `initdb` printed.
        said: String,
    },
    /// The server did not start.
    #[error("PostgreSQL did not start. The end of {} says:\n{said}", .log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        said: String,
    },
    /// The server did not stop.
    #[error("PostgreSQL in {} did not stop: {said}. The next start of Facteur ends it", .folder.display())]
    Stop {
        /// Its data folder.
        folder: PathBuf,
        /// What `pg_ctl` printed.
        said: String,
    },
    /// The server runs and refuses this process.
    #[error("PostgreSQL started and cannot be used: {0}. Its log is postgres.log in its folder")]
    Connect(#[from] sqlx::Error),
}

impl LocalPostgresError {
    pub(super) fn folder(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { path, source }
    }
}
