//! `facteur serve` and `facteur worker`.

use super::doors::Door;
use super::process::Process;
use super::{AppError, signals, worker};
use crate::delivery::Shutdown;
use crate::settings::{Settings, WorkerSettings};

/// Runs the HTTP door, and a worker unless others do that, until a signal; ends within the grace period.
///
/// # Errors
/// A port is taken, the database is away or refuses, TLS cannot be set up.
pub async fn serve(settings: &Settings, with_worker: bool) -> Result<(), AppError> {
    let shutdown = signals::on_signals();
    let door = Door::open(settings.http, "HTTP_PORT").await?;
    run(Some((door, settings)), &WorkerSettings::from(settings), with_worker, shutdown).await
}

/// Runs a worker without the API until a signal, and ends within the grace period.
///
/// # Errors
/// As [`serve`].
pub async fn work(settings: &WorkerSettings) -> Result<(), AppError> {
    let shutdown = signals::on_signals();
    run(None, settings, true, shutdown).await
}

async fn run(
    door: Option<(Door, &Settings)>,
    settings: &WorkerSettings,
    with_worker: bool,
    shutdown: Shutdown,
) -> Result<(), AppError> {
    let probes = Door::open_if(settings.metrics, "METRICS_PORT").await?;
    let outbox = super::outbox(&settings.database, settings.database.access.api_connections)?;
    super::prepare(&settings.database, &outbox).await?;
    let worker = with_worker.then(|| worker(settings, &outbox)).transpose()?;
    let (hold, grace) = (settings.hold_on_start, settings.worker.grace);
    let process = Process { outbox, door, probes, worker, hold, grace };
    process.announce();
    process.run(shutdown).await
}
