use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Connection;

/// When a connection is too old or too used to be trusted with another mail.
const MAX_AGE: Duration = Duration::from_secs(300);
const MAX_MAILS: u32 = 100;
/// How long a slot stays unused for which the server had no connection.
const SPARED_FOR: Duration = Duration::from_secs(60);

/// At most so many connections, open or opening; the latest used is used first.
pub(super) struct Pool {
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Slots beyond what the server allows at the moment, each since when.
    spared: Mutex<Vec<(Instant, Arc<OwnedSemaphorePermit>)>>,
    /// One more reference for each connection that is open or opening.
    census: Arc<()>,
    max_idle: Duration,
}

/// A connection, open or opening, for as long as this lives.
pub(super) struct Counted {
    _one: Arc<()>,
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
    pub(super) fn new(size: usize, max_idle: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(size.max(1)));
        let (idle, spared, census) = (Mutex::default(), Mutex::default(), Arc::default());
        Self { slots, idle, spared, census, max_idle }
    }

    /// Waits for a slot.
    pub(super) async fn slot(&self) -> Slot {
        self.end_sparing();
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

    /// A connection that idled for too long, with the slot that it fills until it is closed; none
    /// while every slot is in use, because then it is about to be used.
    pub(super) fn take_stale(&self) -> Option<(Connection, OwnedSemaphorePermit)> {
        self.end_sparing();
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let stale = |idle: &mut Idle| {
            idle.since.elapsed() > self.max_idle || idle.connection.born.elapsed() > MAX_AGE
        };
        let oldest = self.lock().extract_if(.., stale).next()?;
        Some((oldest.connection, permit))
    }

    /// Counts a connection that is about to be opened.
    pub(super) fn count(&self) -> Counted {
        Counted { _one: Arc::clone(&self.census) }
    }

    /// Leaves a slot unused for a while, for which the server had no connection. False when there is
    /// no other connection to wait for: whoever fails last keeps its slot, so that one always remains.
    pub(super) fn spare(&self, slot: &Slot) -> bool {
        let others = Arc::strong_count(&self.census) > 1;
        if others {
            let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
            spared.push((Instant::now(), Arc::clone(&slot.permit)));
        }
        others
    }

    fn end_sparing(&self) {
        let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.retain(|(since, _)| since.elapsed() < SPARED_FOR);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A list of connections is whole after each push and pop.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_is_spared_for_a_minute_and_never_the_last_one() {
        let pool = Pool::new(2, Duration::ZERO);
        let slot = pool.slot().await;
        assert!(!pool.spare(&slot), "there is nobody else to wait for");
        let other = pool.count();
        assert!(pool.spare(&slot));
        drop((slot, other));
        pool.end_sparing();
        assert_eq!(pool.slots.available_permits(), 1);
        pool.spared.lock().unwrap()[0].0 -= SPARED_FOR;
        pool.end_sparing();
        assert_eq!(pool.slots.available_permits(), 2);
    }
}
