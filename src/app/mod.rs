//! The composition root: builds what the settings ask for, runs it, and ends it in order.

mod check;
#[cfg(feature = "local")]
mod dev;
mod doors;
mod error;
mod serve;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::delivery::Worker;
use crate::outbox::{self, Outbox};
use crate::settings::{self, ExposeSecret, Settings};
use crate::transport::{Transport, smtp::SmtpTransport};

pub use check::check;
#[cfg(feature = "local")]
pub use dev::dev;
pub use error::AppError;
pub use serve::{Parts, serve};

/// How long a request waits for a connection before it is told to come back.
const ACQUIRE: Duration = Duration::from_secs(2);

/// Brings the schema up to date, and says so.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub async fn migrate(database: &settings::Database) -> Result<(), AppError> {
    let pool = pool(database, 1)?;
    outbox::migrate(&pool).await?;
    pool.close().await;
    tracing::info!("the schema is up to date");
    Ok(())
}

/// A pool that connects when it is first used.
fn pool(database: &settings::Database, connections: u32) -> Result<PgPool, AppError> {
    let options: PgConnectOptions = database.url.expose_secret().parse().map_err(AppError::DatabaseUrl)?;
    let options = options.application_name("facteur");
    Ok(PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE).connect_lazy_with(options))
}

/// The worker, over a pool of its own.
fn worker(settings: &Settings, outbox: &Outbox) -> Result<Arc<Worker>, AppError> {
    let transport = Transport::Smtp(SmtpTransport::new(settings.profile.relay())?);
    let own = pool(&settings.database, settings.database.worker_connections)?;
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Arc::new(Worker::new(outbox.with_pool(own), transport, settings.worker.clone(), host)))
}
