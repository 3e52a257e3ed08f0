//! Scaleway Transactional Email v1alpha1: `type` and `message`.

use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::{TakenMail, only, words};
use super::wire::{Received, Said};
use crate::settings::{Api, Scaleway};

pub(super) const MANNERS: Manners = Manners {
    settings,
    knows: |request| request.header("x-auth-token") == Some("fake-secret-key"),
    send: "/transactional-email/v1alpha1/regions/fr-par/emails",
    login: "/transactional-email/v1alpha1/regions/fr-par/domains",
    read,
    took: |id, mail| {
        let email = json!({ "id": id, "mail_rcpt": mail.recipient, "status": "new", "try_count": 0 });
        Said::json(200, &json!({ "emails": [email] }))
    },
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::Scaleway(Scaleway {
        region: "fr-par".into(),
        project_id: "00000000-0000-4000-8000-000000000000".into(),
        secret_key: "fake-secret-key".into(),
        base_url: Some(base_url),
    })
}

fn read(request: &Received) -> Option<TakenMail> {
    let body = request.json();
    words(&body["project_id"])?;
    words(&body["from"]["email"])?;
    // These would be recipients too.
    if !body["cc"].is_null() || !body["bcc"].is_null() {
        return None;
    }
    let (text, html) = (words(&body["text"]), words(&body["html"]));
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
    mail.header_list(&body["additional_headers"], ["key", "value"]);
    mail.files(&body["attachments"], ["name", "content"])?;
    Some(mail)
}

fn refuses(trouble: Trouble) -> Said {
    let argument =
        |name: &str| json!([{ "argument_name": name, "reason": "constraint", "help_message": "" }]);
    let (status, kind, message, details) = match trouble {
        Trouble::Malformed => (400, "invalid_arguments", "invalid argument(s)", argument("subject")),
        Trouble::Recipient => (400, "invalid_arguments", "invalid argument(s)", argument("to")),
        Trouble::Sender => (403, "permissions_denied", "domain is not verified", json!(null)),
        Trouble::Throttled => (429, "too_many_requests", "too many requests", json!(null)),
        Trouble::Credentials => (401, "denied_authentication", "authentication is denied", json!(null)),
        Trouble::Suspended => (403, "permissions_denied", "insufficient permissions", json!(null)),
        Trouble::Quota => (403, "quotas_exceeded", "quota(s) exceeded for this resource", json!(null)),
        Trouble::Address => (404, "not_found", "resource is not found", json!(null)),
        Trouble::Unwell => return Said::new(503, String::new()),
        Trouble::Broken => (500, "unknown", "internal error", json!(null)),
    };
    Said::json(status, &json!({ "type": kind, "message": message, "details": details }))
}
