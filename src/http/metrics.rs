use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics::gauge;
use tokio::time::timeout;

use super::Probes;
use super::auth::Caller;
use super::openapi::Watching;
use crate::outbox::{Health, Outbox};
use crate::telemetry::families::{
    DATABASE_UP, OLDEST_DUE, OLDEST_SNAPSHOT, OLDEST_SNAPSHOT_TRANSACTIONS, QUEUE, WORKERS_ALIVE,
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Well within the ten seconds that Prometheus waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Metrics
///
/// What this process counted and how the queue looks, in Prometheus's format. Answers also while the
/// database is away.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "Operations", security(("bearer" = [])),
    responses((status = 200, description = "One line a number.", body = String, content_type = "text/plain"), Watching)
)]
pub(super) async fn show(State(probes): State<Probes>, _caller: Caller) -> impl IntoResponse {
    show_to_all(State(probes)).await
}

/// The same on a port of its own, where nobody is asked who they are.
pub(super) async fn show_to_all(State(probes): State<Probes>) -> impl IntoResponse {
    let health = read(&probes.outbox).await;
    probes.outbox.count_connections("api");
    let text = probes.metrics.text(|| tell(health.as_ref()));
    ([(CONTENT_TYPE, TEXT)], text)
}

async fn read(outbox: &Outbox) -> Option<Health> {
    match timeout(PATIENCE, outbox.health()).await {
        Ok(Ok(health)) => Some(health),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the queue could not be looked at");
            None
        }
        Err(_) => {
            tracing::warn!("the queue could not be looked at: the database does not answer");
            None
        }
    }
}

fn tell(health: Option<&Health>) {
    gauge!(DATABASE_UP).set(if health.is_some() { 1.0 } else { 0.0 });
    let Some(health) = health else { return };
    let states = [
        ("queued_due", Some(health.due)),
        ("scheduled", Some(health.scheduled)),
        ("sending", Some(health.sending)),
        ("unknown", health.unknown),
    ];
    for (state, deliveries) in states {
        if let Some(deliveries) = deliveries {
            gauge!(QUEUE, "state" => state).set(deliveries as f64);
        }
    }
    gauge!(OLDEST_DUE).set(health.oldest_due.as_secs_f64());
    gauge!(OLDEST_SNAPSHOT).set(health.oldest_snapshot.as_secs_f64());
    gauge!(OLDEST_SNAPSHOT_TRANSACTIONS).set(health.oldest_snapshot_transactions as f64);
    gauge!(WORKERS_ALIVE).set(health.workers_alive as f64);
}
