use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::email::{InvalidEmail, Problem};
use crate::outbox::OutboxError;

/// Every error of every route, in one shape: `{"statusCode", "message", "name"}`.
///
/// The names are those that the Resend clients know.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: not what the route can read at all.
    #[error("{0}")]
    Malformed(String),
    /// 400.
    #[error("Idempotency-Key must have between 1 and 256 characters, printable ASCII, and be given once")]
    IdempotencyKey,
    /// 401, with one text for every cause, so that it teaches nothing.
    #[error(
        "a bearer token is required: Authorization: Bearer <token>; `facteur token --role admin` makes one"
    )]
    Unauthorized,
    /// 403: a good token of a role that may not.
    #[error("this token's role may not do this; system sends and reads what it sent, admin does the rest")]
    Forbidden,
    /// 403: a sender that the token is not for.
    #[error("{0}")]
    Sender(String),
    /// 404.
    #[error("{0}")]
    NotFound(&'static str),
    /// 405.
    #[error("this address does not answer to that method")]
    MethodNotAllowed,
    /// 408.
    #[error("the request did not arrive in time; nothing was accepted")]
    TimedOut,
    /// 409: the e-mail is no longer where that can be done.
    #[error("{0}")]
    TooLate(&'static str),
    /// 409.
    #[error(
        "this idempotency key was used here within the last 24 hours with another request body; nothing was accepted"
    )]
    KeyReused,
    /// 409, for a moment.
    #[error("another request with this idempotency key has not ended yet; try again in a moment")]
    KeyInFlight,
    /// 413.
    #[error("the request's body is too large: {limit} bytes at most, attachments as base64 included")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// 415.
    #[error("{0}")]
    MediaType(&'static str),
    /// 422: a field that must be there, and what is expected.
    #[error("Missing `{0}` field: {1}")]
    Missing(String, &'static str),
    /// 422: something in the address.
    #[error("{0}")]
    Parameter(String),
    /// 422: a file that is refused, by name.
    #[error("{0}")]
    Attachment(String),
    /// 422: a value that is refused, by name.
    #[error("{0}")]
    Invalid(String),
    /// 429.
    #[error("too many requests; try again in {seconds} s")]
    TooMany {
        /// How long to wait.
        seconds: u64,
    },
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
    /// Its status, and its name for clients.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "validation_error"),
            Self::IdempotencyKey => (StatusCode::BAD_REQUEST, "invalid_idempotency_key"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "missing_api_key"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "restricted_api_key"),
            Self::Sender(_) => (StatusCode::FORBIDDEN, "validation_error"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::TooLate(_) => (StatusCode::CONFLICT, "validation_error"),
            Self::KeyReused => (StatusCode::CONFLICT, "invalid_idempotent_request"),
            Self::KeyInFlight => (StatusCode::CONFLICT, "concurrent_idempotent_requests"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::Missing(..) => (StatusCode::UNPROCESSABLE_ENTITY, "missing_required_field"),
            Self::Parameter(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter"),
            Self::Attachment(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_attachment"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "validation_error"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "application_error"),
        }
    }

    /// The same error, of one e-mail of a batch.
    pub(super) fn of_item(self, index: usize) -> Self {
        let at = |text: String| format!("emails[{index}]: {text}");
        match self {
            Self::Malformed(text) => Self::Malformed(at(text)),
            Self::Sender(text) => Self::Sender(at(text)),
            Self::Missing(field, expected) => Self::Missing(format!("emails[{index}].{field}"), expected),
            Self::Attachment(text) => Self::Attachment(at(text)),
            Self::Invalid(text) => Self::Invalid(at(text)),
            other => other,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, name) = self.kind();
        let body = Body { status_code: status.as_u16(), message: self.to_string(), name };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Self::Unavailable => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2")),
            Self::KeyInFlight => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
            Self::TooMany { seconds } => headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds)),
            _ => None,
        };
        response
    }
}

impl From<InvalidEmail> for ApiError {
    fn from(error: InvalidEmail) -> Self {
        match &error.problem {
            Problem::Attachment(_) => Self::Attachment(error.to_string()),
            _ => Self::Invalid(error.to_string()),
        }
    }
}

/// Logged here, where it is handled: the caller learns nothing of the inside.
impl From<OutboxError> for ApiError {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Wiped => {
                Self::TooLate("the e-mail's content was wiped when it ended; it cannot be sent again")
            }
            OutboxError::Actor => Self::Invalid(error.to_string()),
            OutboxError::KeyReused => Self::KeyReused,
            OutboxError::KeyInFlight => Self::KeyInFlight,
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
