//! Amazon SES v2, `SendEmail` with raw content; signed with Signature Version 4, service `ses`.
//!
//! The recipient sees the message as it was rendered, all of To and Cc included; the envelope is
//! `Destination`, this recipient alone. SES writes its own Message-ID and Date over ours;
//! X-Entity-Ref-ID stays. `check` asks `GetAccount`. A report of success holds SES's message id.

use reqwest::Url;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::answer::Answer;
use super::classify::Class;
use super::request::{Request, base64};
use super::sigv4::{Signer, Unsigned};
use super::{Adapter, ApiError, base, word};
use crate::settings::{self, SecretString};
use crate::transport::{Outcome, Parcel};

pub(super) struct Ses {
    settings: settings::Ses,
    base: String,
    /// As the client writes it.
    host: String,
    /// What `base` adds to each path.
    prefix: String,
}

impl Ses {
    pub(super) fn new(settings: &settings::Ses) -> Result<Self, ApiError> {
        let region = word("ses", "region", &settings.region)?;
        let own = format!("https://email.{region}.amazonaws.com");
        let base = base("ses", settings.base_url.as_deref(), &own)?;
        let url = Url::parse(&base).map_err(|error| ApiError::Client(error.to_string()))?;
        let name = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { settings: settings.clone(), base, host, prefix })
    }

    fn signed(&self, path: &str, mut request: Request) -> Request {
        let signer = Signer {
            access_key_id: &self.settings.access_key_id,
            secret_access_key: &self.settings.secret_access_key,
            session_token: self.settings.session_token.as_ref(),
            region: &self.settings.region,
            service: "ses",
        };
        let unsigned = Unsigned {
            method: if request.body.is_some() { "POST" } else { "GET" },
            host: &self.host,
            path: &format!("{}{path}", self.prefix),
            content_type: request.body.as_ref().map(|_| "application/json"),
            body: request.body.as_deref().unwrap_or_default(),
        };
        // A signature is about now, on a clock that no test and no lease depends on.
        let headers = signer.sign(&unsigned, OffsetDateTime::now_utc());
        request.headers.extend(headers);
        request
    }
}

impl Adapter for Ses {
    fn name(&self) -> String {
        format!("ses:{}", self.settings.region)
    }

    fn secrets(&self) -> Vec<SecretString> {
        let settings = &self.settings;
        let keys = [&settings.access_key_id, &settings.secret_access_key];
        settings.session_token.iter().chain(keys).cloned().collect()
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        let mut body = json!({
            "FromEmailAddress": parcel.from,
            "Destination": { "ToAddresses": [parcel.to] },
            "Content": { "Raw": { "Data": base64(parcel.message) } },
        });
        if let Some(set) = &self.settings.configuration_set {
            body["ConfigurationSetName"] = json!(set);
        }
        let path = "/v2/email/outbound-emails";
        self.signed(path, Request::json(format!("{}{path}", self.base), &body))
    }

    fn login(&self) -> Request {
        let path = "/v2/email/account";
        self.signed(path, Request::get(format!("{}{path}", self.base)))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

fn classify(answer: &Answer) -> Outcome {
    let body = answer.json();
    if let (200, Some(id)) = (answer.status, body["MessageId"].as_str()) {
        return Class::Sent.outcome(answer, id);
    }
    let kind = kind(answer, &body);
    let said = body["message"].as_str().or(body["Message"].as_str()).unwrap_or_default();
    let class = class(answer.status, &kind, &said.to_ascii_lowercase());
    let text = if kind.is_empty() { answer.text() } else { format!("{kind}: {said}") };
    class.outcome(answer, &text)
}

fn class(status: u16, kind: &str, said: &str) -> Class {
    match kind {
        _ if status < 400 => Class::of(status),
        _ if said.contains("quota exceeded") => Class::Account,
        "TooManyRequestsException" | "ThrottlingException" | "Throttling" => Class::Busy,
        "LimitExceededException"
        | "AccountSuspendedException"
        | "SendingPausedException"
        | "MailFromDomainNotVerifiedException"
        | "NotFoundException" => Class::Account,
        "MessageRejected" if said.contains("not verified") || said.contains("authority to send") => {
            Class::Account
        }
        "MessageRejected" | "BadRequestException" | "ValidationException" => Class::Message,
        _ => Class::of(status),
    }
}

/// `MessageRejected` of `MessageRejected:http://…` in the header, or of `com.amazonaws#MessageRejected` in the body.
fn kind(answer: &Answer, body: &Value) -> String {
    let given = answer.header("x-amzn-errortype").or(body["__type"].as_str()).or(body["code"].as_str());
    let given = given.unwrap_or_default();
    let name = given.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, class_of};
    use super::*;

    #[test]
    fn the_table() {
        use Class::*;
        for (status, kind, said, expected) in [
            (429, "TooManyRequestsException", "Too many", Busy),
            (400, "ThrottlingException", "Maximum sending rate exceeded.", Busy),
            (400, "Throttling:http://internal/", "Maximum sending rate exceeded.", Busy),
            (429, "ThrottlingException", "Daily message quota exceeded.", Account),
            (400, "LimitExceededException", "", Account),
            (400, "AccountSuspendedException", "", Account),
            (400, "SendingPausedException", "", Account),
            (400, "MailFromDomainNotVerifiedException", "", Account),
            (400, "MessageRejected", "Email address is not verified. The following …", Account),
            (400, "MessageRejected", "Transaction failed: Expected ';'", Message),
            (400, "BadRequestException", "", Message),
            (404, "NotFoundException", "Configuration set <x> does not exist.", Account),
            (403, "InvalidSignatureException", "", Account),
            (403, "ExpiredTokenException", "", Account),
            (403, "AccessDeniedException", "", Account),
            (500, "InternalFailure", "", Again),
            (503, "ServiceUnavailable", "", Busy),
            (504, "", "", Unclear),
            (200, "", "", Unclear),
            (302, "", "", Account),
        ] {
            let body = json!({ "message": said }).to_string();
            let headers = [("x-amzn-errortype", kind)];
            assert_eq!(
                class_of(&classify(&answer(status, &headers, &body))),
                expected,
                "{status} {kind} {said}"
            );
            let body = json!({ "__type": format!("com.amazonaws.ses#{kind}"), "Message": said }).to_string();
            assert_eq!(class_of(&classify(&answer(status, &[], &body))), expected, "{status} {kind} {said}");
        }
        let taken = classify(&answer(200, &[], r#"{"MessageId":"0100-a"}"#));
        assert!(matches!(taken, Outcome::Sent(report) if report.text == "0100-a"));
    }
}
