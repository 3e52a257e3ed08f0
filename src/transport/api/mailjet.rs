//! Mailjet v3.1, `/v3.1/send`: the message is built there, from parts.
//!
//! The recipient sees themselves as the only one in To: whoever else stood there or in Cc would get a copy.
//! Mailjet writes its own Message-ID; X-Entity-Ref-ID stays, and is the `CustomID` as well. One Reply-To only, the
//! first. `check` asks for the key's profile. A report of success holds Mailjet's MessageID.

use serde_json::{Value, json};

use super::answer::Answer;
use super::classify::Class;
use super::parts;
use super::request::{Request, basic};
use super::{Adapter, ApiError, base};
use crate::settings::{self, ExposeSecret, Region, SecretString};
use crate::transport::{Outcome, Parcel};

const KEYS: [&str; 2] = ["Email", "Name"];

pub(super) struct Mailjet {
    settings: settings::Mailjet,
    base: String,
}

impl Mailjet {
    pub(super) fn new(settings: &settings::Mailjet) -> Result<Self, ApiError> {
        let own = match settings.region {
            Region::Us => "https://api.us.mailjet.com",
            Region::Eu | Region::Default => "https://api.mailjet.com",
        };
        let base = base("mailjet", settings.base_url.as_deref(), own)?;
        Ok(Self { settings: settings.clone(), base })
    }

    fn basic(&self) -> SecretString {
        basic(self.settings.api_key.expose_secret(), &self.settings.secret_key)
    }

    fn authorized(&self, request: Request) -> Request {
        request.header("authorization", format!("Basic {}", self.basic().expose_secret()))
    }
}

impl Adapter for Mailjet {
    fn name(&self) -> String {
        "mailjet".into()
    }

    fn secrets(&self) -> Vec<SecretString> {
        let settings = &self.settings;
        vec![settings.api_key.clone(), settings.secret_key.clone(), self.basic()]
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        let body = json!({ "Messages": [message(parcel)] });
        self.authorized(Request::json(format!("{}/v3.1/send", self.base), &body))
    }

    fn login(&self) -> Request {
        self.authorized(Request::get(format!("{}/v3/REST/myprofile", self.base)))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

fn message(parcel: Parcel<'_>) -> Value {
    let email = parcel.email;
    let (to, name) = parts::recipient(parcel);
    let mut message = json!({
        "From": parts::mailbox(KEYS, &email.from),
        "To": [parts::person(KEYS, to, name)],
        "Subject": email.subject,
        "Headers": parts::header_map(email),
        "CustomID": email.id.to_string(),
    });
    let files = parts::files(email, |file, content| {
        json!({ "ContentType": file.content_type, "Filename": file.filename,
                "Base64Content": content, "ContentID": file.content_id })
    });
    let (inline, attached): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| !file["ContentID"].is_null());
    let attached: Vec<_> = attached.into_iter().map(without_id).collect();
    for (name, value) in [
        ("TextPart", parts::text(email).map(|text| json!(text))),
        ("HTMLPart", email.html.as_ref().map(|html| json!(html))),
        ("ReplyTo", email.reply_to.first().map(|one| parts::mailbox(KEYS, one))),
        ("Attachments", (!attached.is_empty()).then(|| json!(attached))),
        ("InlinedAttachments", (!inline.is_empty()).then(|| json!(inline))),
    ] {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    message
}

fn without_id(mut file: Value) -> Value {
    if let Some(file) = file.as_object_mut() {
        file.remove("ContentID");
    }
    file
}

/// One message was asked for, so one answer counts, whatever the status; an `ErrorCode` outside of it
/// says that none was taken.
fn classify(answer: &Answer) -> Outcome {
    let body = answer.json();
    let message = &body["Messages"][0];
    if answer.status == 200 && message["Status"] == "success" {
        let id = message["To"][0]["MessageID"].to_string();
        return Class::Sent.outcome(answer, id.trim_matches('"'));
    }
    let error = if message["Errors"][0].is_object() { &message["Errors"][0] } else { &body };
    let word = |name: &str| error[name].as_str().unwrap_or_default();
    let (code, said) = (word("ErrorCode"), word("ErrorMessage"));
    let text = if said.is_empty() { answer.text() } else { format!("{code} {said}") };
    class(answer.status, error, code).outcome(answer, text.trim())
}

fn class(status: u16, error: &Value, code: &str) -> Class {
    let about_sender = |field: &Value| field.as_str().is_some_and(|f| f.starts_with("From") || f == "Sender");
    let fields = error["ErrorRelatedTo"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !(400..500).contains(&status) {
        return Class::of(status);
    }
    // A batch is answered with one status; the message's own says more.
    let own = error["StatusCode"].as_u64().and_then(|code| u16::try_from(code).ok());
    match own.filter(|own| (400..600).contains(own)).unwrap_or(status) {
        // "… is not an authorized sender email address for your account."
        400 if code == "send-0008" || fields.iter().any(about_sender) => Class::Account,
        own => Class::of(own),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, class_of};
    use super::*;

    fn failed(code: &str, status: u16, related: &str) -> String {
        json!({ "Messages": [{ "Status": "error", "Errors": [{
            "ErrorIdentifier": "88b5ca9f", "ErrorCode": code, "StatusCode": status,
            "ErrorMessage": "because", "ErrorRelatedTo": [related] }] }] })
        .to_string()
    }

    #[test]
    fn the_table() {
        use Class::*;
        let sent = r#"{"Messages":[{"Status":"success","To":[{"Email":"a@x.test","MessageUUID":"u","MessageID":456}]}]}"#;
        let top = r#"{"ErrorIdentifier":"1","ErrorCode":"mj-0002","StatusCode":400,"ErrorMessage":"Malformed JSON"}"#;
        for (status, body, expected) in [
            (200, sent, Sent),
            (200, r#"{"Messages":[]}"#, Unclear),
            (400, &failed("mj-0013", 400, "To[0].Email"), Message),
            (400, &failed("send-0008", 400, "From"), Account),
            (400, &failed("mj-0013", 400, "From.Email"), Account),
            (400, &failed("mj-0010", 403, ""), Account),
            (400, &failed("mj-0010", 429, ""), Busy),
            (400, top, Message),
            (
                401,
                r#"{"ErrorMessage":"API key authentication/authorization failure.","StatusCode":401}"#,
                Account,
            ),
            (403, "", Account),
            (413, "", Message),
            (429, "", Busy),
            (500, "", Again),
            (503, "", Busy),
        ] {
            assert_eq!(class_of(&classify(&answer(status, &[], body))), expected, "{status} {body}");
        }
        assert!(matches!(classify(&answer(200, &[], sent)), Outcome::Sent(report) if report.text == "456"));
    }
}
