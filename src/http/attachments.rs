//! `/emails/{id}/attachments`: the files of an e-mail.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HOST, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::auth::Caller;
use super::emails::visible;
use super::openapi::{AttachmentNumber, Bytes, Disposition, Id, ObjectAttachment, ObjectList, Reading};
use super::place::Place;
use super::{Api, ApiError, moment};
use crate::email::EmailId;
use crate::outbox::AttachmentView;

const UNKNOWN: ApiError = ApiError::NotFound("Attachment not found");
const SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");

/// A file of an e-mail.
#[derive(Serialize, ToSchema)]
#[schema(as = Attachment)]
pub(super) struct File {
    /// Its place among the e-mail's files, from 0.
    id: String,
    filename: String,
    /// In bytes.
    size: u32,
    content_type: String,
    #[schema(value_type = Disposition)]
    content_disposition: &'static str,
    /// Set when it is shown inline.
    #[schema(required)]
    content_id: Option<String>,
    /// Wants the token too.
    download_url: String,
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
}

/// The files of an e-mail.
#[derive(Serialize, ToSchema)]
#[schema(as = AttachmentList)]
pub(super) struct List {
    #[schema(value_type = ObjectList, inline)]
    object: &'static str,
    has_more: bool,
    data: Vec<File>,
}

/// One file of an e-mail.
#[derive(Serialize, ToSchema)]
#[schema(as = OneAttachment)]
pub(super) struct One {
    #[schema(value_type = ObjectAttachment, inline)]
    object: &'static str,
    #[serde(flatten)]
    file: File,
}

/// List attachments
///
/// All of them, without their content.
#[utoipa::path(
    get, path = "/emails/{id}/attachments", operation_id = "list_attachments", tag = "Attachments",
    security(("bearer" = [])),
    params(("id" = inline(Id), Path, description = "The e-mail's id.")),
    responses(
        (status = 200, description = "The files.", body = List,
         links(
            ("one" = (operation_id = "get_attachment", parameters(
                ("id" = "$request.path.id"), ("attachment" = "$response.body#/data/0/id")))),
            ("bytes" = (operation_id = "download_attachment", parameters(
                ("id" = "$request.path.id"), ("attachment" = "$response.body#/data/0/id")))),
         ),
         example = json!({
            "object": "list", "has_more": false, "data": [{
                "id": "0", "filename": "order.txt", "size": 5, "content_type": "text/plain; charset=utf-8",
                "content_disposition": "attachment", "content_id": null,
                "download_url": "http://localhost:8000/emails/01a20465-e8e1-77c8-8dd7-5f3c3711aa36/attachments/0/content",
                "expires_at": "2026-04-03T23:13:42Z",
            }],
        })),
        Reading,
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Place(id): Place<String>,
) -> Result<Json<List>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let files = api.outbox.attachments(id).await?;
    let base = base(&caller, &headers);
    let data = files.iter().map(|file| File::of(id, file, &base)).collect();
    Ok(Json(List { object: "list", has_more: false, data }))
}

/// Look at an attachment
///
/// One of them, without its content.
#[utoipa::path(
    get, path = "/emails/{id}/attachments/{attachment}", operation_id = "get_attachment", tag = "Attachments",
    security(("bearer" = [])),
    params(
        ("id" = inline(Id), Path, description = "The e-mail's id."),
        ("attachment" = inline(AttachmentNumber), Path, description = "The attachment's id, from 0."),
    ),
    responses(
        (status = 200, description = "The file.", body = One, example = json!({
            "object": "attachment", "id": "0", "filename": "order.txt", "size": 5,
            "content_type": "text/plain; charset=utf-8", "content_disposition": "attachment", "content_id": null,
            "download_url": "http://localhost:8000/emails/01a20465-e8e1-77c8-8dd7-5f3c3711aa36/attachments/0/content",
            "expires_at": "2026-04-03T23:13:42Z",
        })),
        Reading,
    )
)]
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Place((id, attachment)): Place<(String, String)>,
) -> Result<Json<One>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let position: i16 = attachment.parse().map_err(|_| UNKNOWN)?;
    let files = api.outbox.attachments(id).await?;
    let file = files.iter().find(|file| file.position == position).ok_or(UNKNOWN)?;
    Ok(Json(One { object: "attachment", file: File::of(id, file, &base(&caller, &headers)) }))
}

/// Download an attachment
///
/// Its bytes, to be saved and never to be shown.
#[utoipa::path(
    get, path = "/emails/{id}/attachments/{attachment}/content", operation_id = "download_attachment",
    tag = "Attachments", security(("bearer" = [])),
    params(
        ("id" = inline(Id), Path, description = "The e-mail's id."),
        ("attachment" = inline(AttachmentNumber), Path, description = "The attachment's id, from 0."),
    ),
    responses(
        (status = 200, description = "The bytes.", body = inline(Bytes), content_type = "application/octet-stream",
         headers(("content-disposition" = String, description = "`attachment`, with the file's name."))),
        Reading,
    )
)]
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

impl File {
    fn of(id: EmailId, file: &AttachmentView, base: &str) -> Self {
        let position = file.position;
        Self {
            id: position.to_string(),
            filename: file.filename.clone(),
            size: file.size,
            content_type: file.content_type.clone(),
            content_disposition: if file.content_id.is_some() { "inline" } else { "attachment" },
            content_id: file.content_id.clone(),
            download_url: format!("{base}/emails/{id}/attachments/{position}/content"),
            // The address needs the token and no time: this is how long the answer may be relied on.
            expires_at: moment::format(OffsetDateTime::now_utc() + Duration::HOUR),
        }
    }
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
