//! Errors: one JSON shape under `/api`, one page elsewhere.

use std::any::Any;

use askama::Template;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use super::Desk;
use super::pages::Frame;

/// Why a request got no answer, for the one who asked.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    status: StatusCode,
    name: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into() }
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this address does not take this method",
        )
    }

    pub(super) fn refused_value(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_error", message)
    }

    /// Logs the cause once; the caller is told nothing of it.
    pub(super) fn internal(cause: impl std::error::Error) -> Self {
        tracing::error!(error = %cause, "the inbox could not answer");
        Self::unexplained()
    }

    /// For what the router refuses before a handler sees it, such as a path that is not UTF-8.
    fn of_the_framework(status: StatusCode) -> Option<Self> {
        let failed = status.is_client_error() || status.is_server_error();
        failed.then(|| Self::new(status, "invalid_request", "the request cannot be read"))
    }

    fn unexplained() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_server_error",
            "the inbox could not answer; its log says why",
        )
    }
}

impl IntoResponse for Failure {
    /// Only the status is decided here: `show` knows who asked and writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a panic becomes. Its message may hold a piece of a mail and is not repeated.
pub(super) fn after_panic(_: Box<dyn Any + Send>) -> Response {
    Failure::unexplained().into_response()
}

#[derive(Template)]
#[template(path = "inbox/failure.html")]
struct FailurePage {
    frame: Frame,
    status: u16,
    message: String,
}

/// Writes a failure's body: JSON under `/api`, a page elsewhere.
pub(super) async fn show(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let json = path == "/api" || path.starts_with("/api/");
    let mut response = next.run(request).await;
    let status = response.status();
    let Some(failure) = response.extensions_mut().remove().or_else(|| Failure::of_the_framework(status))
    else {
        return response;
    };
    let shown = if json {
        Json(serde_json::json!({"statusCode": status.as_u16(), "message": failure.message, "name": failure.name})).into_response()
    } else {
        page(&desk, failure)
    };
    // What the failure brought along stays: a 405 names the methods that are allowed.
    let mut headers = std::mem::take(response.headers_mut());
    headers.remove(axum::http::header::CONTENT_LENGTH);
    headers.extend(shown.headers().clone());
    (status, headers, shown.into_body()).into_response()
}

fn page(desk: &Desk, failure: Failure) -> Response {
    let frame = Frame::new(desk, "");
    let page = FailurePage { frame, status: failure.status.as_u16(), message: failure.message };
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "the error page could not be written");
            page.message.into_response()
        }
    }
}
