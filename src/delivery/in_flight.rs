use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::outbox::{ClaimedDelivery, DeliveryId, LeaseToken};

/// What this process is sending right now: the only leases that its heartbeat may renew. A delivery
/// that was claimed and forgotten must come back.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    claimed: Mutex<HashMap<DeliveryId, (LeaseToken, Instant)>>,
}

/// Ends the entry, however the attempt ends.
pub(super) struct Entry<'a> {
    all: &'a InFlight,
    id: DeliveryId,
}

impl InFlight {
    /// Renewed for as long as the entry lives.
    pub(super) fn enter(&self, delivery: &ClaimedDelivery) -> Entry<'_> {
        self.lock().insert(delivery.id, (delivery.token, delivery.claimed_at));
        Entry { all: self, id: delivery.id }
    }

    /// Those whose lease was asked for longer than `age` ago.
    pub(super) fn older_than(&self, now: Instant, age: Duration) -> Vec<(DeliveryId, LeaseToken)> {
        let claimed = self.lock();
        let old = claimed.iter().filter(|(_, (_, since))| now.saturating_duration_since(*since) > age);
        old.map(|(id, (token, _))| (*id, *token)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, (LeaseToken, Instant)>> {
        // A map is whole after each insert and remove.
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}
