//! Twilio SendGrid v3, `/v3/mail/send`: the message is built there, from parts.
//!
//! The recipient sees themselves as the only one in To: whoever else stood there or in Cc would get a copy,
//! and SendGrid refuses both as headers. Our Message-ID is given as a header, beside X-Entity-Ref-ID.
//! `check` asks for the key's scopes. A report of success holds `X-Message-Id`.

use serde_json::{Value, json};

use super::answer::Answer;
use super::classify::Class;
use super::parts;
use super::request::Request;
use super::{Adapter, ApiError, base};
use crate::settings::{self, ExposeSecret, Region, SecretString};
use crate::transport::{Outcome, Parcel};

const KEYS: [&str; 2] = ["email", "name"];

pub(super) struct SendGrid {
    settings: settings::SendGrid,
    base: String,
}

impl SendGrid {
    pub(super) fn new(settings: &settings::SendGrid) -> Result<Self, ApiError> {
        let own = match settings.region {
            Region::Eu => "https://api.eu.sendgrid.com",
            Region::Us | Region::Default => "https://api.sendgrid.com",
        };
        let base = base("sendgrid", settings.base_url.as_deref(), own)?;
        Ok(Self { settings: settings.clone(), base })
    }

    fn authorized(&self, request: Request) -> Request {
        request.header("authorization", format!("Bearer {}", self.settings.api_key.expose_secret()))
    }
}

impl Adapter for SendGrid {
    fn name(&self) -> String {
        "sendgrid".into()
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.settings.api_key.clone()]
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        self.authorized(Request::json(format!("{}/v3/mail/send", self.base), &message(parcel)))
    }

    fn login(&self) -> Request {
        self.authorized(Request::get(format!("{}/v3/scopes", self.base)))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

fn message(parcel: Parcel<'_>) -> Value {
    let email = parcel.email;
    let (to, name) = parts::recipient(parcel);
    // Plain text first, or it is refused.
    let mut content = Vec::new();
    content.extend(parts::text(email).map(|text| json!({ "type": "text/plain", "value": text })));
    content.extend(email.html.as_ref().map(|html| json!({ "type": "text/html", "value": html })));
    let mut headers = parts::header_map(email);
    headers.insert("Message-ID".into(), json!(format!("<{}>", email.message_id)));
    let mut message = json!({
        "personalizations": [{ "to": [parts::person(KEYS, to, name)] }],
        "from": parts::mailbox(KEYS, &email.from),
        "subject": email.subject,
        "content": content,
        "headers": headers,
    });
    if !email.reply_to.is_empty() {
        let replies: Vec<_> = email.reply_to.iter().map(|one| parts::mailbox(KEYS, one)).collect();
        message["reply_to_list"] = json!(replies);
    }
    let files = parts::files(email, |file, content| {
        let mut part = json!({ "content": content, "type": file.content_type, "filename": file.filename });
        part["disposition"] = json!(if file.content_id.is_some() { "inline" } else { "attachment" });
        if let Some(id) = &file.content_id {
            part["content_id"] = json!(id);
        }
        part
    });
    if !files.is_empty() {
        message["attachments"] = json!(files);
    }
    message
}

fn classify(answer: &Answer) -> Outcome {
    if answer.status == 202 {
        let id = answer.header("x-message-id").unwrap_or("202");
        return Class::Sent.outcome(answer, id);
    }
    let body = answer.json();
    let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let about_sender = |error: &Value| {
        error["field"].as_str().is_some_and(|field| field == "from" || field.starts_with("from."))
    };
    let class = match answer.status {
        400 if errors.iter().any(about_sender) => Class::Account,
        status => Class::of(status),
    };
    let said: Vec<&str> = errors.iter().filter_map(|error| error["message"].as_str()).collect();
    class.outcome(answer, &said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, class_of};
    use super::*;

    #[test]
    fn the_table() {
        use Class::*;
        let errors = |message: &str, field: Option<&str>| {
            json!({ "errors": [{ "message": message, "field": field, "help": null }] }).to_string()
        };
        for (status, body, expected) in [
            (202, String::new(), Sent),
            (200, String::new(), Unclear),
            (
                400,
                errors("Does not contain a valid address.", Some("personalizations.0.to.0.email")),
                Message,
            ),
            (
                400,
                errors("The from address does not match a verified Sender Identity.", Some("from")),
                Account,
            ),
            (400, errors("Does not contain a valid address.", Some("from.email")), Account),
            (401, errors("The provided authorization grant is invalid, expired, or revoked", None), Account),
            (401, errors("Maximum credits exceeded", None), Account),
            (
                403,
                errors("The from address does not match a verified Sender Identity.", Some("from")),
                Account,
            ),
            (404, String::new(), Account),
            (405, String::new(), Account),
            (406, String::new(), Account),
            (413, errors("content too large", None), Message),
            (429, errors("too many requests", None), Busy),
            (451, String::new(), Account),
            (500, String::new(), Again),
            (503, String::new(), Busy),
        ] {
            assert_eq!(class_of(&classify(&answer(status, &[], &body))), expected, "{status} {body}");
        }
        let taken = classify(&answer(202, &[("x-message-id", "abc.123")], ""));
        assert!(matches!(taken, Outcome::Sent(report) if report.text == "abc.123"));
    }
}
