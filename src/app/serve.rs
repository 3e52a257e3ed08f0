use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::doors::Door;
use super::{AppError, signals, worker};
use crate::delivery::{Shutdown, Worker};
use crate::http::{self, Access, Api, Readiness};
use crate::outbox::Outbox;
use crate::settings::Settings;
use crate::telemetry::Exposition;

/// Which parts of Facteur a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// The HTTP door and a worker.
    All,
    /// The HTTP door alone.
    DoorOnly,
    /// A worker alone.
    WorkerOnly,
}

/// Runs until a signal, and ends within the grace period.
///
/// # Errors
/// A port is taken, the database is away or refuses, TLS cannot be set up.
pub async fn serve(settings: &Settings, parts: Parts) -> Result<(), AppError> {
    let shutdown = signals::on_signals();
    let door = match parts {
        Parts::All | Parts::DoorOnly => Some(Door::open(settings.http, "HTTP_PORT").await?),
        Parts::WorkerOnly => None,
    };
    let outbox = super::outbox(&settings.database, settings.database.access.api_connections)?;
    super::prepare(&settings.database, &outbox).await?;
    let worker = match parts {
        Parts::All | Parts::WorkerOnly => Some(worker(settings, &outbox)?),
        Parts::DoorOnly => None,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        address = door.as_ref().map(|d| d.address.to_string()),
        worker = worker.is_some(),
        "ready"
    );
    run(settings, outbox, door, worker, shutdown).await
}

/// Everything at once until `shutdown`: the door closes first, then the worker ends its mails.
pub(super) async fn run(
    settings: &Settings,
    outbox: Outbox,
    door: Option<Door>,
    worker: Option<Arc<Worker>>,
    shutdown: Shutdown,
) -> Result<(), AppError> {
    // Before anything is counted. Without a door nobody could ask for it.
    let metrics = if door.is_some() { Exposition::install()? } else { Exposition::default() };
    let tasks = TaskTracker::new();
    match worker {
        Some(worker) => {
            let listener = worker.outbox().clone();
            let stop = shutdown.begin.clone();
            tasks.spawn(async move { listener.listen(stop).await });
            tasks.spawn(worker.run(shutdown.clone()));
        }
        None => {
            let (announcer, stop) = (outbox.clone(), shutdown.begin.clone());
            tasks.spawn(async move { announcer.announce(stop).await });
        }
    }
    let result = match door {
        Some(door) => answer(settings, &outbox, door, metrics, &shutdown).await,
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
    tracing::info!("stopped");
    result
}

async fn answer(
    settings: &Settings,
    outbox: &Outbox,
    door: Door,
    metrics: Exposition,
    shutdown: &Shutdown,
) -> Result<(), AppError> {
    let readiness = Readiness::default();
    let api = Api {
        outbox: outbox.clone(),
        access: Access::from(&settings.profile),
        sender: settings.sender.as_str().into(),
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        limits: settings.limits.clone(),
    };
    let begin = shutdown.begin.clone();
    tokio::spawn(async move {
        begin.run_until_cancelled(metrics.keep_up()).await;
        readiness.stop();
    });
    door.serve(http::router(api), shutdown, settings.worker.grace).await
}
