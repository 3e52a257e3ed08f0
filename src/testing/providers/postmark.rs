//! Postmark: 422 with a code of its own in the body.

use serde_json::json;

use super::manners::{Manners, Trouble};
use super::record::{TakenMail, words};
use super::wire::{Received, Said};
use crate::settings::{Api, Postmark};

pub(super) const MANNERS: Manners = Manners {
    settings,
    knows: |request| request.header("x-postmark-server-token") == Some("fake-server-token"),
    send: "/email",
    login: "/server",
    read,
    took: |id, mail| {
        let at = "2026-11-22T10:00:00.0000000Z";
        let body = json!({ "To": mail.recipient, "SubmittedAt": at, "MessageID": id, "ErrorCode": 0, "Message": "OK" });
        Said::json(200, &body)
    },
    refuses,
};

fn settings(base_url: String) -> Api {
    Api::Postmark(Postmark {
        server_token: "fake-server-token".into(),
        message_stream: None,
        base_url: Some(base_url),
    })
}

fn read(request: &Received) -> Option<TakenMail> {
    let body = request.json();
    words(&body["From"])?;
    let to = words(&body["To"])?;
    // These would be recipients too; and so would any after a comma outside of quotes.
    if !body["Cc"].is_null() || !body["Bcc"].is_null() || to.matches('@').count() != 1 {
        return None;
    }
    let address = to.rsplit('<').next().unwrap_or_default().trim_end_matches('>');
    let (text, html) = (words(&body["TextBody"]), words(&body["HtmlBody"]));
    if text.is_none() && html.is_none() {
        return None;
    }
    let subject = words(&body["Subject"])?;
    let raw = request.body.clone();
    let mut mail =
        TakenMail { recipient: address.to_owned(), subject, text, html, raw, ..TakenMail::default() };
    mail.header_list(&body["Headers"], ["Name", "Value"]);
    mail.files(&body["Attachments"], ["Name", "Content"])?;
    Some(mail)
}

fn refuses(trouble: Trouble) -> Said {
    let (status, code, message) = match trouble {
        Trouble::Malformed => (422, 402, "Received invalid JSON input."),
        Trouble::Recipient => (
            422,
            406,
            "You tried to send to a recipient that has been marked as inactive.\nFound inactive addresses: x@example.com.",
        ),
        Trouble::Throttled => (429, 429, "Rate limit exceeded."),
        Trouble::Credentials => (401, 10, "Bad or missing Server API token."),
        Trouble::Suspended => (422, 413, "This account may not send."),
        Trouble::Sender => {
            (422, 400, "The 'From' address you supplied is not a Sender Signature on your account.")
        }
        Trouble::Quota => (422, 405, "Not allowed to send: you ran out of credits."),
        Trouble::Address => return Said::new(404, "Not Found".into()),
        Trouble::Unwell => (503, 100, "Under maintenance."),
        Trouble::Broken => (500, 0, "Internal Server Error."),
    };
    Said::json(status, &json!({ "ErrorCode": code, "Message": message }))
}
