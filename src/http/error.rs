use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

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

/// Every error of every route.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599)]
    status_code: u16,
    /// What is wrong and what is accepted, for a person.
    pub(super) message: String,
    #[schema(inline)]
    pub(super) name: Name,
}

/// What is wrong, for a program: the names that the Resend clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Name {
    ValidationError,
    InvalidIdempotencyKey,
    MissingApiKey,
    RestrictedApiKey,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    InvalidIdempotentRequest,
    ConcurrentIdempotentRequests,
    PayloadTooLarge,
    UnsupportedMediaType,
    MissingRequiredField,
    InvalidParameter,
    InvalidAttachment,
    RateLimitExceeded,
    ServiceUnavailable,
    ApplicationError,
}

impl ApiError {
    /// Its status, and its name for clients.
    fn kind(&self) -> (StatusCode, Name) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, Name::ValidationError),
            Self::IdempotencyKey => (StatusCode::BAD_REQUEST, Name::InvalidIdempotencyKey),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, Name::MissingApiKey),
            Self::Forbidden => (StatusCode::FORBIDDEN, Name::RestrictedApiKey),
            Self::Sender(_) => (StatusCode::FORBIDDEN, Name::ValidationError),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, Name::NotFound),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Name::MethodNotAllowed),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, Name::RequestTimeout),
            Self::TooLate(_) => (StatusCode::CONFLICT, Name::ValidationError),
            Self::KeyReused => (StatusCode::CONFLICT, Name::InvalidIdempotentRequest),
            Self::KeyInFlight => (StatusCode::CONFLICT, Name::ConcurrentIdempotentRequests),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Name::PayloadTooLarge),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Name::UnsupportedMediaType),
            Self::Missing(..) => (StatusCode::UNPROCESSABLE_ENTITY, Name::MissingRequiredField),
            Self::Parameter(_) => (StatusCode::UNPROCESSABLE_ENTITY, Name::InvalidParameter),
            Self::Attachment(_) => (StatusCode::UNPROCESSABLE_ENTITY, Name::InvalidAttachment),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, Name::ValidationError),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, Name::RateLimitExceeded),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Name::ServiceUnavailable),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Name::ApplicationError),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// What the caller is told.
    pub(super) fn body(&self) -> ErrorBody {
        let (status, name) = self.kind();
        ErrorBody { status_code: status.as_u16(), message: self.to_string(), name }
    }

    /// One of each kind, as callers meet them: for the OpenAPI document.
    pub(super) fn one_of_each() -> [Self; 20] {
        let text = |text: &str| text.to_owned();
        [
            Self::Malformed(text("the body is not JSON: line 1, column 7: expected value")),
            Self::IdempotencyKey,
            Self::Unauthorized,
            Self::Forbidden,
            Self::Sender(text(
                "from has the domain other.test, and this token may send from example.com only",
            )),
            Self::NotFound("Email not found"),
            Self::MethodNotAllowed,
            Self::TimedOut,
            Self::TooLate("the e-mail has left the queue: it cannot be canceled any more"),
            Self::KeyReused,
            Self::KeyInFlight,
            Self::TooLarge { limit: super::body::MAX_BODY },
            Self::MediaType("the body must be JSON: Content-Type: application/json"),
            Self::Missing(text("to"), "an address or a list of them is expected"),
            Self::Parameter(text("The `id` must be a valid UUID.")),
            Self::Attachment(text("attachments[0] must have a `content`: base64 text, or a list of bytes")),
            Self::Invalid(text("to must have exactly one @, as in ada@example.com")),
            Self::TooMany { seconds: 1 },
            Self::Unavailable,
            Self::Internal,
        ]
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
        let mut response = (self.status(), Json(self.body())).into_response();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_has_each_once() {
        let kinds: Vec<_> = ApiError::one_of_each().iter().map(std::mem::discriminant).collect();
        for (i, kind) in kinds.iter().enumerate() {
            assert!(!kinds[..i].contains(kind), "{i} is there twice");
        }
        // The arms of `kind`: a variant that is added is missed here.
        let arms = include_str!("error.rs").lines().filter(|line| line.contains("=> (StatusCode::")).count();
        assert_eq!(kinds.len(), arms - 1, "and the line that looks for them");
    }
}
