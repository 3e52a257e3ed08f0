use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::openapi::Probing;
use super::{ApiError, Probes};

/// Whether this process still takes mail; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// From here on probes are told to send nobody here.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// This process answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Alive {
    status: &'static str,
}

/// This process takes mail.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    status: &'static str,
    /// How long the oldest due e-mail has been waiting: what moves when a queue does not.
    oldest_due_seconds: u64,
}

/// Does this process answer?
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "Operations",
    responses((status = 200, description = "It does.", body = Alive, example = json!({"status": "ok"})))
)]
pub(super) async fn live() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Does this process take mail?
///
/// The database answers, and this process is not stopping.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "Operations",
    responses(
        (status = 200, description = "It does.", body = Ready, example = json!({"status": "ok", "oldest_due_seconds": 0})),
        Probing,
    )
)]
pub(super) async fn ready(State(probes): State<Probes>) -> Result<Json<Ready>, ApiError> {
    if probes.readiness.stopping.load(Ordering::Relaxed) {
        return Err(ApiError::Unavailable);
    }
    let waiting = timeout(Duration::from_secs(2), probes.outbox.oldest_due()).await;
    let waiting = waiting.map_err(|_| ApiError::Unavailable)??;
    Ok(Json(Ready { status: "ok", oldest_due_seconds: waiting.as_secs() }))
}
