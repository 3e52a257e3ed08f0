//! The JSON for tests.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::super::store::Entry;
use super::failure::Failure;
use super::query::{self, Pairs};
use super::{Desk, Opened};

/// A mail on the list.
#[derive(Serialize)]
pub(super) struct Listed {
    id: Uuid,
    /// `From` as the mail says it; the envelope's sender when it does not.
    from: String,
    /// The envelope's recipients, `Bcc` among them.
    to: Vec<String>,
    subject: String,
    received_at: String,
    size: usize,
    unread: bool,
    attachment_count: usize,
}

/// A mail with its content.
#[derive(Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    listed: Listed,
    envelope_from: String,
    text: Option<String>,
    html: Option<String>,
    headers: Vec<HeaderField>,
    attachments: Vec<AttachmentLink>,
    raw_url: String,
}

#[derive(Serialize)]
struct HeaderField {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct AttachmentLink {
    name: String,
    content_type: String,
    content_id: Option<String>,
    size: usize,
    url: String,
}

/// `GET /api/messages`, newest first.
pub(super) async fn list(State(desk): State<Desk>, pairs: Pairs) -> Result<Json<Vec<Listed>>, Failure> {
    let [search] = query::take(pairs, ["q"])?;
    let entries = desk.store.list(&search.unwrap_or_default());
    Ok(Json(entries.iter().map(listed).collect()))
}

/// `GET /api/messages/{id}`. Reading by a program leaves the mail unread.
pub(super) async fn one(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Detail>, Failure> {
    Ok(Json(detail(desk.open(&id).await?, &headers)))
}

/// `GET /api/messages/{id}/raw`: the bytes as received.
pub(super) async fn raw(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let opened = desk.open(&id).await?;
    let disposition = format!("attachment; filename=\"{}.eml\"", opened.entry.summary.id);
    Ok((
        [(header::CONTENT_TYPE, "message/rfc822".to_owned()), (header::CONTENT_DISPOSITION, disposition)],
        opened.raw,
    ))
}

/// `DELETE /api/messages`.
pub(super) async fn clear(State(desk): State<Desk>) -> Result<StatusCode, Failure> {
    desk.clear().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The detail of a mail, with URLs under the host that the caller used.
pub(super) fn detail(opened: Opened, headers: &HeaderMap) -> Detail {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let id = opened.entry.summary.id;
    let link = |(place, attachment): (usize, super::super::reading::Attachment)| AttachmentLink {
        size: attachment.content.len(),
        url: format!("http://{host}/messages/{id}/attachments/{}", place + 1),
        name: attachment.name,
        content_type: attachment.content_type,
        content_id: attachment.content_id,
    };
    let reading = opened.reading;
    Detail {
        listed: listed(&opened.entry),
        envelope_from: opened.entry.summary.envelope.from.clone(),
        text: reading.text,
        html: reading.html,
        headers: reading
            .headers
            .into_iter()
            .map(|field| HeaderField { name: field.name, value: field.value })
            .collect(),
        attachments: reading.attachments.into_iter().enumerate().map(link).collect(),
        raw_url: format!("http://{host}/api/messages/{id}/raw"),
    }
}

fn listed(entry: &Entry) -> Listed {
    let summary = &entry.summary;
    Listed {
        id: summary.id,
        from: summary.from.clone(),
        to: summary.envelope.to.clone(),
        subject: summary.subject.clone(),
        received_at: received_at(entry),
        size: summary.size,
        unread: entry.unread,
        attachment_count: summary.attachments,
    }
}

/// RFC 3339, in UTC.
pub(super) fn received_at(entry: &Entry) -> String {
    // An id that somebody else wrote may be of a year that has five digits.
    entry.summary.received_at().format(&Rfc3339).unwrap_or_default()
}
