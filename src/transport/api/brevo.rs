//! Brevo v3, `/v3/smtp/email`: the message is built there, from parts.
//!
//! The recipient sees themselves as the only one in To: whoever else stood there or in Cc would get a copy.
//! Brevo writes its own Message-ID and takes no standard header; X-Entity-Ref-ID stays. One Reply-To only, the first.
//! Inline images arrive as files: Brevo has no content ids. `check` asks for the account.
//! A report of success holds Brevo's messageId.
//!
//! No `idempotencyKey`: nothing says whether a request that failed uses its key up, and a mail whose
//! second try were taken for a copy of a first that failed would be lost.

use serde_json::{Value, json};

use super::answer::Answer;
use super::classify::Class;
use super::parts;
use super::request::Request;
use super::{Adapter, ApiError, base};
use crate::settings::{self, ExposeSecret, SecretString};
use crate::transport::{Outcome, Parcel};

const KEYS: [&str; 2] = ["email", "name"];

pub(super) struct Brevo {
    settings: settings::Brevo,
    base: String,
}

impl Brevo {
    pub(super) fn new(settings: &settings::Brevo) -> Result<Self, ApiError> {
        let base = base("brevo", settings.base_url.as_deref(), "https://api.brevo.com")?;
        Ok(Self { settings: settings.clone(), base })
    }

    fn authorized(&self, request: Request) -> Request {
        request.header("api-key", self.settings.api_key.expose_secret())
    }
}

impl Adapter for Brevo {
    fn name(&self) -> String {
        "brevo".into()
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.settings.api_key.clone()]
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        self.authorized(Request::json(format!("{}/v3/smtp/email", self.base), &message(parcel)))
    }

    fn login(&self) -> Request {
        self.authorized(Request::get(format!("{}/v3/account", self.base)))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

fn message(parcel: Parcel<'_>) -> Value {
    let email = parcel.email;
    let (to, name) = parts::recipient(parcel);
    let mut message = json!({
        "sender": parts::mailbox(KEYS, &email.from),
        "to": [parts::person(KEYS, to, name)],
        "subject": email.subject,
        "headers": parts::header_map(email),
    });
    let files = parts::files(email, |file, content| json!({ "name": file.filename, "content": content }));
    for (name, value) in [
        ("textContent", parts::text(email).map(|text| json!(text))),
        ("htmlContent", email.html.as_ref().map(|html| json!(html))),
        ("replyTo", email.reply_to.first().map(|one| parts::mailbox(KEYS, one))),
        ("attachment", (!files.is_empty()).then(|| json!(files))),
    ] {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    message
}

fn classify(answer: &Answer) -> Outcome {
    let body = answer.json();
    if let (201 | 202, Some(id)) = (answer.status, body["messageId"].as_str()) {
        return Class::Sent.outcome(answer, id.trim_matches(['<', '>']));
    }
    let (code, said) =
        (body["code"].as_str().unwrap_or_default(), body["message"].as_str().unwrap_or_default());
    let text = if code.is_empty() { answer.text() } else { format!("{code}: {said}") };
    class(answer.status, code, &said.to_ascii_lowercase()).outcome(answer, &text)
}

fn class(status: u16, code: &str, said: &str) -> Class {
    match code {
        "not_enough_credits" | "unauthorized" | "permission_denied" | "account_under_validation"
            if (400..500).contains(&status) =>
        {
            Class::Account
        }
        // "The sender you used … is not valid. Validate your sender or authenticate your domain".
        "invalid_parameter" | "missing_parameter" if status == 400 && said.contains("sender") => {
            Class::Account
        }
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
        let rejected = "Sending has been rejected because the sender you used a@x.test is not valid.";
        for (status, code, said, expected) in [
            (400, "invalid_parameter", "email is not valid in to", Message),
            (400, "missing_parameter", "subject is missing", Message),
            (400, "invalid_parameter", rejected, Account),
            (400, "not_enough_credits", "", Account),
            (402, "not_enough_credits", "", Account),
            (401, "unauthorized", "Key not found", Account),
            (403, "permission_denied", "", Account),
            (404, "document_not_found", "", Account),
            (429, "too_many_requests", "", Busy),
            (500, "", "", Again),
            (503, "", "", Busy),
            (200, "", "", Unclear),
        ] {
            let body = json!({ "code": code, "message": said }).to_string();
            assert_eq!(class_of(&classify(&answer(status, &[], &body))), expected, "{status} {body}");
        }
        let taken = classify(&answer(201, &[], r#"{"messageId":"<2026.1@smtp-relay.mailin.fr>"}"#));
        assert!(matches!(taken, Outcome::Sent(report) if report.text == "2026.1@smtp-relay.mailin.fr"));
    }

    #[test]
    fn its_reset_header_is_a_number_of_seconds() {
        let outcome = classify(&answer(429, &[("x-sib-ratelimit-reset", "17")], "{}"));
        assert!(matches!(outcome, Outcome::Retry(_, Some(wait)) if wait.as_secs() == 17), "{outcome:?}");
    }
}
