use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::outbox::OutboxError;

/// Every error of every route, in one shape: `{"statusCode", "message", "name"}`.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 401, with one text for every cause, so that it teaches nothing.
    #[error(
        "a bearer token is required: Authorization: Bearer <token>; `facteur token --role admin` makes one"
    )]
    Unauthorized,
    /// 403: a good token of a role that may not.
    #[error("this token's role may not do this; admin or system is needed")]
    Forbidden,
    /// 404.
    #[error("{0}")]
    NotFound(&'static str),
    /// 405.
    #[error("this address does not answer to that method")]
    MethodNotAllowed,
    /// 422: a value that is refused, by name.
    #[error("{0}")]
    Invalid(String),
    /// 503: the database is away, or this process is stopping. Nothing was accepted.
    #[error("not now; nothing was accepted, try again in a moment")]
    Unavailable,
    /// 500, with one text for every cause; the cause is logged.
    #[error("something went wrong here; nothing was accepted")]
    Internal,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    status_code: u16,
    message: String,
    name: &'static str,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Unauthorized => "missing_api_key",
            Self::Forbidden => "restricted_api_key",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Invalid(_) => "validation_error",
            Self::Unavailable => "service_unavailable",
            Self::Internal => "internal_server_error",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = Body { status_code: status.as_u16(), message: self.to_string(), name: self.name() };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Self::Unavailable => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2")),
            _ => None,
        };
        response
    }
}

/// Logged here, where it is handled: the caller learns nothing of the inside.
impl From<OutboxError> for ApiError {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::KeyReused | OutboxError::Wiped | OutboxError::Actor => {
                Self::Invalid(error.to_string())
            }
            OutboxError::KeyInFlight => Self::Unavailable,
            error if error.is_passing() => {
                tracing::warn!(%error, "the database is away");
                Self::Unavailable
            }
            error => {
                tracing::error!(%error, "the outbox refused");
                Self::Internal
            }
        }
    }
}

pub(super) async fn not_found() -> ApiError {
    ApiError::NotFound("there is nothing at this address")
}

pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

/// The panic itself was printed by the panic hook.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::Internal.into_response()
}
