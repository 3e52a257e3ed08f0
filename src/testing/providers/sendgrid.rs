//! Twilio SendGrid v3: success is 202 and empty, its id a header.

use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::{TakenMail, only, words};
use super::wire::{Received, Said};
use crate::settings::{Api, Region, SendGrid};

pub(super) const MANNERS: Manners = Manners {
    settings,
    knows: |request| request.header("authorization") == Some("Bearer SG.fake"),
    send: "/v3/mail/send",
    login: "/v3/scopes",
    read,
    took: |id, _| Said::new(202, String::new()).header("X-Message-Id", id),
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::SendGrid(SendGrid { api_key: "SG.fake".into(), region: Region::Default, base_url: Some(base_url) })
}

fn read(request: &Received) -> Option<TakenMail> {
    let body = request.json();
    let [one] = body["personalizations"].as_array()?.as_slice() else { return None };
    body["from"]["email"].as_str()?;
    // These would be recipients too.
    if !one["cc"].is_null() || !one["bcc"].is_null() {
        return None;
    }
    let content = body["content"].as_array().filter(|content| !content.is_empty())?;
    let part = |kind: &str| content.iter().find(|part| part["type"] == kind);
    let plain_is_first =
        content.iter().position(|part| part["type"] == "text/plain").is_none_or(|at| at == 0);
    let none_is_empty = content.iter().all(|part| words(&part["value"]).is_some());
    if !plain_is_first || !none_is_empty {
        return None;
    }
    let mut mail = TakenMail {
        recipient: only(&one["to"], "email")?,
        subject: words(&body["subject"])?,
        text: part("text/plain").and_then(|part| words(&part["value"])),
        html: part("text/html").and_then(|part| words(&part["value"])),
        raw: request.body.clone(),
        ..TakenMail::default()
    };
    mail.headers(&body["headers"]);
    mail.files(&body["attachments"], ["filename", "content"])?;
    Some(mail)
}

fn refuses(trouble: Trouble) -> Said {
    let (status, message, field) = match trouble {
        Trouble::Malformed => (400, "Bad Request", None),
        Trouble::Recipient => {
            (400, "Does not contain a valid address.", Some("personalizations.0.to.0.email"))
        }
        Trouble::Throttled => (429, "too many requests", None),
        Trouble::Credentials => {
            (401, "The provided authorization grant is invalid, expired, or revoked", None)
        }
        Trouble::Suspended => (403, "access forbidden", None),
        Trouble::Sender => (403, "The from address does not match a verified Sender Identity.", Some("from")),
        Trouble::Quota => (401, "Maximum credits exceeded", None),
        Trouble::Address => (404, "Not Found", None),
        Trouble::Unwell => return Said::new(503, String::new()),
        Trouble::Broken => (500, "Internal Server Error", None),
    };
    let error = json!({ "message": message, "field": field, "help": null });
    let said = Said::json(status, &json!({ "errors": [error] }));
    if trouble != Trouble::Throttled {
        return said;
    }
    // The moment, not the time until then: 30 seconds after `Date`.
    said.header("X-RateLimit-Limit", "600")
        .header("X-RateLimit-Remaining", "0")
        .header("X-RateLimit-Reset", "1790000030")
        .header("Date", "Mon, 21 Sep 2026 14:13:20 GMT")
}
