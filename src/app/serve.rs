//! `facteur serve` and `facteur worker`.

use super::doors::Door;
use super::process::Process;
use super::{AppError, signals, worker};
use crate::settings::{Settings, WorkerSettings};

/// Runs the HTTP door, and a worker unless others do that, until a signal; ends within the grace period.
///
/// # Errors
/// A port is taken, the database is away or refuses, TLS cannot be set up.
pub async fn serve(settings: &Settings, with_worker: bool) -> Result<(), AppError> {
    let shutdown = signals::on_signals();
    let door = Door::open(settings.http, "HTTP_PORT").await?;
    let probes = Door::open_if(settings.metrics, "METRICS_PORT").await?;
    let outbox = super::outbox(&settings.database, settings.database.access.api_connections)?;
    super::prepare(&settings.database, &outbox).await?;
    let (ways, pace, domains) = (settings.profile.ways(), &settings.worker, &settings.domains);
    let worker = with_worker.then(|| worker(ways, &settings.database, pace, domains, &outbox)).transpose()?;
    let process = Process {
        outbox,
        door: Some((door, settings)),
        probes,
        worker,
        hold: settings.hold_on_start,
        grace: settings.worker.grace,
    };
    process.announce();
    process.run(shutdown).await
}

/// Runs a worker without the API until a signal, and ends within the grace period.
///
/// # Errors
/// As [`serve`].
pub async fn work(settings: &WorkerSettings) -> Result<(), AppError> {
    let shutdown = signals::on_signals();
    let probes = Door::open_if(settings.metrics, "METRICS_PORT").await?;
    let outbox = super::outbox(&settings.database, settings.database.access.api_connections)?;
    super::prepare(&settings.database, &outbox).await?;
    let worker = worker(&settings.ways, &settings.database, &settings.worker, &settings.domains, &outbox)?;
    let process = Process {
        outbox,
        door: None,
        probes,
        worker: Some(worker),
        hold: settings.hold_on_start,
        grace: settings.worker.grace,
    };
    process.announce();
    process.run(shutdown).await
}
