//! Scaleway Transactional Email v1alpha1, `/emails`: the message is built there, from parts.
//!
//! The recipient sees themselves as the only one in To: whoever else stood there or in Cc would get a copy.
//! Scaleway writes its own Message-ID; X-Entity-Ref-ID stays. Reply-To goes as a header, addresses only. Inline images arrive as
//! files: Scaleway has no content ids. `check` asks for the project's domains. A report of success holds Scaleway's id.

use serde_json::{Value, json};

use super::answer::Answer;
use super::classify::Class;
use super::parts;
use super::request::Request;
use super::{Adapter, ApiError, base, word};
use crate::settings::{self, ExposeSecret, SecretString};
use crate::transport::{Outcome, Parcel};

const KEYS: [&str; 2] = ["email", "name"];

pub(super) struct Scaleway {
    settings: settings::Scaleway,
    base: String,
}

impl Scaleway {
    pub(super) fn new(settings: &settings::Scaleway) -> Result<Self, ApiError> {
        let region = word("scaleway", "region", &settings.region)?;
        word("scaleway", "project_id", &settings.project_id)?;
        let base = base("scaleway", settings.base_url.as_deref(), "https://api.scaleway.com")?;
        let base = format!("{base}/transactional-email/v1alpha1/regions/{region}");
        Ok(Self { settings: settings.clone(), base })
    }

    fn authorized(&self, request: Request) -> Request {
        request.header("x-auth-token", self.settings.secret_key.expose_secret())
    }
}

impl Adapter for Scaleway {
    fn name(&self) -> String {
        format!("scaleway:{}", self.settings.region)
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.settings.secret_key.clone()]
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        let message = message(parcel, &self.settings.project_id);
        self.authorized(Request::json(format!("{}/emails", self.base), &message))
    }

    fn login(&self) -> Request {
        self.authorized(Request::get(format!(
            "{}/domains?project_id={}",
            self.base, self.settings.project_id
        )))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

fn message(parcel: Parcel<'_>, project: &str) -> Value {
    let email = parcel.email;
    let (to, name) = parts::recipient(parcel);
    let replies: Vec<_> = email.reply_to.iter().map(|one| one.address.as_str()).collect();
    let reply_to = (!replies.is_empty()).then(|| ("Reply-To", replies.join(", ")));
    let headers = parts::headers(email).into_iter().chain(reply_to);
    let headers: Vec<_> = headers.map(|(name, value)| json!({ "key": name, "value": value })).collect();
    json!({
        "project_id": project,
        "from": parts::mailbox(KEYS, &email.from),
        "to": [parts::person(KEYS, to, name)],
        "subject": email.subject,
        "text": parts::text(email).unwrap_or_default(),
        "html": email.html.as_deref().unwrap_or_default(),
        "additional_headers": headers,
        "attachments": parts::files(email, |file, content| {
            json!({ "name": file.filename, "type": file.content_type, "content": content })
        }),
    })
}

fn classify(answer: &Answer) -> Outcome {
    let body = answer.json();
    let mail = &body["emails"][0];
    if let (200, Some(status)) = (answer.status, mail["status"].as_str()) {
        let id = mail["id"].as_str().unwrap_or_default();
        return match status {
            "new" | "sending" | "sent" => Class::Sent.outcome(answer, id),
            // They will not send it, and do not say why.
            "failed" | "canceled" => Class::Again.outcome(answer, &format!("{status} {id}")),
            _ => Class::Unclear.outcome(answer, ""),
        };
    }
    let (kind, said) =
        (body["type"].as_str().unwrap_or_default(), body["message"].as_str().unwrap_or_default());
    let text = if kind.is_empty() { answer.text() } else { format!("{kind}: {said}") };
    class(answer.status, &body).outcome(answer, &text)
}

fn class(status: u16, body: &Value) -> Class {
    let details = body["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    let argument = |detail: &Value| detail["argument_name"].as_str().map(str::to_owned);
    let named: Vec<String> = details.iter().filter_map(argument).collect();
    let ours = |name: &String| name.starts_with("from") || name.starts_with("project_id");
    if status == 400 && named.iter().any(ours) { Class::Account } else { Class::of(status) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, class_of};
    use super::*;

    fn mail(status: &str) -> String {
        json!({ "emails": [{ "id": "i-1", "mail_rcpt": "a@x.test", "status": status }] }).to_string()
    }

    fn refused(kind: &str, argument: &str) -> String {
        let details = json!([{ "argument_name": argument, "reason": "constraint" }]);
        json!({ "type": kind, "message": "because", "details": details }).to_string()
    }

    #[test]
    fn the_table() {
        use Class::*;
        for (status, body, expected) in [
            (200, mail("new"), Sent),
            (200, mail("sending"), Sent),
            (200, mail("sent"), Sent),
            (200, mail("failed"), Again),
            (200, mail("canceled"), Again),
            (200, mail("unknown"), Unclear),
            (200, "{}".into(), Unclear),
            (400, refused("invalid_arguments", "to"), Message),
            (400, refused("invalid_arguments", "from.email"), Account),
            (401, refused("denied_authentication", ""), Account),
            (403, refused("permissions_denied", ""), Account),
            (403, refused("quotas_exceeded", ""), Account),
            (404, refused("not_found", ""), Account),
            (429, refused("too_many_requests", ""), Busy),
            (500, String::new(), Again),
            (503, String::new(), Busy),
        ] {
            assert_eq!(class_of(&classify(&answer(status, &[], &body))), expected, "{status} {body}");
        }
        let taken = classify(&answer(200, &[], &mail("new")));
        assert!(matches!(taken, Outcome::Sent(report) if report.text == "i-1"));
    }
}
