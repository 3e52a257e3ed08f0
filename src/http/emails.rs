use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::auth::Caller;
use super::{Api, ApiError};
use crate::email::EmailId;
use crate::outbox::{DeliveryView, EmailView};

/// As Postgres writes it, which is what the Resend clients are used to.
const POSTGRES: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00");

/// `GET /emails/{id}`: what was handed over and where it is.
pub(super) async fn show(
    State(api): State<Api>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id: EmailId = id.parse().map_err(|_| ApiError::Invalid("id must be a UUID".into()))?;
    let email = api.outbox.find(id).await?.ok_or(ApiError::NotFound("Email not found"))?;
    Ok(Json(wire(&email)))
}

fn wire(email: &EmailView) -> Value {
    json!({
        "object": "email",
        "id": email.id,
        "message_id": format!("<{}>", email.message_id),
        "from": mailbox(&email.from),
        "to": mailboxes(&email.to),
        "cc": mailboxes(&email.cc),
        "bcc": mailboxes(&email.bcc),
        "reply_to": mailboxes(&email.reply_to),
        "subject": email.subject,
        "text": email.text,
        "html": email.html,
        "created_at": email.created_at.format(POSTGRES).ok(),
        "scheduled_at": email.scheduled_at.and_then(|at| at.format(POSTGRES).ok()),
        "last_event": last_event(&email.deliveries),
    })
}

fn mailboxes(stored: &Value) -> Vec<String> {
    stored.as_array().into_iter().flatten().map(mailbox).collect()
}

fn mailbox(stored: &Value) -> String {
    let text = |field: &str| stored.get(field).and_then(Value::as_str);
    match (text("name"), text("address").unwrap_or_default()) {
        (Some(name), address) => format!("{name} <{address}>"),
        (None, address) => address.to_owned(),
    }
}

/// One word for all deliveries: what is still to come first, then the worst of what came.
fn last_event(deliveries: &[DeliveryView]) -> &'static str {
    let any = |state: &str| deliveries.iter().any(|d| d.state == state);
    if deliveries.iter().any(|d| d.scheduled) {
        "scheduled"
    } else if any("queued") || any("sending") || any("unknown") {
        "queued"
    } else if any("failed") {
        "failed"
    } else if any("cancelled") {
        "canceled"
    } else {
        "sent"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries(states: &[&str]) -> Vec<DeliveryView> {
        let view = |state: &&str| DeliveryView {
            position: 0,
            recipient: String::new(),
            state: (*state).into(),
            reason: None,
            attempts: 1,
            scheduled: false,
        };
        states.iter().map(view).collect()
    }

    #[test]
    fn one_word_for_several_fates() {
        for (states, word) in [
            (&["sent", "sent"][..], "sent"),
            (&["sent", "failed"], "failed"),
            (&["failed", "queued"], "queued"),
            (&["sent", "unknown"], "queued"),
            (&["cancelled"], "canceled"),
        ] {
            assert_eq!(last_event(&deliveries(states)), word, "{states:?}");
        }
    }
}
