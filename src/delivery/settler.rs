use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::attempt::Ended;
use super::counts;
use super::worker::Worker;
use crate::crash::{self, Point};
use crate::outbox::{Action, Final, OutboxError};

/// A batch is written when so many outcomes wait, or the first has waited so long: writing each at
/// once would compete with the commits that enqueue. The window bounds the copies after a crash.
const BATCH: usize = 100;
const WINDOW: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Worker {
    /// Writes what became of each delivery, in batches, until all senders of outcomes are gone.
    pub(super) async fn settle_all(&self, mut ended: mpsc::UnboundedReceiver<Ended>) {
        while let Some(first) = ended.recv().await {
            let mut batch = vec![first];
            let window = tokio::time::Instant::now() + WINDOW;
            while batch.len() < BATCH
                && let Ok(Some(next)) = timeout_at(window, ended.recv()).await
            {
                batch.push(next);
            }
            self.settle_until_written(&batch).await;
            self.unwritten.fetch_sub(batch.len(), Ordering::Relaxed);
            counts::written(batch.len());
        }
    }

    /// For as long as the process lives: what a server took must not be sent again because the
    /// database was away for a minute. One outcome that can never be written does not keep the others.
    async fn settle_until_written(&self, batch: &[Ended]) {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.settle_once(batch).await {
            match batch {
                [one] if error.is_about_the_row() => {
                    let email = one.settlement.id.email;
                    tracing::error!(%email, %error, "an outcome can never be written; its lease will run out");
                    one.count_never_written();
                    return;
                }
                _ if error.is_about_the_row() => {
                    for one in batch.chunks(1) {
                        Box::pin(self.settle_until_written(one)).await;
                    }
                    return;
                }
                _ => {
                    tracing::warn!(%error, outcomes = batch.len(), "outcomes could not be written; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Writes a batch, and says what became of each mail once that is durable.
    pub(super) async fn settle_once(&self, batch: &[Ended]) -> Result<(), OutboxError> {
        let settlements: Vec<_> = batch.iter().map(|ended| ended.settlement.clone()).collect();
        let writing = self.outbox.settle(self.session, &settlements);
        let lost = crash::within(Point::DuringCommit, writing).await?;
        crash::reach(Point::AfterCommit, "");
        for ended in batch {
            let lost = lost.contains(&ended.settlement.id);
            self.held.give_up(ended.settlement.id, ended.settlement.token);
            ended.log(lost);
            ended.count(lost);
        }
        // Who got as far as a transport had a place of its domain, and it is free again.
        let tried = batch.iter().filter(|ended| ended.settlement.stage.is_some());
        if self.domains.freed(tried.map(|ended| ended.domain.as_str())) {
            self.outbox.wake();
        }
        Ok(())
    }
}

impl Ended {
    /// The one line that each attempt ends with: the domain and not the address, the code and not the text.
    fn log(&self, lease_lost: bool) {
        let what = if lease_lost { "lease_lost" } else { self.settlement.action.kind() };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    email = %self.settlement.id.email,
                    delivery = self.settlement.id.position,
                    domain = %self.domain,
                    attempt = self.attempt,
                    transport = self.settlement.transport,
                    stage = self.settlement.stage,
                    code = self.settlement.code,
                    reason = self.reason(),
                    next_s = self.next_in(),
                    ms = self.took.as_millis() as u64,
                    "{what}"
                )
            };
        }
        match what {
            "sent" | "released" | "cancelled" => line!(info),
            _ => line!(warn),
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self.settlement.action {
            Action::Finish(Final::Failed | Final::Cancelled, reason) => Some(reason),
            _ => None,
        }
    }

    fn next_in(&self) -> Option<u64> {
        match self.settlement.action {
            Action::Requeue { after, .. } => Some(after.as_secs()),
            Action::Finish(..) | Action::Hold => None,
        }
    }
}
