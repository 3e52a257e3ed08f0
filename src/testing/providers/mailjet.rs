//! Mailjet v3.1: a batch of one, and a verdict for each message.

use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::{TakenMail, only, words};
use super::wire::{Received, Said};
use crate::settings::{Api, Mailjet, Region};

pub(super) const MANNERS: Manners = Manners {
    settings,
    // Basic fake-key:fake-secret
    knows: |request| request.header("authorization") == Some("Basic ZmFrZS1rZXk6ZmFrZS1zZWNyZXQ="),
    send: "/v3.1/send",
    login: "/v3/REST/myprofile",
    read,
    took: |id, mail| {
        let number: u64 = id.trim_start_matches("taken-").parse().unwrap_or(0);
        let to = json!({ "Email": mail.recipient, "MessageUUID": id, "MessageID": 576_460_750_000_000_000 + number });
        Said::json(200, &json!({ "Messages": [{ "Status": "success", "To": [to], "Cc": [], "Bcc": [] }] }))
    },
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::Mailjet(Mailjet {
        api_key: "fake-key".into(),
        secret_key: "fake-secret".into(),
        region: Region::Default,
        base_url: Some(base_url),
    })
}

fn read(request: &Received) -> Option<TakenMail> {
    let body = request.json();
    let [message] = body["Messages"].as_array()?.as_slice() else { return None };
    words(&message["From"]["Email"])?;
    // These would be recipients too.
    if !message["Cc"].is_null() || !message["Bcc"].is_null() {
        return None;
    }
    let (text, html) = (words(&message["TextPart"]), words(&message["HTMLPart"]));
    if text.is_none() && html.is_none() {
        return None;
    }
    let mut mail = TakenMail {
        recipient: only(&message["To"], "Email")?,
        subject: words(&message["Subject"])?,
        text,
        html,
        raw: request.body.clone(),
        ..TakenMail::default()
    };
    mail.headers(&message["Headers"]);
    mail.files(&message["InlinedAttachments"], ["Filename", "Base64Content"])?;
    mail.files(&message["Attachments"], ["Filename", "Base64Content"])?;
    Some(mail)
}

fn refuses(trouble: Trouble) -> Said {
    let (status, code, message, related) = match trouble {
        Trouble::Malformed => (400, "mj-0003", "\"Subject\" is mandatory.", "Subject"),
        Trouble::Recipient => (400, "mj-0013", "\"x\" is an invalid email address.", "To[0].Email"),
        Trouble::Sender => (
            400,
            "send-0008",
            "\"x@example.com\" is not an authorized sender email address for your account.",
            "From",
        ),
        Trouble::Credentials => return whole(401, "API key authentication/authorization failure."),
        Trouble::Suspended => return whole(403, "Your account has been suspended."),
        Trouble::Quota => return whole(403, "You have reached your sending limit."),
        Trouble::Throttled => return whole(429, "Too many requests"),
        Trouble::Address => return whole(404, "Object not found"),
        Trouble::Unwell => return Said::new(503, String::new()),
        Trouble::Broken => return whole(500, "Internal Server Error"),
    };
    let error = json!({ "ErrorIdentifier": "88b5ca9f", "ErrorCode": code, "StatusCode": status,
                        "ErrorMessage": message, "ErrorRelatedTo": [related] });
    Said::json(status, &json!({ "Messages": [{ "Status": "error", "Errors": [error] }] }))
}

/// Nothing of the batch was looked at.
fn whole(status: u16, message: &str) -> Said {
    let body = json!({ "ErrorIdentifier": "1b2c", "ErrorCode": "mj-0002", "ErrorMessage": message, "StatusCode": status });
    Said::json(status, &body)
}
