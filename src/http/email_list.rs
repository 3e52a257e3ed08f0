//! `GET /emails`: e-mails by the page.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::email_answer::Summary;
use super::emails::parse_id;
use super::openapi::{Id, Listing, ObjectList};
use super::{Api, ApiError};
use crate::outbox::Page;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Cursor {
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// Only older ones than this; not together with `before`.
    #[param(value_type = Option<Id>, inline)]
    after: Option<String>,
    /// Only newer ones than this, those next to it; not together with `after`.
    #[param(value_type = Option<Id>, inline)]
    before: Option<String>,
}

/// One page of e-mails.
#[derive(Serialize, ToSchema)]
#[schema(as = EmailList)]
pub(super) struct List<'a> {
    #[schema(value_type = ObjectList, inline)]
    object: &'static str,
    /// Whether there is more in this direction.
    has_more: bool,
    data: Vec<Summary<'a>>,
}

/// List e-mails
///
/// One page, newest first. A token of role system sees what it sent.
#[utoipa::path(
    get, path = "/emails", operation_id = "list_emails", tag = "E-mails", security(("bearer" = [])),
    params(Cursor),
    responses(
        (status = 200, description = "One page.", body = List, example = json!({
            "object": "list", "has_more": false, "data": [{
                "id": "01a20465-e8e1-77c8-8dd7-5f3c3711aa36",
                "message_id": "<01a20465-e8e1-77c8-8dd7-5f3c3711aa36@local.test>",
                "from": "Acme <shop@local.test>", "to": ["Ada Lovelace <ada@local.test>"],
                "cc": [], "bcc": [], "reply_to": [], "subject": "Your order",
                "created_at": "2026-04-03 22:13:42.674981+00", "scheduled_at": null, "last_event": "sent",
            }],
        })),
        Listing,
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    cursor: Result<Query<Cursor>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
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
    let data = emails.iter().map(Summary::of).collect();
    Ok(Json(List { object: "list", has_more, data }).into_response())
}
