//! `/emails/{id}/attachments`: the files of an e-mail.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HOST, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::auth::Caller;
use super::emails::visible;
use super::place::Place;
use super::{Api, ApiError, moment};
use crate::email::EmailId;
use crate::outbox::AttachmentView;

const UNKNOWN: ApiError = ApiError::NotFound("Attachment not found");
const SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");

/// `GET /emails/{id}/attachments`: all of them, without their content.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Place(id): Place<String>,
) -> Result<Json<Value>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let files = api.outbox.attachments(id).await?;
    let base = base(&caller, &headers);
    let data: Vec<Value> = files.iter().map(|file| wire(id, file, &base)).collect();
    Ok(Json(json!({ "object": "list", "has_more": false, "data": data })))
}

/// `GET /emails/{id}/attachments/{attachment}`: one of them.
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Place((id, attachment)): Place<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let position: i16 = attachment.parse().map_err(|_| UNKNOWN)?;
    let files = api.outbox.attachments(id).await?;
    let file = files.iter().find(|file| file.position == position).ok_or(UNKNOWN)?;
    let mut body = wire(id, file, &base(&caller, &headers));
    body["object"] = "attachment".into();
    Ok(Json(body))
}

/// `GET /emails/{id}/attachments/{attachment}/content`: its bytes, to be saved and never to be shown.
pub(super) async fn download(
    State(api): State<Api>,
    caller: Caller,
    Place((id, attachment)): Place<(String, String)>,
) -> Result<impl IntoResponse, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let position: i16 = attachment.parse().map_err(|_| UNKNOWN)?;
    let file = api.outbox.attachment(id, position).await?.ok_or(UNKNOWN)?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename*=UTF-8''{}", percent(&file.filename))),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
        (CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, file.content))
}

/// RFC 8187: what is not plainly a letter or a digit is written in hexadecimal.
fn percent(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Where the caller reached this, as far as it can be known: production is behind TLS.
fn base(caller: &Caller, headers: &HeaderMap) -> String {
    let scheme = if caller.in_development() { "http" } else { "https" };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.map(|host| format!("{scheme}://{host}")).unwrap_or_default()
}

fn wire(id: EmailId, file: &AttachmentView, base: &str) -> Value {
    let position = file.position;
    json!({
        "id": position.to_string(),
        "filename": file.filename,
        "size": file.size,
        "content_type": file.content_type,
        "content_disposition": if file.content_id.is_some() { "inline" } else { "attachment" },
        "content_id": file.content_id,
        "download_url": format!("{base}/emails/{id}/attachments/{position}/content"),
        // The address needs the token and no time: this is how long the answer may be relied on.
        "expires_at": moment::format(OffsetDateTime::now_utc() + Duration::HOUR),
    })
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(percent("a\"; filename=\"b\r\n.pdf"), "a%22%3B%20filename%3D%22b%0D%0A.pdf");
        assert_eq!(percent("été.pdf"), "%C3%A9t%C3%A9.pdf");
    }
}
