//! The worker as it runs: takes, sends and writes at once, and ends in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{Ended, Stops};
use super::counts;
use super::worker::{Batch, Work, Worker};

/// How long a claim waits for more than half of the slots to be free, so that claims come in batches.
const GATHER: Duration = Duration::from_millis(5);
/// No more is claimed while so many outcomes wait for the database.
const MAX_UNWRITTEN: usize = 500;
/// How long before the end of the grace period mail that has not come to its last byte is given
/// up, unless half of the period is shorter.
const HURRY_BEFORE_END: Duration = Duration::from_secs(5);
/// How long a database that does not answer may hold up the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often the ways out are looked at again while none has room, at most and at least.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// When a worker stops: first it takes nothing more, then it gives up what it has.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Takes nothing more; what is in flight may end within the grace period.
    pub begin: CancellationToken,
    /// The grace period is over, at once.
    pub now: CancellationToken,
}

impl Worker {
    /// Works until `shutdown`, and ends within the grace period after it.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        self.route.lanes.iter().for_each(|lane| counts::begin(&lane.name));
        let stops = Stops::default();
        let (ended, outcomes) = mpsc::unbounded_channel();
        let settler = tokio::spawn({
            let worker = Arc::clone(&self);
            async move { worker.settle_all(outcomes).await }
        });
        let upkeep = TaskTracker::new();
        let retired = CancellationToken::new();
        upkeep.spawn(Arc::clone(&self).keep_beating(retired.clone()));
        upkeep.spawn(Arc::clone(&self).keep_house(shutdown.begin.clone()));
        upkeep.spawn(Arc::clone(&self).keep_pruning(shutdown.begin.clone()));
        let in_flight = TaskTracker::new();
        self.keep_taking(&shutdown, &stops, &in_flight, &ended).await;
        self.wind_up(&shutdown, &stops, in_flight).await;
        drop(ended);
        self.flush(settler, &shutdown).await;
        retired.cancel();
        upkeep.close();
        upkeep.wait().await;
        match timeout(GOODBYE, self.outbox.end_session(self.session)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the session could not be ended; it expires by itself"),
            Err(_) => tracing::warn!("the session could not be ended in time; it expires by itself"),
        }
    }

    /// Claims and starts attempts until the shutdown begins.
    async fn keep_taking(
        self: &Arc<Self>,
        shutdown: &Shutdown,
        stops: &Stops,
        in_flight: &TaskTracker,
        ended: &mpsc::UnboundedSender<Ended>,
    ) {
        let slots = Arc::new(Semaphore::new(self.settings.concurrency));
        while shutdown.begin.run_until_cancelled(self.ready(&slots)).await.is_some() {
            let free = slots.available_permits();
            let batch = match self.claim(free).await {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!(%error, "nothing could be claimed; trying again");
                    Batch { is_all: true, ..Batch::default() }
                }
            };
            self.start(batch.work, &slots, stops, in_flight, ended);
            if let Some(wait) = batch.blocked {
                // No way out has room: new mail changes nothing about that, and the bell is not listened to.
                let pause = wait.unwrap_or(LOOK_AGAIN).clamp(SHORTEST_LOOK, LOOK_AGAIN);
                shutdown.begin.run_until_cancelled(tokio::time::sleep(pause)).await;
            } else if batch.is_all {
                // The queue is empty until the bell rings, time passes or a domain has room.
                let poll = self.settings.poll;
                let next = self.domains.next_look().map_or(poll, |look| look.min(poll));
                let pause = timeout(next, self.outbox.woken());
                shutdown.begin.run_until_cancelled(pause).await;
            }
        }
    }

    /// Resolves when something may be claimed: slots are free, the session is certainly alive, and
    /// outcomes reach the database.
    async fn ready(&self, slots: &Semaphore) {
        loop {
            // The semaphore is never closed, and a permit that is dropped at once is free again.
            drop(slots.acquire().await);
            let half = u32::try_from(self.settings.concurrency.div_ceil(2)).unwrap_or(u32::MAX);
            drop(timeout(GATHER, slots.acquire_many(half)).await);
            let now = Instant::now();
            if !self.pulse.is_fresh(now) || self.unwritten.load(Ordering::Relaxed) > MAX_UNWRITTEN {
                tokio::time::sleep(self.settings.poll.min(Duration::from_millis(100))).await;
            } else {
                return;
            }
        }
    }

    /// Starts an attempt for each claimed delivery.
    fn start(
        self: &Arc<Self>,
        batch: Vec<Work>,
        slots: &Arc<Semaphore>,
        stops: &Stops,
        in_flight: &TaskTracker,
        ended: &mpsc::UnboundedSender<Ended>,
    ) {
        for work in batch {
            let (worker, stops, ended) = (Arc::clone(self), stops.clone(), ended.clone());
            // Taken here and not in the task: the next claim must see it gone.
            let slot = Arc::clone(slots).try_acquire_owned();
            in_flight.spawn(async move {
                let _slot = slot;
                let outcome = worker.attempt(work, &stops).await;
                worker.unwritten.fetch_add(1, Ordering::Relaxed);
                counts::unwritten();
                // The settler outlives every sender.
                let _ = ended.send(outcome);
            });
        }
    }

    /// Lets mail in flight end; near the end of the grace period gives up what has not come to its
    /// last byte, and at the end what awaits its reply.
    async fn wind_up(&self, shutdown: &Shutdown, stops: &Stops, in_flight: TaskTracker) {
        // For whoever looks at the sessions; mail in flight does not wait for it.
        if let Ok(Err(error)) = timeout(GOODBYE, self.outbox.drain_session(self.session)).await {
            tracing::debug!(%error, "the session could not be marked as draining");
        }
        in_flight.close();
        let hurry_after = self.settings.grace - self.last_part();
        let patient = timeout(hurry_after, in_flight.wait());
        if !matches!(shutdown.now.run_until_cancelled(patient).await, Some(Ok(()))) {
            tracing::info!(in_flight = in_flight.len(), "giving up what has not been sent yet");
            stops.hurry.cancel();
            let last = timeout(self.last_part() / 2, in_flight.wait());
            let _ = shutdown.now.run_until_cancelled(last).await;
            stops.abandon.cancel();
            in_flight.wait().await;
        }
    }

    /// Waits until the last outcomes are written, or the grace period is really over.
    async fn flush(&self, settler: tokio::task::JoinHandle<()>, shutdown: &Shutdown) {
        let flushed = timeout(self.last_part() / 2, settler);
        let flushed = if shutdown.now.is_cancelled() {
            timeout(Duration::from_millis(500), flushed).await.ok()
        } else {
            Some(flushed.await)
        };
        if !matches!(flushed, Some(Ok(_))) {
            let unwritten = self.unwritten.load(Ordering::Relaxed);
            tracing::error!(
                unwritten,
                "outcomes could not be written before the end; those mails may be sent again"
            );
        }
    }

    /// The part of the grace period in which nothing new is begun.
    fn last_part(&self) -> Duration {
        HURRY_BEFORE_END.min(self.settings.grace / 2)
    }
}
