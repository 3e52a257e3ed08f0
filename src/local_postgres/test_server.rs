//! One Postgres server for a whole `cargo test`, left running for the next.

use std::path::Path;

use super::error::LocalPostgresError;
use super::home::{HomeLock, Place};
use super::progress::Terminal;
use super::server::{self, Durability, Server};
use crate::settings::SecretString;

/// The address of a server where tests may create databases.
///
/// `given` when there is one (the caller's `TEST_DATABASE_URL`); otherwise the server of
/// `folder`, which is found running, or started, and is not stopped: several test programs use
/// it at once, and the next run starts with it. Its `fsync` is off, the rest is as in production.
#[doc(hidden)]
pub async fn test_server_url(
    given: Option<SecretString>,
    folder: &Path,
) -> Result<SecretString, LocalPostgresError> {
    if let Some(url) = given {
        return Ok(url);
    }
    // Test programs that start at once wait here for the first of them.
    let _lock = HomeLock::wait(folder)?;
    let progress = Terminal::new();
    let place = Place::choose(folder, &progress)?;
    if let Some(url) = server::find_running(&place).await {
        return Ok(url);
    }
    let server = Server::launch(place, None, Durability::ForTests, &progress).await?;
    Ok(server.url("postgres"))
}
