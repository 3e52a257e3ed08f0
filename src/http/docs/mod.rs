//! `/docs`: the OpenAPI document for people, rendered here; nothing is loaded and nothing runs.

mod curl;
mod page;
mod words;

use std::sync::LazyLock;

use askama::Template;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::openapi::{Open, document};
use super::{Access, Api, ApiError};
use page::Page;

const CSS: &str = include_str!("../../../assets/docs/docs.css");

/// The one style sheet is within the page, and known by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, CSS.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// The OpenAPI document as a page
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "Operations",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"), Open)
)]
pub(super) async fn show(State(api): State<Api>, headers: HeaderMap) -> Result<Response, ApiError> {
    let open = matches!(api.access, Access::Open);
    let page = Page::of(document(&api.access), CSS, &base(&headers, open), open).render();
    let page = page.map_err(|error| {
        tracing::error!(%error, "the page of the API cannot be made");
        ApiError::Internal
    })?;
    let rules: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, &POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    Ok((rules, Html(page)).into_response())
}

/// Where the reader reached this: production is behind TLS. A host that is none is not repeated.
fn base(headers: &HeaderMap, open: bool) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| host.bytes().all(plain)).unwrap_or("localhost:8000");
    format!("{}://{host}", if open { "http" } else { "https" })
}
