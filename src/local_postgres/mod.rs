//! A private Postgres for development and tests.
//!
//! It runs the machine's own PostgreSQL, or a copy downloaded once, on a data folder of its own,
//! and ends with Facteur. It is a real, durable server: `fsync` stays on. Only this machine
//! reaches it (127.0.0.1), and only with the password that was drawn when it was made.
//!
//! ```text
//! <home>/lock                      held while a Facteur uses this home
//! <home>/facteur.pid               who holds it
//! <home>/postgres/data             the cluster, with its password inside
//! <home>/postgres/port             the port, kept from one start to the next
//! <home>/postgres/postgres.log     what the server says
//! <home>/postgres/postgresql-17…   the downloaded binaries, on a machine without its own
//! ```

mod account;
mod binaries;
mod cluster;
mod download;
mod error;
mod home;
mod pid_file;
mod process;
mod progress;
mod server;
mod test_server;

use std::path::Path;

pub use download::{VERSION as DOWNLOADED_VERSION, fetch as download_binaries};
pub use error::LocalPostgresError;
pub use progress::{Progress, Silent, Terminal};
pub use test_server::test_server_url;

use crate::settings::SecretString;
use home::{HomeLock, Place};
use server::{Durability, Server};

/// A Postgres server that this process started, and that ends with it.
#[derive(Debug)]
pub struct LocalPostgres {
    server: Server,
    stopped: bool,
    // Released last, so that the next Facteur does not meet a server that is still stopping.
    _lock: HomeLock,
}

impl LocalPostgres {
    /// Starts the private server of `home`, with an empty database `facteur` the first time.
    ///
    /// Finds PostgreSQL on this machine or downloads it (from `mirror` when given), makes the
    /// cluster when there is none, and recovers by itself from whatever ended the last run.
    pub async fn start(
        home: &Path,
        mirror: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Self, LocalPostgresError> {
        let lock = HomeLock::acquire(home)?;
        let place = Place::choose(home, progress)?;
        let server = Server::launch(place, mirror, Durability::Full, progress).await?;
        Ok(Self { server, stopped: false, _lock: lock })
    }

    /// `postgres://…` of the database `facteur`, password included.
    pub fn url(&self) -> SecretString {
        self.server.url("facteur")
    }

    /// The folder that holds the data, the log and the port.
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// Ends the server: open transactions are rolled back, committed ones are on disk.
    ///
    /// A server that has not ended within 2 seconds is ended at once; its next start recovers.
    pub async fn stop(mut self) -> Result<(), LocalPostgresError> {
        self.stopped = true;
        self.server.stop().await
    }
}

impl Drop for LocalPostgres {
    /// For the ways out that do not pass by [`LocalPostgres::stop`]: an error, a panic.
    fn drop(&mut self) {
        if !self.stopped {
            self.server.stop_without_waiting();
        }
    }
}
