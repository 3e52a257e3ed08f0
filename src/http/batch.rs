//! `POST /emails/batch`: up to 100 e-mails at once.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::emails::{Accepted, accepted, earlier};
use super::fetch::{Draft, Fetcher};
use super::openapi::{Batch, BatchValidation, Sending};
use super::{Api, ApiError, body, email_request, idempotency};
use crate::email::{Email, EmailId};
use crate::outbox::{EnqueuedBatch, Origin};

/// What becomes of the others when one is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// None is accepted.
    Strict,
    /// The others are.
    Permissive,
}

impl Mode {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        match headers.get("x-batch-validation").map(|value| value.as_bytes()) {
            None | Some(b"strict") => Ok(Self::Strict),
            Some(b"permissive") => Ok(Self::Permissive),
            Some(_) => Err(ApiError::Invalid("x-batch-validation must be strict or permissive".into())),
        }
    }
}

/// As the document tells it; [`Mode`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "a mode that is refused has an error of its own")]
pub(super) struct ModeHeader {
    /// What becomes of the others when one is refused; `strict` unless it is said.
    #[param(rename = "x-batch-validation", value_type = BatchValidation, inline, required = false)]
    mode: Option<String>,
}

/// What was asked for, and what of it is refused.
struct Read {
    /// With their places.
    drafts: Vec<(usize, Draft)>,
    errors: Vec<(usize, ApiError)>,
    origin: Origin,
}

/// What was accepted, in the order of the request.
#[derive(Serialize, ToSchema)]
#[schema(as = AcceptedBatch)]
pub(super) struct Answer {
    data: Vec<Accepted>,
    /// Those that were not, in permissive mode only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Refused>, required = false)]
    errors: Option<Vec<Refused>>,
}

/// One e-mail of a batch that was not accepted.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedOfBatch)]
pub(super) struct Refused {
    /// Which one, from 0.
    #[schema(minimum = 0, maximum = 99)]
    index: usize,
    message: String,
}

/// Send up to 100 e-mails
///
/// All or none; with `x-batch-validation: permissive` those that are good, and `errors` has the others.
#[utoipa::path(
    post, path = "/emails/batch", operation_id = "send_batch", tag = "E-mails", security(("bearer" = [])),
    params(idempotency::KeyHeader, ModeHeader),
    request_body(content = inline(Batch), example = json!([
        {"from": "shop@local.test", "to": "ada@local.test", "subject": "One", "text": "One"},
        {"from": "shop@local.test", "to": "bob@local.test", "subject": "Two", "text": "Two"},
    ])),
    responses(
        (status = 200, description = "Accepted.", body = Answer,
         headers(("idempotent-replayed" = String, description = "`true` when this is the answer to an earlier request.")),
         links(("look" = (operation_id = "get_email", parameters(("id" = "$response.body#/data/0/id"))))),
         example = json!({"data": [{"id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36"}, {"id": "01a20465-e8e2-7b10-9a5e-0c4d3b2a1908"}]})),
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
    let mode = Mode::of(&headers)?;
    let key = idempotency::key(&headers)?;
    let json = body::json(request, api.limits.request_timeout).await?;
    let of_key = key.clone();
    let reading = tokio::task::spawn_blocking(move || read(&json, of_key.as_deref(), &caller));
    let Read { drafts, mut errors, origin } = reading.await.map_err(|_| ApiError::Internal)??;
    if !errors.is_empty() && let Some(key) = &key
        // What was good the first time may be refused now, its moment having passed.
        && let Some((ids, true)) = api.outbox.find_key(key, &origin).await?
    {
        return Ok(answer(&ids, mode, &errors, true));
    }
    refuse_all(mode, &mut errors)?;
    let lack = drafts.iter().any(|(_, draft)| draft.lacks_files());
    if let Some(ids) = earlier(&api, key.clone().filter(|_| lack), &origin).await? {
        return Ok(answer(&ids, mode, &errors, true));
    }
    let emails = complete(&fetcher, drafts, &mut errors, key).await?;
    refuse_all(mode, &mut errors)?;
    let batch = match emails.is_empty() {
        true => EnqueuedBatch { ids: Vec::new(), created: true },
        false => api.outbox.enqueue_all(&emails, &origin).await?,
    };
    Ok(answer(&batch.ids, mode, &errors, !batch.created))
}

/// In strict mode one that is refused refuses all.
fn refuse_all(mode: Mode, errors: &mut Vec<(usize, ApiError)>) -> Result<(), ApiError> {
    if mode == Mode::Permissive || errors.is_empty() {
        return Ok(());
    }
    let (index, error) = errors.swap_remove(0);
    Err(error.of_item(index))
}

/// The e-mails that have all their files; the first of them carries the key of all.
async fn complete(
    fetcher: &Fetcher,
    drafts: Vec<(usize, Draft)>,
    errors: &mut Vec<(usize, ApiError)>,
    key: Option<String>,
) -> Result<Vec<Email>, ApiError> {
    let (places, drafts): (Vec<usize>, Vec<Draft>) = drafts.into_iter().unzip();
    let mut emails = Vec::with_capacity(drafts.len());
    for (place, email) in places.into_iter().zip(fetcher.complete(drafts).await) {
        match email {
            Ok(email) => emails.push(email),
            // The fault is here, and passes: the whole request is to come again.
            Err(error @ (ApiError::Unavailable | ApiError::Internal)) => return Err(error),
            Err(error) => errors.push((place, error)),
        }
    }
    errors.sort_by_key(|(place, _)| *place);
    if let Some(first) = emails.first_mut() {
        first.idempotency_key = key;
    }
    Ok(emails)
}

fn read(json: &str, key: Option<&str>, caller: &Caller) -> Result<Read, ApiError> {
    let now = OffsetDateTime::now_utc();
    let (mut drafts, mut errors) = (Vec::new(), Vec::new());
    for (index, item) in email_request::batch(json)?.into_iter().enumerate() {
        match email_request::compose(item.get(), "the e-mail", None, caller, now) {
            Ok(draft) => drafts.push((index, draft)),
            Err(error) => errors.push((index, error)),
        }
    }
    let request = key.map(|_| idempotency::fingerprint(json));
    Ok(Read {
        drafts,
        errors,
        origin: Origin { caller: Some(caller.name().to_owned()), request, batch: true },
    })
}

fn answer(ids: &[EmailId], mode: Mode, errors: &[(usize, ApiError)], replayed: bool) -> Response {
    let refused = |(index, error): &(usize, ApiError)| Refused { index: *index, message: error.to_string() };
    let errors = (mode == Mode::Permissive).then(|| errors.iter().map(refused).collect());
    let data = ids.iter().map(|id| Accepted { id: *id }).collect();
    accepted(&Answer { data, errors }, replayed)
}
