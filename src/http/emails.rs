//! `/emails`: what the Resend clients call.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::auth::Caller;
use super::email_answer::Whole;
use super::fetch::{Draft, Fetcher};
use super::fields::{Raw, object};
use super::openapi::{Id, Moment, Moving, ObjectEmail, Reading, Sending, Withdrawing};
use super::place::Place;
use super::{Api, ApiError, body, email_request, idempotency};
use crate::email::EmailId;
use crate::outbox::{Enqueued, Origin};

pub(super) const UNKNOWN: ApiError = ApiError::NotFound("Email not found");

/// What was accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    #[schema(value_type = Id, inline)]
    pub(super) id: EmailId,
}

/// Send an e-mail
///
/// Queues it; a worker sends it. With an `Idempotency-Key` the same request within 24 hours answers the
/// same and sends nothing.
#[utoipa::path(
    post, path = "/emails", operation_id = "send_email", tag = "E-mails", security(("bearer" = [])),
    params(idempotency::KeyHeader),
    request_body(content = email_request::Fields, example = json!({
        "from": "Acme <shop@local.test>",
        "to": ["Ada Lovelace <ada@local.test>"],
        "subject": "Your order",
        "html": "<p>Thank you.</p>",
        "attachments": [{"filename": "order.txt", "content": "SGVsbG8="}],
        "tags": [{"name": "category", "value": "order"}],
        "scheduled_at": "in 5 minutes",
    })),
    responses(
        (status = 200, description = "Accepted.", body = Accepted,
         headers(("idempotent-replayed" = String, description = "`true` when this is the answer to an earlier request.")),
         links(
            ("look" = (operation_id = "get_email", parameters(("id" = "$response.body#/id")))),
            ("move" = (operation_id = "reschedule_email", parameters(("id" = "$response.body#/id")))),
            ("cancel" = (operation_id = "cancel_email", parameters(("id" = "$response.body#/id")))),
            ("files" = (operation_id = "list_attachments", parameters(("id" = "$response.body#/id")))),
         ),
         example = json!({"id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36"})),
        Sending,
    )
)]
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
    Ok(accepted(&Accepted { id: enqueued.id }, !enqueued.created))
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
pub(super) fn accepted(body: &impl Serialize, replayed: bool) -> Response {
    let mut answer = Json(body).into_response();
    if replayed {
        answer.headers_mut().insert(idempotency::REPLAYED, axum::http::HeaderValue::from_static("true"));
    }
    answer
}

pub(super) fn parse_id(name: &str, text: &str) -> Result<EmailId, ApiError> {
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

/// Look at an e-mail
///
/// What was handed over, where it is, and what happened to it.
#[utoipa::path(
    get, path = "/emails/{id}", operation_id = "get_email", tag = "E-mails", security(("bearer" = [])),
    params(("id" = inline(Id), Path, description = "The e-mail's id.")),
    responses(
        (status = 200, description = "The e-mail.", body = Whole, example = json!({
            "object": "email", "id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36",
            "message_id": "<01a20465-e8e1-77c8-8dd7-5f3c3711aa36@local.test>",
            "from": "Acme <shop@local.test>", "to": ["Ada Lovelace <ada@local.test>"],
            "cc": [], "bcc": [], "reply_to": [], "subject": "Your order",
            "text": "Thank you.\n", "html": "<p>Thank you.</p>",
            "tags": [{"name": "category", "value": "order"}],
            "created_at": "2026-04-03 22:13:42.674981+00", "scheduled_at": null,
            "last_event": "sent", "wiped": false,
            "deliveries": [{"to": "ada@local.test", "state": "sent", "reason": "accepted", "attempts": 1}],
            "events": [
                {"type": "accepted", "created_at": "2026-04-03 22:13:42.674981+00", "to": null, "attempt": null,
                 "code": null, "detail": null, "actor": null},
                {"type": "sent", "created_at": "2026-04-03 22:13:42.801337+00", "to": "ada@local.test", "attempt": 1,
                 "code": 250, "detail": "2.0.0 Ok: queued", "actor": null},
            ],
        })),
        Reading,
    )
)]
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Response, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    let email = api.outbox.find(id).await?.ok_or(UNKNOWN)?;
    let events = api.outbox.events(id).await?;
    Ok(Json(Whole::of(&email, &events)).into_response())
}

/// What was changed.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedEmail)]
pub(super) struct Changed {
    #[schema(value_type = ObjectEmail, inline)]
    object: &'static str,
    #[schema(value_type = Id, inline)]
    id: EmailId,
}

impl Changed {
    fn email(id: EmailId) -> Json<Self> {
        Json(Self { object: "email", id })
    }
}

/// Cancel an e-mail
///
/// Withdraws what has not left. Twice is once.
#[utoipa::path(
    post, path = "/emails/{id}/cancel", operation_id = "cancel_email", tag = "E-mails", security(("bearer" = [])),
    params(("id" = inline(Id), Path, description = "The e-mail's id.")),
    responses(
        (status = 200, description = "Canceled.", body = Changed,
         links(("undo" = (operation_id = "retry_email", parameters(("id" = "$response.body#/id"))))),
         example = json!({"object": "email", "id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36"})),
        Withdrawing,
    )
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    caller: Caller,
    Place(id): Place<String>,
) -> Result<Json<Changed>, ApiError> {
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
    Ok(Changed::email(id))
}

async fn is_withdrawn(api: &Api, id: EmailId) -> Result<bool, ApiError> {
    let deliveries = api.outbox.deliveries(id).await?;
    Ok(deliveries.iter().all(|delivery| delivery.state == "cancelled"))
}

/// Another moment.
#[derive(Deserialize, ToSchema)]
#[schema(as = EmailChange)]
pub(super) struct Change<'a> {
    /// Not sent before.
    #[serde(borrow, default)]
    #[schema(value_type = Moment, required)]
    scheduled_at: Raw<'a>,
}

/// Reschedule an e-mail
///
/// Another moment for what was not tried yet.
#[utoipa::path(
    patch, path = "/emails/{id}", operation_id = "reschedule_email", tag = "E-mails", security(("bearer" = [])),
    params(("id" = inline(Id), Path, description = "The e-mail's id.")),
    request_body(content = Change, example = json!({"scheduled_at": "tomorrow at 9am"})),
    responses(
        (status = 200, description = "Moved.", body = Changed,
         example = json!({"object": "email", "id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36"})),
        Moving,
    )
)]
pub(super) async fn reschedule(
    State(api): State<Api>,
    caller: Caller,
    Place(id): Place<String>,
    request: Request,
) -> Result<Json<Changed>, ApiError> {
    let json = body::json(request, api.limits.request_timeout).await?;
    let fields: Change<'_> = object(&json, "the body")?;
    let at = email_request::scheduled_at(fields.scheduled_at, OffsetDateTime::now_utc())?;
    let at = at.ok_or_else(|| ApiError::Missing("scheduled_at".into(), "a moment is expected"))?;
    let id = visible(&api, &caller, &id).await?;
    match api.outbox.reschedule(id, at).await? {
        None => Err(UNKNOWN),
        Some(0) => {
            Err(ApiError::TooLate("the e-mail was tried or has left the queue: it cannot be rescheduled"))
        }
        Some(_) => Ok(Changed::email(id)),
    }
}
