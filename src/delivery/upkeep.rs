//! What a worker does beside sending: it says that it lives, and keeps the house.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::counts;
use super::worker::Worker;

/// Most are wiped as they end; this is for those that were withdrawn, or lost with their worker.
const WIPE_EVERY: Duration = Duration::from_secs(60);
const REAP_EVERY: Duration = Duration::from_secs(5);
const PARTITIONS_EVERY: Duration = Duration::from_secs(3_600);
/// How often this process asks whether it is its turn to prune: once an hour it is somebody's.
const PRUNE_TURN_EVERY: Duration = Duration::from_secs(300);

impl Worker {
    pub(super) async fn keep_beating(self: Arc<Self>, retired: CancellationToken) {
        loop {
            // A heartbeat that hangs is one that did not come.
            match timeout(self.settings.heartbeat, self.beat()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "no heartbeat"),
                Err(_) => tracing::warn!("no heartbeat: the database does not answer"),
            }
            let pause = tokio::time::sleep(self.settings.heartbeat);
            if retired.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Lets go of what was kept long enough. Apart from the rest of the house: a copy may take minutes.
    pub(super) async fn keep_pruning(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let turn = self.outbox.prune_in_turn(&self.settings.keep);
            if let Some(Err(error)) = stop.run_until_cancelled(turn).await {
                tracing::warn!(%error, "what is old could not be pruned; trying again");
            }
            let pause = tokio::time::sleep(PRUNE_TURN_EVERY);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Takes back what dead workers leased, wipes, makes next month's partitions, closes idle connections.
    pub(super) async fn keep_house(self: Arc<Self>, stop: CancellationToken) {
        let (mut partitions_made, mut wiped) = (None::<Instant>, Instant::now());
        while stop.run_until_cancelled(tokio::time::sleep(REAP_EVERY)).await.is_some() {
            match self.outbox.reap_holding(self.hold_before).await.inspect(counts::reaped) {
                Ok(reaped) if reaped.requeued > 0 => self.outbox.wake(),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the reaper could not look"),
            }
            self.route.close_idle().await;
            if wiped.elapsed() > WIPE_EVERY {
                wiped = Instant::now();
                if let Err(error) = self.outbox.wipe_sensitive().await {
                    tracing::warn!(%error, "sensitive e-mails that ended could not be wiped; trying again");
                }
                if self.domains.has_limits()
                    && let Err(error) = self.outbox.forget_domains().await
                {
                    tracing::warn!(%error, "domains of long ago could not be forgotten; trying again");
                }
            }
            if partitions_made.is_none_or(|made| made.elapsed() > PARTITIONS_EVERY) {
                match self.outbox.ensure_partitions().await {
                    Ok(()) => partitions_made = Some(Instant::now()),
                    Err(error) => tracing::warn!(%error, "partitions could not be made; trying again"),
                }
            }
        }
    }
}
