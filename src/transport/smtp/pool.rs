use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Connection;
use crate::settings::Relay;

/// Unused for so long, it is asked whether it is still there.
pub(super) const DOUBTED_AFTER: Duration = Duration::from_secs(5);

/// At most so many connections, open or opening; the latest used is used first.
pub(super) struct Pool {
    slots: Arc<Semaphore>,
    limits: Limits,
    idle: Mutex<Vec<Idle>>,
}

/// When a connection is too old, too used or too long unused to be trusted with another mail.
struct Limits {
    age: Duration,
    idle: Duration,
    mails: u32,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The right to have one connection open, and perhaps one that is open already.
pub(super) struct Slot {
    pub(super) permit: Arc<OwnedSemaphorePermit>,
    pub(super) idle: Option<(Connection, Duration)>,
}

impl Pool {
    pub(super) fn new(relay: &Relay) -> Self {
        let slots = Arc::new(Semaphore::new(relay.max_connections.max(1)));
        let (age, idle) = (relay.max_connection_age, relay.idle_timeout);
        let limits = Limits { age, idle, mails: relay.max_per_connection };
        Self { slots, limits, idle: Mutex::default() }
    }

    /// Waits for a slot.
    pub(super) async fn slot(&self) -> Slot {
        let permit = Arc::clone(&self.slots).acquire_owned().await;
        let permit = Arc::new(permit.expect("the pool never closes its semaphore"));
        let newest = self.lock().pop();
        Slot { permit, idle: newest.map(|idle| (idle.connection, idle.since.elapsed())) }
    }

    /// Takes a connection back that ended its mail in order; returns it when it has served enough.
    pub(super) fn put_back(&self, connection: Connection) -> Option<Connection> {
        if connection.mails >= self.limits.mails || connection.born.elapsed() > self.limits.age {
            return Some(connection);
        }
        self.lock().push(Idle { connection, since: Instant::now() });
        None
    }

    /// The connections that idled for too long.
    pub(super) fn take_stale(&self) -> Vec<Connection> {
        let stale = |idle: &mut Idle| self.is_stale(&idle.connection, idle.since.elapsed());
        self.lock().extract_if(.., stale).map(|idle| idle.connection).collect()
    }

    /// Whether a connection that idled for so long has served enough.
    pub(super) fn is_stale(&self, connection: &Connection, idled: Duration) -> bool {
        idled > self.limits.idle || connection.born.elapsed() > self.limits.age
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A list of connections is whole after each push and pop.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
