//! What may happen to an e-mail between its acceptance and its end, against real Postgres.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod cancel;
mod held;
mod keys;
mod priorities;
mod reschedule;
mod sensitive;
mod supersedes;

use std::time::Duration;

use facteur::EmailId;
use facteur::outbox::{Action, ClaimedDelivery, Final, SessionId, Settlement, Why};
use support::outbox::TestOutbox;

const SENT: Action = Action::Finish(Final::Sent, "accepted");
const REJECTED: Action = Action::Finish(Final::Failed, "rejected");
const REFUSED: Action = Action::Requeue { after: Duration::ZERO, why: Why::Refused };
const UNKNOWN: Action = Action::Requeue { after: Duration::ZERO, why: Why::Unknown };
const RELEASED: Action = Action::Requeue { after: Duration::ZERO, why: Why::Interrupted };

impl TestOutbox {
    /// Settles what was claimed; true when the lease held.
    async fn settle(&self, worker: SessionId, delivery: &ClaimedDelivery, action: Action) -> bool {
        let settlement = Settlement {
            id: delivery.id,
            token: delivery.token,
            action,
            transport: None,
            stage: None,
            code: None,
            detail: None,
        };
        self.outbox.settle(worker, &[settlement]).await.unwrap().is_empty()
    }

    /// One attempt at everything that is due, with one outcome for all.
    async fn attempt(&self, action: Action) -> usize {
        let worker = self.session().await;
        let claimed = self.claim(worker).await;
        for delivery in &claimed {
            assert!(self.settle(worker, delivery, action.clone()).await, "the lease holds");
        }
        claimed.len()
    }

    /// How each delivery ended: `cancelled withdrawn 0` is final state, reason, attempts.
    async fn outcomes(&self, id: EmailId) -> String {
        self.text(&format!(
            "SELECT coalesce(string_agg(concat_ws(' ', final, reason, attempts), ', ' ORDER BY position), '')
             FROM facteur.outcomes WHERE email_id = '{id}'"
        ))
        .await
    }

    /// Until a statement waits for another's lock.
    async fn until_somebody_waits(&self) {
        let waiters = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while self.number(waiters).await == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The lease of everything that is being sent ends, and the reaper comes by.
    async fn lose_the_workers(&self) {
        self.execute(
            "UPDATE facteur.deliveries SET lease_until = now() - interval '1 s' WHERE state = 'sending'",
        )
        .await;
        self.outbox.reap().await.unwrap();
        self.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    }
}
