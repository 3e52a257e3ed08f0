//! The outbox: every SQL statement on e-mails, and nothing that sends.
//!
//! A delivery is held by a lease with a fencing token, never by an open transaction: claiming,
//! settling and reaping are one short statement each, and a write with an old token touches nothing.

mod batch;
mod breaker;
mod by_hand;
mod cancel;
mod claim;
mod connection;
mod cursor;
mod delivery;
mod domains;
mod enqueue;
mod events;
mod health;
mod hold;
mod hops;
mod list;
mod listener;
mod origin;
mod payload;
mod prune;
mod read;
mod reap;
mod reschedule;
mod reserve;
mod schema;
mod session;
mod settle;
mod storable;
mod transports;
mod upkeep;
mod wipe;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;

use connection::Line;

pub use batch::EnqueuedBatch;
pub use breaker::{Probe, ProbeEnd};
pub use cancel::Cancelled;
pub use claim::ClaimedDelivery;
pub use cursor::Cursor;
pub use delivery::{DeliveryId, LeaseToken};
pub use domains::{DomainRoom, DomainRule};
pub use enqueue::{Enqueued, enqueue};
pub use events::{EventLog, LoggedEvent, When};
pub use health::Health;
pub use hold::{HeldChoice, HeldPlace, HeldView, Parked};
pub use hops::Hop;
pub use list::{EmailSummary, Page};
pub use origin::Origin;
pub use payload::Payloads;
pub(crate) use payload::Traceparents;
pub use prune::Pruned;
pub use read::{AttachmentView, DeliveryView, EmailView, EventView, Status};
pub use reap::Reaped;
pub use reserve::{Granted, Limits};
pub use schema::migrate;
pub use session::SessionId;
pub use settle::{Action, Final, Settlement, Why};
pub use transports::{BreakerState, TransportState};

/// The outbox of one database, with a bell that wakes the workers of this process.
///
/// Cheap to clone; clones ring the same bell.
#[derive(Debug, Clone)]
pub struct Outbox {
    line: Line,
    /// Where to listen; none when there is no connection that stays the same.
    ear: Option<PgConnectOptions>,
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
    /// The key was used in the last 24 hours, with another e-mail.
    #[error("the idempotency key was used before, with another e-mail")]
    KeyReused,
    /// The key is another transaction's that has not ended, and the wait for it was cut.
    #[error("the idempotency key is in use by a request that has not ended yet")]
    KeyInFlight,
    /// The e-mail was sensitive and is wiped: there is nothing left to send.
    #[error("the e-mail's content was wiped when it ended; it cannot be sent again")]
    Wiped,
    /// Who does something by hand must say who they are.
    #[error("actor must be 1 to 128 characters, none of them a control character")]
    Actor,
}

impl OutboxError {
    /// Whether the same call may well succeed in a moment: the database is away, has no connection
    /// free, is stopping, starting or full, or somebody holds a lock.
    pub fn is_passing(&self) -> bool {
        use sqlx::Error as Sql;
        match self {
            Self::Database(Sql::PoolTimedOut | Sql::PoolClosed | Sql::Io(_)) => true,
            Self::Database(Sql::Database(error)) => error.code().is_some_and(|code| is_passing(&code)),
            _ => false,
        }
    }

    /// Whether a row itself is at fault: the same write can never succeed (SQLSTATE classes 22 and 23).
    pub fn is_about_the_row(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }
}

/// Of SQLSTATEs: connection (08), resources (53), a server that stops or starts (57),
/// one that was made a standby (25006), locks and deadlocks (40, 55P03).
fn is_passing(code: &str) -> bool {
    ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class)) || matches!(code, "25006" | "55P03")
}

impl Outbox {
    /// An outbox over this pool. The worker should have a pool of its own; see [`with_pool`](Self::with_pool).
    pub fn new(pool: PgPool) -> Self {
        let ear = Some((*pool.connect_options()).clone());
        Self { line: Line::new(pool), ear, bell: Arc::default() }
    }

    /// How long a statement may take before its connection is given up (10 seconds unless said
    /// otherwise); six times as long for one that carries whole e-mails.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.line.deadline = deadline;
        self
    }

    /// Listens for mail of other processes at another address than the pool's.
    #[must_use]
    pub fn listening_at(mut self, address: PgConnectOptions) -> Self {
        self.ear = Some(address);
        self
    }

    /// For a pool that leads through PgBouncer in transaction mode or its like: no statement is named,
    /// and the bell between processes hangs on `direct`, Postgres itself; without it there is polling alone.
    #[must_use]
    pub fn behind_a_transaction_pooler(mut self, direct: Option<PgConnectOptions>) -> Self {
        self.line.named_statements = false;
        self.ear = direct;
        self
    }

    /// The same outbox, with the same bell, over another pool of the same database.
    pub fn with_pool(&self, pool: PgPool) -> Self {
        Self { line: Line { pool, ..self.line.clone() }, ..self.clone() }
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
        &self.line.pool
    }
}

#[cfg(test)]
mod tests {
    use super::is_passing;

    #[test]
    fn what_time_alone_can_mend_is_told_from_what_it_cannot() {
        for code in ["53100", "53300", "57P01", "57P03", "57014", "55P03", "40P01", "08006", "25006"] {
            assert!(is_passing(code), "{code}");
        }
        for code in ["22001", "23505", "42P01", "42501", "28P01", "XX001"] {
            assert!(!is_passing(code), "{code}");
        }
    }
}
