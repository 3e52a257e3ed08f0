//! The files of the page, within the binary: there is nothing to fetch from elsewhere.

use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;

use super::failure::Failure;

/// One of the three.
pub(super) async fn asset(Path(name): Path<String>) -> Result<impl IntoResponse, Failure> {
    let (kind, text) = match name.as_str() {
        "inbox.css" => ("text/css; charset=utf-8", include_str!("../../../assets/inbox/inbox.css")),
        "inbox.js" => ("text/javascript; charset=utf-8", include_str!("../../../assets/inbox/inbox.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../../../assets/inbox/icon.svg")),
        _ => return Err(Failure::not_found("there is no such file")),
    };
    Ok(([(header::CONTENT_TYPE, kind)], text))
}
