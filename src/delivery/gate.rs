use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use crate::outbox::{ClaimedDelivery, Outbox};
use crate::transport::Gate;

/// Lets a mail's last byte out only under a lease that certainly holds.
pub(super) struct LeaseGate<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) delivery: &'a ClaimedDelivery,
    pub(super) pulse: &'a Pulse,
    /// Cancelled when what has not come to its last byte should be given up.
    pub(super) hurry: &'a CancellationToken,
}

impl LeaseGate<'_> {
    fn holds(&self) -> bool {
        self.pulse.covers(self.delivery.claimed_at, Instant::now())
    }
}

impl Gate for LeaseGate<'_> {
    async fn before_data(&self) -> bool {
        if !self.holds() {
            return false;
        }
        if !self.delivery.hold_unknown {
            return true;
        }
        // Only held mail pays for this: after a crash it tells "may have left" from "never left".
        match self.outbox.mark_data_started(self.delivery).await {
            Ok(marked) => marked,
            Err(error) => {
                tracing::warn!(email = %self.delivery.id, %error, "not sent: its lease could not be checked");
                false
            }
        }
    }

    fn before_dot(&self) -> bool {
        self.holds()
    }

    async fn closed(&self) {
        self.hurry.cancelled().await;
    }
}
