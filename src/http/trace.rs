//! A span for each request that may hand mail over, under the caller's own trace where it sends one.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::telemetry::{TRACE, continues};

/// Asked for every few seconds, and nobody wants to see them.
const PROBES: [&str; 3] = ["/healthz", "/metrics", "/readyz"];

/// The span's name is method and route, never the address that was asked for: queries hold e-mail addresses.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    if PROBES.contains(&route.as_str()) {
        return next.run(request).await;
    }
    let method = request.method().clone();
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let span = tracing::info_span!(
        target: TRACE,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method.as_str(),
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    continues(&span, parent);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}
