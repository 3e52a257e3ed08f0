use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Connection;

/// When a connection is too old, too used or too long unused to be trusted with another mail.
const MAX_AGE: Duration = Duration::from_secs(300);
const MAX_MAILS: u32 = 100;
const MAX_IDLE: Duration = Duration::from_secs(20);
/// Unused for so long, it is asked whether it is still there.
pub(super) const DOUBTED_AFTER: Duration = Duration::from_secs(5);

/// At most so many connections, open or opening; the latest used is used first.
pub(super) struct Pool {
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
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
    pub(super) fn new(size: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(size.max(1))), idle: Mutex::default() }
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
        if connection.mails >= MAX_MAILS || connection.born.elapsed() > MAX_AGE {
            return Some(connection);
        }
        self.lock().push(Idle { connection, since: Instant::now() });
        None
    }

    /// The connections that idled for too long.
    pub(super) fn take_stale(&self) -> Vec<Connection> {
        let stale =
            |idle: &mut Idle| idle.since.elapsed() > MAX_IDLE || idle.connection.born.elapsed() > MAX_AGE;
        self.lock().extract_if(.., stale).map(|idle| idle.connection).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A list of connections is whole after each push and pop.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
