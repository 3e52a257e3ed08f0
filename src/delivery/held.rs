use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::outbox::{ClaimedDelivery, DeliveryId, LeaseToken};

/// What this process has claimed and not settled yet, and whether the database may know of more: the
/// answer to a claim can be lost after its commit.
#[derive(Debug, Default)]
pub(super) struct Held {
    all: Mutex<HashMap<DeliveryId, LeaseToken>>,
    in_doubt: AtomicBool,
}

impl Held {
    /// From before an attempt until its outcome is written.
    pub(super) fn take(&self, claimed: &[ClaimedDelivery]) {
        self.lock().extend(claimed.iter().map(|delivery| (delivery.id, delivery.token)));
    }

    pub(super) fn give_up(&self, id: DeliveryId, token: LeaseToken) {
        let mut all = self.lock();
        // It may have been claimed again, by this very process.
        if all.get(&id) == Some(&token) {
            all.remove(&id);
        }
    }

    pub(super) fn all(&self) -> Vec<(DeliveryId, LeaseToken)> {
        self.lock().iter().map(|(id, token)| (*id, *token)).collect()
    }

    /// The database may hold more in this process's name than this process knows of.
    pub(super) fn doubt(&self, in_doubt: bool) {
        self.in_doubt.store(in_doubt, Ordering::Relaxed);
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, LeaseToken>> {
        // A map is whole after each insert and remove.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
