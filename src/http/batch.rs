//! `POST /emails/batch`: up to 100 e-mails at once.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::auth::Caller;
use super::emails::{accepted, earlier};
use super::fetch::{Draft, Fetcher};
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

/// What was asked for, and what of it is refused.
struct Read {
    /// With their places.
    drafts: Vec<(usize, Draft)>,
    errors: Vec<(usize, ApiError)>,
    origin: Origin,
}

/// All or nothing, or with `x-batch-validation: permissive` those that are good.
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
    let mut body = json!({ "data": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() });
    if mode == Mode::Permissive {
        let errors = errors.iter().map(|(i, error)| json!({ "index": i, "message": error.to_string() }));
        body["errors"] = Value::Array(errors.collect());
    }
    accepted(&body, replayed)
}
