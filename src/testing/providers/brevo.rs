//! Brevo v3: `code` and `message`, and its own rate-limit headers.

use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::{TakenMail, only, words};
use super::wire::{Received, Said};
use crate::settings::{Api, Brevo};

pub(super) const MANNERS: Manners = Manners {
    settings,
    knows: |request| request.header("api-key") == Some("xkeysib-fake"),
    send: "/v3/smtp/email",
    login: "/v3/account",
    read,
    took: |id, _| Said::json(201, &json!({ "messageId": format!("<{id}@smtp-relay.mailin.fr>") })),
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::Brevo(Brevo { api_key: "xkeysib-fake".into(), base_url: Some(base_url) })
}

fn read(request: &Received) -> Option<TakenMail> {
    let body = request.json();
    words(&body["sender"]["email"])?;
    // These would be recipients too.
    if !body["cc"].is_null() || !body["bcc"].is_null() {
        return None;
    }
    let (text, html) = (words(&body["textContent"]), words(&body["htmlContent"]));
    if text.is_none() && html.is_none() {
        return None;
    }
    let mut mail = TakenMail {
        recipient: only(&body["to"], "email")?,
        subject: words(&body["subject"])?,
        text,
        html,
        raw: request.body.clone(),
        ..TakenMail::default()
    };
    mail.headers(&body["headers"]);
    mail.files(&body["attachment"], ["name", "content"])?;
    Some(mail)
}

fn refuses(trouble: Trouble) -> Said {
    let (status, code, message) = match trouble {
        Trouble::Malformed => (400, "missing_parameter", "subject is missing"),
        Trouble::Recipient => (400, "invalid_parameter", "email is not valid in to"),
        Trouble::Throttled => (429, "too_many_requests", "Too many requests"),
        Trouble::Credentials => (401, "unauthorized", "Key not found"),
        Trouble::Suspended => (403, "permission_denied", "Your SMTP account is not yet activated."),
        Trouble::Sender => (
            400,
            "invalid_parameter",
            "Sending has been rejected because the sender you used x@example.com is not valid. \
             Validate your sender or authenticate your domain",
        ),
        Trouble::Quota => (402, "not_enough_credits", "You don't have enough credits"),
        Trouble::Address => (404, "document_not_found", "Not found"),
        Trouble::Unwell => return Said::new(503, String::new()),
        Trouble::Broken => return Said::new(500, String::new()),
    };
    let said = Said::json(status, &json!({ "code": code, "message": message }));
    if trouble != Trouble::Throttled {
        return said;
    }
    said.header("x-sib-ratelimit-limit", "1000")
        .header("x-sib-ratelimit-remaining", "0")
        .header("x-sib-ratelimit-reset", "30")
}
