//! The outbox: every SQL statement on e-mails, and nothing that sends.
//!
//! A delivery is held by a lease with a fencing token, never by an open transaction: claiming,
//! settling and reaping are one short statement each, and a write with an old token touches nothing.

mod claim;
mod delivery;
mod enqueue;
mod listener;
mod payload;
mod prune;
mod read;
mod reap;
mod schema;
mod session;
mod settle;
mod upkeep;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::Notify;

pub use claim::ClaimedDelivery;
pub use delivery::{DeliveryId, LeaseToken};
pub use enqueue::{Enqueued, enqueue};
pub use payload::Payloads;
pub use prune::Pruned;
pub use read::{DeliveryView, EmailView, Status};
pub use reap::Reaped;
pub use schema::migrate;
pub use session::SessionId;
pub use settle::{Action, Final, Settlement, Why};

/// The outbox of one database, with a bell that wakes the workers of this process.
///
/// Cheap to clone; clones ring the same bell.
#[derive(Debug, Clone)]
pub struct Outbox {
    pool: PgPool,
    bell: Arc<Notify>,
}

/// What can go wrong between Facteur and its database.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The database did not do it: unreachable, out of connections, out of space, …
    #[error("the database refused or could not be reached: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the schema could not be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The key was used before, with another e-mail.
    #[error("the idempotency key was used before, with another e-mail")]
    KeyReused,
}

impl OutboxError {
    /// Whether the same call may well succeed in a moment: the database is away or has no connection free.
    pub fn is_passing(&self) -> bool {
        use sqlx::Error as Sql;
        matches!(self, Self::Database(Sql::PoolTimedOut | Sql::PoolClosed | Sql::Io(_)))
    }

    /// Whether a row itself is at fault: the same write can never succeed (SQLSTATE classes 22 and 23).
    pub fn is_about_the_row(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }
}

impl Outbox {
    /// An outbox over this pool. The worker should have a pool of its own; see [`with_pool`](Self::with_pool).
    pub fn new(pool: PgPool) -> Self {
        Self { pool, bell: Arc::default() }
    }

    /// The same outbox, with the same bell, over another pool of the same database.
    pub fn with_pool(&self, pool: PgPool) -> Self {
        Self { pool, bell: Arc::clone(&self.bell) }
    }

    /// Wakes this process's worker. Call it after committing a transaction that enqueued; without
    /// it the mail leaves at the next poll.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    /// Resolves at the next [`wake`](Self::wake), or at once when there was one since the last time.
    pub async fn woken(&self) {
        self.bell.notified().await;
    }

    /// The pool, for what runs beside the outbox in the same database.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}
