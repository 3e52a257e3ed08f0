//! The HTTP door: one file per resource, one error type, one way to ask who is calling.

mod attachment_request;
mod attachments;
mod auth;
mod batch;
mod body;
mod by_hand;
mod docs;
mod email_answer;
mod email_list;
mod email_request;
mod emails;
mod error;
mod fetch;
mod fields;
mod health;
mod idempotency;
mod jwt;
mod metrics;
mod moment;
mod openapi;
mod peer;
mod place;
mod plain_text;
mod rate;
mod test_email;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRef, MatchedPath, Request};
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;

use crate::outbox::Outbox;
use crate::settings::Limits;
use crate::telemetry::Exposition;
pub use auth::Access;
pub use error::ApiError;
pub use fetch::{Fetcher, Internet, Reach};
pub use health::Readiness;
pub use jwt::{Bearer, Role, TokenError, mint, mint_for};

/// What every handler may use.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where mail goes.
    pub outbox: Outbox,
    /// Who may call.
    pub access: Access,
    /// The sender of the test mail.
    pub sender: Arc<str>,
    /// Whether this process still takes mail.
    pub readiness: Readiness,
    /// What this process counted.
    pub metrics: Exposition,
    /// What one caller may do.
    pub limits: Limits,
}

/// What probes and metrics tell of.
#[derive(Debug, Clone)]
pub struct Probes {
    /// The queue.
    pub outbox: Outbox,
    /// Whether this process is stopping.
    pub readiness: Readiness,
    /// What this process counted.
    pub metrics: Exposition,
}

impl FromRef<Api> for Probes {
    fn from_ref(api: &Api) -> Self {
        let Api { outbox, readiness, metrics, .. } = api.clone();
        Self { outbox, readiness, metrics }
    }
}

/// All routes.
pub fn router(api: Api) -> Router {
    let fetcher = Fetcher::new(api.limits.fetching);
    router_with(api, fetcher)
}

/// All routes, with attachments fetched from where a test has them.
pub fn router_with(api: Api, fetcher: Fetcher) -> Router {
    let rates = rate::Rates::default();
    let meter = rate::Meter {
        access: api.access.clone(),
        rate: api.limits.rate,
        rates: rates.clone(),
        hops: api.limits.trusted_hops,
    };
    let routes = Router::new()
        .route("/api/test-email", post(test_email::create))
        .route("/docs", get(docs::show))
        .route("/emails", get(email_list::list).post(emails::create))
        .route("/emails/batch", post(batch::create))
        .route("/emails/{id}", get(emails::show).patch(emails::reschedule))
        .route("/emails/{id}/attachments", get(attachments::list))
        .route("/emails/{id}/attachments/{attachment}", get(attachments::show))
        .route("/emails/{id}/attachments/{attachment}/content", get(attachments::download))
        .route("/emails/{id}/cancel", post(emails::cancel))
        .route("/emails/{id}/give-up", post(by_hand::give_up))
        .route("/emails/{id}/retry", post(by_hand::retry))
        .route("/healthz", get(health::live))
        .route("/metrics", get(metrics::show))
        .route("/openapi.json", get(openapi::show))
        .route("/readyz", get(health::ready))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn_with_state(meter, rate::count))
        .layer(Extension(rates))
        .layer(Extension(fetcher))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn(log))
        .layer(middleware::from_fn(trace::trace))
        .layer(middleware::from_fn(to_the_end))
        .with_state(api);
    // Outside, where the route is not chosen yet.
    Router::new().fallback_service(routes).layer(middleware::map_request(one_slash))
}

/// Probes and metrics alone, for a port of their own: whoever reaches it is asked for no token.
pub fn probes(probes: Probes) -> Router {
    Router::new()
        .route("/healthz", get(health::live))
        .route("/metrics", get(metrics::show_to_all))
        .route("/readyz", get(health::ready))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn(to_the_end))
        .with_state(probes)
}

/// `//emails` for `/emails`: some clients join a base URL and a path, each with a slash of its own.
async fn one_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    if !path.starts_with("//") {
        return request;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("/{}{query}", path.trim_start_matches('/')).parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

/// Carries each request out to its end, also when its client hangs up: a handler that is dropped
/// takes the database connection that it was just opening or checking along, and a few clients that
/// come and go would leave none to the others.
async fn to_the_end(request: Request, next: Next) -> Response {
    let answer = tokio::spawn(next.run(request)).await;
    // A panic was caught further in: the task ends early only with the whole process.
    answer.unwrap_or_else(|_| ApiError::Unavailable.into_response())
}

/// One line a request, with the route and never the address that was asked for: queries hold e-mail addresses.
async fn log(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    tracing::debug!(
        %method,
        route = route.as_deref().unwrap_or("none"),
        status = response.status().as_u16(),
        ms = begun.elapsed().as_millis() as u64,
        "answered"
    );
    response
}

/// A base URL for people: `http://localhost:8000` for a loopback address.
pub fn base_url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() || v4.ip().is_unspecified() => {
            format!("http://localhost:{}", v4.port())
        }
        other => format!("http://{other}"),
    }
}
