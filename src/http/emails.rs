//! `/emails`: what the Resend clients call.

use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::auth::Caller;
use super::fetch::{Draft, Fetcher};
use super::fields::{Raw, object};
use super::place::Place;
use super::{Api, ApiError, body, email_answer, email_request, idempotency};
use crate::email::EmailId;
use crate::outbox::{Enqueued, Origin, Page};

const UNKNOWN: ApiError = ApiError::NotFound("Email not found");

/// `POST /emails`: queues one e-mail.
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Extension(fetcher): Extension<Fetcher>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency::key(&headers)?;
    let json = body::json(request, api.limits.request_timeout).await?;
    let (draft, origin) = read(json, key.clone(), caller).await?;
    let enqueued = match draft {
        Ok(draft) => {
            let earlier = earlier(&api, key.filter(|_| draft.lacks_files()), &origin).await?;
            match earlier.and_then(|ids| ids.first().copied()) {
                Some(id) => Enqueued { id, created: false },
                None => {
                    let email = fetcher.complete(vec![draft]).await.pop().ok_or(ApiError::Internal)??;
                    api.outbox.enqueue_from(&email, &origin).await?
                }
            }
        }
        // What was good the first time may be refused now, its moment having passed.
        Err(refused) => Enqueued { id: replay(&api, key, &origin, refused).await?, created: false },
    };
    Ok(accepted(&json!({ "id": enqueued.id }), !enqueued.created))
}

/// Before files are fetched: what the key stands for already. Nothing is fetched for an answer that is there.
pub(super) async fn earlier(
    api: &Api,
    key: Option<String>,
    origin: &Origin,
) -> Result<Option<Vec<EmailId>>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match api.outbox.find_key(&key, origin).await? {
        Some((ids, true)) => Ok(Some(ids)),
        Some((_, false)) => Err(ApiError::KeyReused),
        None => Ok(None),
    }
}

/// The e-mail that was asked for, or why not, and who asks. Decoding and making a text take a while: not
/// on a thread that answers.
async fn read(
    json: String,
    key: Option<String>,
    caller: Caller,
) -> Result<(Result<Draft, ApiError>, Origin), ApiError> {
    let reading = tokio::task::spawn_blocking(move || {
        let now = OffsetDateTime::now_utc();
        let draft = email_request::compose(&json, "the body", key.as_deref(), &caller, now);
        let request = key.map(|_| idempotency::fingerprint(&json));
        (draft, Origin { caller: Some(caller.name().to_owned()), request, batch: false })
    });
    // A panic; its own hook has printed it.
    reading.await.map_err(|_| ApiError::Internal)
}

/// The e-mail that this very request made before; otherwise it is refused for what it is.
async fn replay(
    api: &Api,
    key: Option<String>,
    origin: &Origin,
    refused: ApiError,
) -> Result<EmailId, ApiError> {
    let Some(key) = key else { return Err(refused) };
    match api.outbox.find_key(&key, origin).await? {
        Some((ids, true)) => ids.first().copied().ok_or(refused),
        _ => Err(refused),
    }
}

/// 200, and whether it is an earlier answer.
pub(super) fn accepted(body: &Value, replayed: bool) -> Response {
    let mut answer = Json(body).into_response();
    if replayed {
        answer.headers_mut().insert(idempotency::REPLAYED, axum::http::HeaderValue::from_static("true"));
    }
    answer
}

#[derive(Deserialize)]
pub(super) struct Cursor {
    limit: Option<String>,
    after: Option<String>,
    before: Option<String>,
}

/// `GET /emails`: one page, newest first.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    cursor: Result<Query<Cursor>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let refused = |text: &str| ApiError::Invalid(text.to_owned());
    let cursor = cursor.map_err(|_| refused("the query must be limit, after or before, each once"))?.0;
    if cursor.after.is_some() && cursor.before.is_some() {
        return Err(refused("after and before exclude each other: give one of them"));
    }
    let limit = cursor.limit.map_or(Some(20), |text| text.parse().ok().filter(|n| (1..=100).contains(n)));
    let limit = limit.ok_or_else(|| refused("limit must be a number from 1 to 100"))?;
    let id = |name, text: Option<String>| text.map(|text| parse_id(name, &text)).transpose();
    let (after, before) = (id("after", cursor.after)?, id("before", cursor.before)?);
    let page = Page { limit, after, before, sent_by: caller.sees() };
    let (emails, has_more) = api.outbox.list(page).await?;
    let data: Vec<Value> = emails.iter().map(email_answer::summary).collect();
    Ok(Json(json!({ "object": "list", "has_more": has_more, "data": data })))
}

fn parse_id(name: &str, text: &str) -> Result<EmailId, ApiError> {
    text.parse().map_err(|_| ApiError::Parameter(format!("The `{name}` must be a valid UUID.")))
}

/// The e-mail of an address, if the caller may see it: who may not is told what everybody is told of
/// one that does not exist.
pub(super) async fn visible(api: &Api, caller: &Caller, id: &str) -> Result<EmailId, ApiError> {
    let id = parse_id("id", id)?;
    let sent_by = api.outbox.sent_by(id).await?.ok_or(UNKNOWN)?;
    match caller.sees() {
        Some(name) if sent_by.as_deref() != Some(name) => Err(UNKNOWN),
        _ => Ok(id),
    }
}

/// `GET /emails/{id}`: what was handed over, where it is, and what happened to it.
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Value>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let email = api.outbox.find(id).await?.ok_or(UNKNOWN)?;
    let events = api.outbox.events(id).await?;
    Ok(Json(email_answer::whole(&email, &events)))
}

/// `POST /emails/{id}/cancel`: withdraws what is still queued. Twice is once.
pub(super) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Value>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let found = api.outbox.cancel(id).await?.ok_or(UNKNOWN)?;
    if found.cancelled == 0 && !is_withdrawn(&api, id).await? {
        return Err(ApiError::TooLate(if found.sending > 0 {
            "the e-mail is being sent at this moment; it will not be tried again"
        } else if found.unknown > 0 {
            "an attempt may have sent the e-mail already: it cannot be called back"
        } else {
            "the e-mail has left the queue: it cannot be canceled any more"
        }));
    }
    Ok(Json(json!({ "object": "email", "id": id })))
}

async fn is_withdrawn(api: &Api, id: EmailId) -> Result<bool, ApiError> {
    let deliveries = api.outbox.deliveries(id).await?;
    Ok(deliveries.iter().all(|delivery| delivery.state == "cancelled"))
}

/// `PATCH /emails/{id}`: another moment for what was not tried yet.
pub(super) async fn reschedule(
    State(api): State<Api>,
    caller: Caller,
    Place(id): Place<String>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow, default)]
        scheduled_at: Raw<'a>,
    }
    let json = body::json(request, api.limits.request_timeout).await?;
    let fields: Fields<'_> = object(&json, "the body")?;
    let at = email_request::scheduled_at(fields.scheduled_at, OffsetDateTime::now_utc())?;
    let at = at.ok_or_else(|| ApiError::Missing("scheduled_at".into(), "a moment is expected"))?;
    let id = visible(&api, &caller, &id).await?;
    match api.outbox.reschedule(id, at).await? {
        None => Err(UNKNOWN),
        Some(0) => {
            Err(ApiError::TooLate("the e-mail was tried or has left the queue: it cannot be rescheduled"))
        }
        Some(_) => Ok(Json(json!({ "object": "email", "id": id }))),
    }
}
