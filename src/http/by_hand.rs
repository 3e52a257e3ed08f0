//! What a person decides: ours, for role admin.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::emails::{UNKNOWN, visible};
use super::openapi::{Deciding, Id, ObjectEmail};
use super::place::Place;
use super::{Api, ApiError};
use crate::email::EmailId;

/// How much was changed.
#[derive(Serialize, ToSchema)]
#[schema(as = DecidedEmail)]
pub(super) struct Decided {
    #[schema(value_type = ObjectEmail, inline)]
    object: &'static str,
    #[schema(value_type = Id, inline)]
    id: EmailId,
    /// How many of its deliveries.
    #[schema(minimum = 1)]
    deliveries: u64,
}

impl Decided {
    fn email(id: EmailId, deliveries: u64) -> Json<Self> {
        Json(Self { object: "email", id, deliveries })
    }
}

/// Try again
///
/// What failed, was canceled or is parked goes back in the queue.
#[utoipa::path(
    post, path = "/emails/{id}/retry", operation_id = "retry_email", tag = "By hand", security(("bearer" = [])),
    params(("id" = inline(Id), Path, description = "The e-mail's id.")),
    responses(
        (status = 200, description = "Done.", body = Decided,
         example = json!({"object": "email", "id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36", "deliveries": 1})),
        Deciding,
    )
)]
pub(super) async fn retry(
    State(api): State<Api>,
    Admin(caller): Admin,
    Place(id): Place<String>,
) -> Result<Json<Decided>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    match api.outbox.retry(id, caller.name()).await?.ok_or(UNKNOWN)? {
        0 => Err(ApiError::TooLate(
            "nothing of the e-mail failed, was canceled or is parked: nothing to retry",
        )),
        deliveries => Ok(Decided::email(id, deliveries)),
    }
}

/// Give up
///
/// What is parked, because nobody knows whether it was sent, ends as failed.
#[utoipa::path(
    post, path = "/emails/{id}/give-up", operation_id = "give_up_email", tag = "By hand", security(("bearer" = [])),
    params(("id" = inline(Id), Path, description = "The e-mail's id.")),
    responses(
        (status = 200, description = "Done.", body = Decided,
         example = json!({"object": "email", "id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36", "deliveries": 1})),
        Deciding,
    )
)]
pub(super) async fn give_up(
    State(api): State<Api>,
    Admin(caller): Admin,
    Place(id): Place<String>,
) -> Result<Json<Decided>, ApiError> {
    let id = visible(&api, &caller, &id).await?;
    match api.outbox.give_up(id, caller.name()).await?.ok_or(UNKNOWN)? {
        0 => Err(ApiError::TooLate("nothing of the e-mail is parked: nothing to give up")),
        deliveries => Ok(Decided::email(id, deliveries)),
    }
}
