use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tokio::time::timeout;

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

/// `GET /healthz`: this process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /readyz`: the database answers, and this process is not stopping. Tells how long the
/// oldest due mail has been waiting, which is what moves when a queue does not.
pub(super) async fn ready(State(probes): State<Probes>) -> Result<Json<Value>, ApiError> {
    if probes.readiness.stopping.load(Ordering::Relaxed) {
        return Err(ApiError::Unavailable);
    }
    let waiting = timeout(Duration::from_secs(2), probes.outbox.oldest_due()).await;
    let waiting = waiting.map_err(|_| ApiError::Unavailable)??;
    Ok(Json(json!({"status": "ok", "oldest_due_seconds": waiting.as_secs()})))
}
