//! Request bodies: JSON, of a bounded size, within a bounded time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::ApiError;

/// Bytes of a body: an e-mail's 40 MB as base64, and what a list of byte numbers, which some clients
/// send instead, has over it.
pub(super) const MAX_BODY: usize = 56_000_000;

/// What is too large is read on so far, and thrown away: a client that still writes does not read
/// the answer.
const MAX_WASTE: usize = 256_000_000;

/// The JSON text of a request.
///
/// # Errors
/// Another media type or encoding, too large, too slow, or not UTF-8.
pub(super) async fn json(request: Request, patience: Duration) -> Result<String, ApiError> {
    is_json(request.headers())?;
    let headers = request.headers();
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = declared.is_some_and(|bytes| bytes > MAX_BODY as u64);
    if too_large && headers.contains_key(EXPECT) {
        // It asked first, and has not begun.
        return Err(ApiError::TooLarge { limit: MAX_BODY });
    }
    let read = timeout(patience, read(request.into_body(), too_large)).await;
    let bytes = read.map_err(|_| ApiError::TimedOut)??;
    String::from_utf8(bytes).map_err(|_| ApiError::Malformed("the body is not UTF-8".into()))
}

fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::MediaType("the body must be JSON: Content-Type: application/json"));
    }
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(ApiError::MediaType("the body must not be compressed: no Content-Encoding is accepted"))
        }
        _ => Ok(()),
    }
}

async fn read(body: Body, mut too_large: bool) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut total) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::Malformed("the body ended before it was whole".into()))?;
        total += chunk.len();
        if total > MAX_BODY {
            (too_large, bytes) = (true, Vec::new());
        }
        if !too_large {
            bytes.extend_from_slice(&chunk);
        } else if total > MAX_WASTE {
            break;
        }
    }
    if too_large { Err(ApiError::TooLarge { limit: MAX_BODY }) } else { Ok(bytes) }
}
