//! The composition root: builds what the settings ask for, runs it, and ends it in order.

mod check;
#[cfg(feature = "local")]
mod dev;
mod doors;
mod error;
mod events;
mod held;
mod live;
mod process;
mod send;
mod serve;
mod signals;
mod transports;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgPool};

use crate::delivery::{Route, Worker};
use crate::outbox::{self, Outbox};
use crate::settings::{self, ExposeSecret, Pooler, SecretString, WorkerSettings};

pub use check::check;
#[cfg(feature = "local")]
pub use dev::dev;
pub use error::AppError;
pub use events::{Wanted, When, events};
pub use held::{ByHandHeld, HeldChoice, held};
pub use live::check_live;
pub use send::{Trial, send};
pub use serve::{serve, work};
pub use transports::{ByHand, transports};

/// How long a request waits for a connection before it is told to come back.
const ACQUIRE: Duration = Duration::from_secs(2);

/// How long a statement waits for another's lock: mail that is waited for is being enqueued twice at once.
const LOCK: Duration = Duration::from_secs(2);

/// Brings the schema up to date, and says so.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub async fn migrate(database: &settings::Database) -> Result<(), AppError> {
    let url = database.session_url().ok_or(AppError::NoSession)?;
    run_migrations(url).await?;
    tracing::info!("the schema is up to date");
    Ok(())
}

/// Before a process works: migrates, or where only a pooler leads to the database, sees that somebody did.
async fn prepare(database: &settings::Database, outbox: &Outbox) -> Result<(), AppError> {
    match database.session_url() {
        Some(url) => run_migrations(url).await,
        None if outbox.is_current().await? => Ok(()),
        None => Err(AppError::NotMigrated),
    }
}

async fn run_migrations(url: &SecretString) -> Result<(), AppError> {
    // Without limits: a migration may wait for another process's.
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE);
    // A migration that takes its time is no reason to log the whole of it.
    let options = options(url, "DATABASE_DIRECT_URL or DATABASE_URL")?.disable_statement_logging();
    let pool = pool.connect_lazy_with(options);
    let migrated = outbox::migrate(&pool).await;
    pool.close().await;
    Ok(migrated?)
}

/// The outbox over a pool that connects when it is first used.
fn outbox(database: &settings::Database, connections: u32) -> Result<Outbox, AppError> {
    let outbox = Outbox::new(pool(database, connections)?).with_deadline(database.access.timeout);
    Ok(match (database.access.pooler, database.session_url()) {
        (Pooler::None, None) => outbox,
        (Pooler::None, Some(url)) => outbox.listening_at(options(url, "DATABASE_DIRECT_URL")?),
        (Pooler::Transaction, direct) => {
            let direct = direct.map(|url| options(url, "DATABASE_DIRECT_URL")).transpose()?;
            outbox.behind_a_transaction_pooler(direct)
        }
    })
}

fn pool(database: &settings::Database, connections: u32) -> Result<PgPool, AppError> {
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE);
    let pool = match database.access.pooler {
        Pooler::None => with_limits(pool, database.access.timeout),
        // A session's settings would be somebody else's a moment later.
        Pooler::Transaction => pool,
    };
    Ok(pool.connect_lazy_with(options(&database.url, "DATABASE_URL")?))
}

/// The server gives up before we do where it can: it then says why, and the connection stays good.
fn with_limits(pool: PgPoolOptions, timeout: Duration) -> PgPoolOptions {
    let (lock, statement) = (LOCK.min(timeout / 2), timeout * 6);
    let limits =
        format!("SET lock_timeout = {}; SET statement_timeout = {}", lock.as_millis(), statement.as_millis());
    pool.after_connect(move |connection, _| {
        let limits = AssertSqlSafe(limits.clone());
        Box::pin(async move { connection.execute(limits).await.map(drop) })
    })
}

fn options(url: &SecretString, variable: &'static str) -> Result<PgConnectOptions, AppError> {
    let options = url.expose_secret().parse();
    let options: PgConnectOptions = options.map_err(|source| AppError::DatabaseUrl { variable, source })?;
    Ok(options.application_name("facteur"))
}

/// The worker, over a pool of its own.
fn worker(settings: &WorkerSettings, outbox: &Outbox) -> Result<Worker, AppError> {
    let route = Route::open(&settings.ways)?;
    let own = pool(&settings.database, settings.database.access.worker_connections)?;
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let worker = Worker::new(outbox.with_pool(own), route, settings.worker.clone(), host);
    Ok(worker.limiting(settings.domains.clone()))
}
