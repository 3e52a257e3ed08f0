//! What a person decides: ours, for role admin.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Admin;
use super::emails::visible;
use super::place::Place;
use super::{Api, ApiError};

const UNKNOWN: ApiError = ApiError::NotFound("Email not found");

/// `POST /emails/{id}/retry`: what failed, was canceled or is parked goes back in the queue.
pub(super) async fn retry(
    State(api): State<Api>,
    Admin(caller): Admin,
    Place(id): Place<String>,
) -> Result<Json<Value>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    match api.outbox.retry(id, caller.name()).await?.ok_or(UNKNOWN)? {
        0 => Err(ApiError::TooLate(
            "nothing of the e-mail failed, was canceled or is parked: nothing to retry",
        )),
        deliveries => Ok(Json(json!({ "object": "email", "id": id, "deliveries": deliveries }))),
    }
}

/// `POST /emails/{id}/give-up`: what is parked ends as failed.
pub(super) async fn give_up(
    State(api): State<Api>,
    Admin(caller): Admin,
    Place(id): Place<String>,
) -> Result<Json<Value>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    match api.outbox.give_up(id, caller.name()).await?.ok_or(UNKNOWN)? {
        0 => Err(ApiError::TooLate("nothing of the e-mail is parked: nothing to give up")),
        deliveries => Ok(Json(json!({ "object": "email", "id": id, "deliveries": deliveries }))),
    }
}
