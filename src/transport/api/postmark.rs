//! Postmark, `/email`: the message is built there, from parts.
//!
//! The recipient sees themselves as the only one in To: whoever else stood there or in Cc would get a copy.
//! Our Message-ID stays, by `X-PM-KeepID`, beside X-Entity-Ref-ID. `check` asks for the server's record.
//! A report of success holds Postmark's MessageID.

use serde_json::{Value, json};

use super::answer::Answer;
use super::classify::Class;
use super::parts;
use super::request::Request;
use super::{Adapter, ApiError, base};
use crate::settings::{self, ExposeSecret, SecretString};
use crate::transport::{Outcome, Parcel};

pub(super) struct Postmark {
    settings: settings::Postmark,
    base: String,
}

impl Postmark {
    pub(super) fn new(settings: &settings::Postmark) -> Result<Self, ApiError> {
        let base = base("postmark", settings.base_url.as_deref(), "https://api.postmarkapp.com")?;
        Ok(Self { settings: settings.clone(), base })
    }

    fn authorized(&self, request: Request) -> Request {
        request.header("x-postmark-server-token", self.settings.server_token.expose_secret())
    }
}

impl Adapter for Postmark {
    fn name(&self) -> String {
        let stream = self.settings.message_stream.as_deref();
        stream.map_or_else(|| "postmark".into(), |stream| format!("postmark:{stream}"))
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.settings.server_token.clone()]
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        let message = message(parcel, self.settings.message_stream.as_deref());
        self.authorized(Request::json(format!("{}/email", self.base), &message))
    }

    fn login(&self) -> Request {
        self.authorized(Request::get(format!("{}/server", self.base)))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

fn message(parcel: Parcel<'_>, stream: Option<&str>) -> Value {
    let email = parcel.email;
    let (to, name) = parts::recipient(parcel);
    let identity = [("Message-ID", format!("<{}>", email.message_id)), ("X-PM-KeepID", "true".to_owned())];
    let headers = identity.into_iter().chain(parts::headers(email));
    let headers: Vec<_> = headers.map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
    let mut message = json!({
        "From": parts::written(email.from.address.as_str(), email.from.name.as_deref()),
        "To": parts::written(to, name),
        "Subject": email.subject,
        "Headers": headers,
    });
    let replies = email.reply_to.iter().map(|one| parts::written(one.address.as_str(), one.name.as_deref()));
    let replies = replies.collect::<Vec<_>>().join(", ");
    let files = parts::files(email, |file, content| {
        let mut part = json!({ "Name": file.filename, "Content": content, "ContentType": file.content_type });
        if let Some(id) = &file.content_id {
            part["ContentID"] = json!(format!("cid:{id}"));
        }
        part
    });
    for (name, value) in [
        ("TextBody", parts::text(email).map(|text| json!(text))),
        ("HtmlBody", email.html.as_ref().map(|html| json!(html))),
        ("ReplyTo", (!replies.is_empty()).then(|| json!(replies))),
        ("Attachments", (!files.is_empty()).then(|| json!(files))),
        ("MessageStream", stream.map(|stream| json!(stream))),
    ] {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    message
}

fn classify(answer: &Answer) -> Outcome {
    let body = answer.json();
    let said = body["Message"].as_str().unwrap_or_default();
    let code = body["ErrorCode"].as_u64();
    let text = match code {
        Some(code) if code != 0 => format!("{code} {said}"),
        _ => said.to_owned(),
    };
    match (answer.status, code, body["MessageID"].as_str()) {
        // Our only recipient is one of them.
        (200, Some(0) | None, _) if said.contains("inactive addresses") => {
            Class::Message.outcome(answer, said)
        }
        // "Delivery may be delayed" comes without a code, and is theirs too.
        (200, Some(0) | None, Some(id)) => Class::Sent.outcome(answer, id),
        _ => class(answer.status, code, &said.to_ascii_lowercase()).outcome(answer, &text),
    }
}

fn class(status: u16, code: Option<u64>, said: &str) -> Class {
    match (status, code) {
        (200 | 422, Some(code)) => match code {
            300 if said.contains("'from'") => Class::Account,
            300 | 402 | 403 | 406 | 409 | 411 => Class::Message,
            10 | 400 | 401 | 405 | 412 | 413 | 1235 => Class::Account,
            100 | 429 => Class::Busy,
            0 if status == 200 => Class::Unclear,
            _ => Class::Again,
        },
        (500, Some(100)) => Class::Busy,
        _ => Class::of(status),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, class_of};
    use super::*;

    #[test]
    fn the_table() {
        use Class::*;
        let inactive = "You tried to send to a recipient that has been marked as inactive.";
        let partly = "Message OK, but will not deliver to these inactive addresses: a@x.test.";
        for (status, code, said, expected) in [
            (200, 0, partly, Message),
            (200, 0, "OK", Unclear),
            (200, 406, inactive, Message),
            (401, 10, "No Account or Server API tokens were supplied", Account),
            (422, 10, "Bad or missing API token", Account),
            (422, 300, "Invalid 'To' address: 'x'.", Message),
            (422, 300, "Invalid 'From' address: 'x'.", Account),
            (422, 400, "The 'From' address is not a Sender Signature", Account),
            (422, 401, "Sender signature not confirmed", Account),
            (422, 402, "Invalid JSON", Message),
            (422, 403, "Incompatible JSON", Message),
            (422, 405, "Not allowed to send", Account),
            (422, 406, inactive, Message),
            (422, 409, "JSON required", Message),
            (422, 411, "Forbidden attachment type", Message),
            (422, 412, "Account is pending", Account),
            (422, 413, "Account may not send", Account),
            (422, 9_999, "something new", Again),
            (422, 100, "Maintenance", Busy),
            (429, 429, "Rate limit exceeded", Busy),
            (500, 0, "Internal", Again),
            (503, 100, "Maintenance", Busy),
        ] {
            let body = json!({ "ErrorCode": code, "Message": said }).to_string();
            assert_eq!(class_of(&classify(&answer(status, &[], &body))), expected, "{status} {body}");
        }
        for body in [
            r#"{"To":"a@x.test","MessageID":"b7bc","ErrorCode":0,"Message":"OK"}"#,
            r#"{"To":"a@x.test","MessageID":"b7bc","Message":"Message accepted, but delivery may be delayed."}"#,
        ] {
            let taken = classify(&answer(200, &[], body));
            assert!(matches!(taken, Outcome::Sent(report) if report.text == "b7bc"));
        }
    }
}
