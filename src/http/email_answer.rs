//! E-mails as the Resend clients read them, and what is ours besides.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use utoipa::ToSchema;

use super::openapi::{DeliveryState, Id, LastEvent, ObjectEmail, Timestamp};
use crate::email::EmailId;
use crate::outbox::{DeliveryView, EmailSummary, EmailView, EventView};

/// As Postgres writes it, which is what the Resend clients are used to.
const POSTGRES: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00");

/// One e-mail in full.
#[derive(Serialize, ToSchema)]
#[schema(as = Email)]
pub(super) struct Whole<'a> {
    #[schema(value_type = ObjectEmail, inline)]
    object: &'static str,
    /// Texts and HTML are empty because it was sensitive and has ended.
    wiped: bool,
    #[serde(flatten)]
    summary: Summary<'a>,
    /// The plain text.
    #[schema(required)]
    text: Option<&'a str>,
    /// The HTML.
    #[schema(required)]
    html: Option<&'a str>,
    #[schema(value_type = Vec<TagAnswer>)]
    tags: &'a Value,
    /// One for each recipient of `to`, `cc` and `bcc`.
    deliveries: Vec<Delivery<'a>>,
    /// What happened, in order.
    events: Vec<Event<'a>>,
}

/// One e-mail of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = EmailSummary)]
pub(super) struct Summary<'a> {
    #[schema(value_type = Id, inline)]
    id: EmailId,
    /// The `Message-ID` that receivers see.
    message_id: String,
    from: String,
    to: Vec<String>,
    cc: Vec<String>,
    bcc: Vec<String>,
    reply_to: Vec<String>,
    subject: &'a str,
    /// When it was accepted.
    #[schema(value_type = Timestamp, required)]
    created_at: Option<String>,
    /// When it was to be sent, unless at once.
    #[schema(value_type = Option<Timestamp>, required)]
    scheduled_at: Option<String>,
    /// One word for all deliveries: what is still to come first, then the worst of what came.
    #[schema(value_type = LastEvent)]
    last_event: &'static str,
}

/// A tag of an e-mail.
#[derive(ToSchema)]
#[schema(as = Tag)]
#[expect(dead_code, reason = "stored as it is answered")]
pub(super) struct TagAnswer {
    name: String,
    value: String,
}

/// What becomes of an e-mail at one recipient.
#[derive(Serialize, ToSchema)]
pub(super) struct Delivery<'a> {
    to: &'a str,
    #[schema(value_type = DeliveryState)]
    state: &'a str,
    /// Why, once it ended.
    #[schema(required)]
    reason: Option<&'a str>,
    /// Attempts begun.
    #[schema(minimum = 0)]
    attempts: i16,
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub(super) struct Event<'a> {
    /// `accepted`, `retry`, `sent`, …
    r#type: &'a str,
    #[schema(value_type = Timestamp, required)]
    created_at: Option<String>,
    /// At which recipient; null for the e-mail as a whole.
    #[schema(required)]
    to: Option<&'a str>,
    /// In which attempt.
    #[schema(required)]
    attempt: Option<i16>,
    /// What a server answered.
    #[schema(required)]
    code: Option<i16>,
    /// More about it; may be a server's own words.
    #[schema(required)]
    detail: Option<&'a str>,
    /// Who did it, of what was done by hand.
    #[schema(required)]
    actor: Option<&'a str>,
}

impl<'a> Whole<'a> {
    pub(super) fn of(email: &'a EmailView, events: &'a [EventView]) -> Self {
        let recipient = |position: i16| {
            let mut deliveries = email.deliveries.iter();
            deliveries.find(|delivery| delivery.position == position).map(|d| d.recipient.as_str())
        };
        let event = |event: &'a EventView| Event {
            r#type: &event.kind,
            created_at: moment(event.at),
            to: event.position.and_then(recipient),
            attempt: event.attempt,
            code: event.code,
            detail: event.detail.as_deref(),
            actor: event.actor.as_deref(),
        };
        Self {
            object: "email",
            wiped: email.wiped,
            summary: Summary {
                id: email.id,
                message_id: format!("<{}>", email.message_id),
                from: mailbox(&email.from),
                to: mailboxes(&email.to),
                cc: mailboxes(&email.cc),
                bcc: mailboxes(&email.bcc),
                reply_to: mailboxes(&email.reply_to),
                subject: &email.subject,
                created_at: moment(email.created_at),
                scheduled_at: email.scheduled_at.and_then(moment),
                last_event: last_event(&email.deliveries),
            },
            text: email.text.as_deref(),
            html: email.html.as_deref(),
            tags: &email.tags,
            deliveries: email.deliveries.iter().map(Delivery::of).collect(),
            events: events.iter().map(event).collect(),
        }
    }
}

impl<'a> Summary<'a> {
    pub(super) fn of(email: &'a EmailSummary) -> Self {
        Self {
            id: email.id,
            message_id: format!("<{}>", email.message_id),
            from: mailbox(&email.from),
            to: mailboxes(&email.to),
            cc: mailboxes(&email.cc),
            bcc: mailboxes(&email.bcc),
            reply_to: mailboxes(&email.reply_to),
            subject: &email.subject,
            created_at: moment(email.created_at),
            scheduled_at: email.scheduled_at.and_then(moment),
            last_event: last_event(&email.deliveries),
        }
    }
}

impl<'a> Delivery<'a> {
    fn of(view: &'a DeliveryView) -> Self {
        Self {
            to: &view.recipient,
            state: &view.state,
            reason: view.reason.as_deref(),
            attempts: view.attempts,
        }
    }
}

/// `2026-04-03 22:13:42.674981+00`.
fn moment(at: OffsetDateTime) -> Option<String> {
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
