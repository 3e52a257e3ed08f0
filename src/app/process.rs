//! What one process runs, all at once, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AppError;
use super::doors::Door;
use crate::delivery::{Shutdown, Worker};
use crate::http::{self, Access, Api, Probes, Readiness};
use crate::outbox::Outbox;
use crate::settings::Settings;
use crate::telemetry::Exposition;

/// How many deliveries one statement parks: a moment's lock, whatever the queue's length.
const HOLD_AT_ONCE: i64 = 1_000;
const HOLD_LOCKED: Duration = Duration::from_millis(50);
const HOLD_AGAIN: Duration = Duration::from_secs(1);

/// The parts of one process.
pub(super) struct Process<'a> {
    pub(super) outbox: Outbox,
    /// Where the API listens, and what it is served with.
    pub(super) door: Option<(Door, &'a Settings)>,
    /// Where metrics and probes have a port of their own.
    pub(super) probes: Option<Door>,
    pub(super) worker: Option<Worker>,
    /// Whether what is in the queue is parked before anything is claimed.
    pub(super) hold: bool,
    pub(super) grace: Duration,
}

impl Process<'_> {
    /// One line for the log: it is ready, and where.
    pub(super) fn announce(&self) {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = self.door.as_ref().map(|(door, _)| door.address.to_string()),
            metrics = self.probes.as_ref().map(|door| door.address.to_string()),
            worker = self.worker.is_some(),
            "ready"
        );
    }

    /// Everything at once until `shutdown`: the door closes first, then the worker ends its mails.
    pub(super) async fn run(self, shutdown: Shutdown) -> Result<(), AppError> {
        let Self { outbox, door, probes, worker, hold, grace } = self;
        // Before anything is counted. Without a door nobody could ask for it.
        let asked = door.is_some() || probes.is_some();
        let metrics = if asked { Exposition::install()? } else { Exposition::default() };
        let readiness = Readiness::default();
        // Before the door is open: what it lets in is new.
        let since = if hold { Some(outbox.now().await?) } else { None };
        let tasks = TaskTracker::new();
        let gone = CancellationToken::new();
        let told = Probes { outbox: outbox.clone(), readiness: readiness.clone(), metrics: metrics.clone() };
        tasks.spawn(keep_telling(told.clone(), shutdown.begin.clone()));
        let probes = probes.map(|door| tokio::spawn(tell(door, told, gone.clone(), grace)));
        match worker {
            Some(worker) => {
                let listener = worker.outbox().clone();
                let stop = shutdown.begin.clone();
                tasks.spawn(async move { listener.listen(stop).await });
                tasks.spawn(work(worker, since, shutdown.clone()));
            }
            None => {
                let (announcer, stop) = (outbox.clone(), shutdown.begin.clone());
                tasks.spawn(async move { announcer.announce(stop).await });
                let (holder, stop) = (outbox.clone(), shutdown.begin.clone());
                tasks.spawn(async move { hold_queue(&holder, since, &stop).await });
            }
        }
        let result = match door {
            Some((door, settings)) => {
                let api = api(settings, &outbox, readiness, metrics);
                door.serve(http::router(api), &shutdown, grace).await
            }
            None => {
                shutdown.begin.cancelled().await;
                Ok(())
            }
        };
        // Also when the door broke down: what is in flight ends in order.
        shutdown.begin.cancel();
        tasks.close();
        tasks.wait().await;
        outbox.pool().close().await;
        // To the last moment somebody may ask how it is going.
        gone.cancel();
        if let Some(probes) = probes {
            probes.abort();
        }
        tracing::info!("stopped");
        result
    }
}

fn api(settings: &Settings, outbox: &Outbox, readiness: Readiness, metrics: Exposition) -> Api {
    Api {
        outbox: outbox.clone(),
        access: Access::from(&settings.profile),
        sender: settings.sender.as_str().into(),
        readiness,
        metrics,
        limits: settings.limits.clone(),
    }
}

/// Keeps the samples from piling up, and sends probes away once the end begins.
async fn keep_telling(told: Probes, begin: CancellationToken) {
    begin.run_until_cancelled(told.metrics.keep_up()).await;
    told.readiness.stop();
}

async fn tell(door: Door, told: Probes, gone: CancellationToken, grace: Duration) {
    let until = Shutdown { begin: gone, ..Shutdown::default() };
    if let Err(error) = door.serve(http::probes(told), &until, grace).await {
        tracing::error!(%error, "the port of metrics and probes broke down");
    }
}

async fn work(worker: Worker, since: Option<OffsetDateTime>, shutdown: Shutdown) {
    hold_queue(worker.outbox(), since, &shutdown.begin).await;
    let worker = match since {
        Some(since) => worker.holding(since),
        None => worker,
    };
    Arc::new(worker).run(shutdown).await;
}

/// Parks what was accepted before `since`, until nothing of it is left or the end begins.
async fn hold_queue(outbox: &Outbox, since: Option<OffsetDateTime>, stop: &CancellationToken) {
    let Some(since) = since else { return };
    let mut held = 0;
    while let Some(result) = stop.run_until_cancelled(outbox.hold_queue(since, HOLD_AT_ONCE)).await {
        match result {
            Ok(parked) => {
                held += parked.parked;
                if parked.is_all {
                    tracing::warn!(
                        held,
                        "MAIL_HOLD_ON_START: what was in the queue is parked; `facteur held` shows it. Unset the variable now"
                    );
                    return;
                }
                if parked.parked == 0 {
                    // Somebody is at work on what is left.
                    stop.run_until_cancelled(tokio::time::sleep(HOLD_LOCKED)).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the queue could not be parked yet; nothing is sent before that; trying again");
                stop.run_until_cancelled(tokio::time::sleep(HOLD_AGAIN)).await;
            }
        }
    }
}
