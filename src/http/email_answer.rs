//! E-mails as the Resend clients read them, and what is ours besides.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::outbox::{DeliveryView, EmailSummary, EmailView, EventView};

/// As Postgres writes it, which is what the Resend clients are used to.
const POSTGRES: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00");

/// One e-mail in full.
pub(super) fn whole(email: &EmailView, events: &[EventView]) -> Value {
    let recipient = |position: i16| {
        email.deliveries.iter().find(|delivery| delivery.position == position).map(|d| d.recipient.as_str())
    };
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({
                "type": event.kind,
                "created_at": moment(event.at),
                "to": event.position.and_then(recipient),
                "attempt": event.attempt,
                "code": event.code,
                "detail": event.detail,
                "actor": event.actor,
            })
        })
        .collect();
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
        "tags": email.tags,
        "created_at": moment(email.created_at),
        "scheduled_at": email.scheduled_at.and_then(moment),
        "last_event": last_event(&email.deliveries),
        "wiped": email.wiped,
        "deliveries": email.deliveries.iter().map(delivery).collect::<Vec<_>>(),
        "events": events,
    })
}

/// One e-mail of a list.
pub(super) fn summary(email: &EmailSummary) -> Value {
    json!({
        "id": email.id,
        "message_id": format!("<{}>", email.message_id),
        "from": mailbox(&email.from),
        "to": mailboxes(&email.to),
        "cc": mailboxes(&email.cc),
        "bcc": mailboxes(&email.bcc),
        "reply_to": mailboxes(&email.reply_to),
        "subject": email.subject,
        "created_at": moment(email.created_at),
        "scheduled_at": email.scheduled_at.and_then(moment),
        "last_event": last_event(&email.deliveries),
    })
}

fn delivery(delivery: &DeliveryView) -> Value {
    json!({
        "to": delivery.recipient,
        "state": delivery.state,
        "reason": delivery.reason,
        "attempts": delivery.attempts,
    })
}

/// `2026-04-03 22:13:42.674981+00`.
pub(super) fn moment(at: OffsetDateTime) -> Option<String> {
    at.to_offset(time::UtcOffset::UTC).format(POSTGRES).ok()
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
    // Tried before, or parked because nobody knows what became of it.
    let delayed = |d: &DeliveryView| match d.state.as_str() {
        "queued" => d.attempts > 0,
        "sending" => d.attempts > 1,
        state => state == "unknown",
    };
    if deliveries.iter().any(|d| d.scheduled) {
        "scheduled"
    } else if deliveries.iter().any(delayed) {
        "delivery_delayed"
    } else if any("queued") || any("sending") {
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

    fn deliveries(states: &[(&str, i16)]) -> Vec<DeliveryView> {
        let view = |(state, attempts): &(&str, i16)| DeliveryView {
            position: 0,
            recipient: "a@x.test".into(),
            state: (*state).into(),
            reason: None,
            attempts: *attempts,
            scheduled: false,
        };
        states.iter().map(view).collect()
    }

    #[test]
    fn one_word_for_several_fates() {
        for (states, word) in [
            (&[("sent", 1), ("sent", 1)][..], "sent"),
            (&[("sent", 1), ("failed", 3)], "failed"),
            (&[("failed", 3), ("queued", 0)], "queued"),
            (&[("sending", 1)], "queued"),
            (&[("sending", 2)], "delivery_delayed"),
            (&[("sent", 1), ("queued", 2)], "delivery_delayed"),
            (&[("sent", 1), ("unknown", 1)], "delivery_delayed"),
            (&[("cancelled", 0)], "canceled"),
        ] {
            assert_eq!(last_event(&deliveries(states)), word, "{states:?}");
        }
    }
}
