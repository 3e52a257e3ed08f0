//! Mailgun, `/v3/{domain}/messages.mime`: the raw message, in the United States or the European Union.
//!
//! The recipient sees the message as it was rendered, all of To and Cc included; the envelope is the field
//! `to`, this recipient alone. Our Message-ID stays. `check` asks for the domain's record, which a sending key may not
//! read at some accounts: sending may then work all the same. A report of success holds Mailgun's id.

use serde_json::Value;
use uuid::Uuid;

use super::answer::Answer;
use super::classify::Class;
use super::request::{Request, basic};
use super::{Adapter, ApiError, base, word};
use crate::settings::{self, ExposeSecret, Region, SecretString};
use crate::transport::{Outcome, Parcel};

pub(super) struct Mailgun {
    settings: settings::Mailgun,
    base: String,
}

impl Mailgun {
    pub(super) fn new(settings: &settings::Mailgun) -> Result<Self, ApiError> {
        word("mailgun", "domain", &settings.domain)?;
        let own = match settings.region {
            Region::Eu => "https://api.eu.mailgun.net",
            Region::Us | Region::Default => "https://api.mailgun.net",
        };
        let base = base("mailgun", settings.base_url.as_deref(), own)?;
        Ok(Self { settings: settings.clone(), base })
    }

    fn basic(&self) -> SecretString {
        basic("api", &self.settings.api_key)
    }

    fn authorized(&self, request: Request) -> Request {
        request.header("authorization", format!("Basic {}", self.basic().expose_secret()))
    }
}

impl Adapter for Mailgun {
    fn name(&self) -> String {
        format!("mailgun:{}", self.settings.domain)
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.settings.api_key.clone(), self.basic()]
    }

    fn send(&self, parcel: Parcel<'_>) -> Request {
        let url = format!("{}/v3/{}/messages.mime", self.base, self.settings.domain);
        let boundary = format!("facteur-{}", Uuid::new_v4().simple());
        let body = form(&boundary, parcel);
        self.authorized(Request::post(url, &format!("multipart/form-data; boundary={boundary}"), body))
    }

    fn login(&self) -> Request {
        self.authorized(Request::get(format!("{}/v3/domains/{}", self.base, self.settings.domain)))
    }

    fn classify(&self, answer: &Answer) -> Outcome {
        classify(answer)
    }
}

/// RFC 7578: the recipient and the message.
fn form(boundary: &str, parcel: Parcel<'_>) -> Vec<u8> {
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\n{}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"message\"; filename=\"message.eml\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n",
        parcel.to
    )
    .into_bytes();
    body.extend_from_slice(parcel.message);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

fn classify(answer: &Answer) -> Outcome {
    let body = answer.json();
    let said = match &body["message"] {
        Value::String(said) => said.clone(),
        _ => answer.text(),
    };
    if let (200, Some(id)) = (answer.status, body["id"].as_str().filter(|id| !id.is_empty())) {
        return Class::Sent.outcome(answer, id.trim_matches(['<', '>']));
    }
    class(answer.status, &said.to_ascii_lowercase()).outcome(answer, &said)
}

fn class(status: u16, said: &str) -> Class {
    match status {
        // What it says at an address that it does not know.
        200 if said.contains("magnificent api") => Class::Account,
        400 if said.contains("not allowed to send") || said.contains("authorized recipients") => {
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
        for (status, body, expected) in [
            (200, r#"{"id":"<20261122.1@example.com>","message":"Queued. Thank you."}"#, Sent),
            (200, "Mailgun Magnificent API", Account),
            (200, "", Unclear),
            (
                400,
                r#"{"message":"'to' parameter is not a valid address. please check documentation"}"#,
                Message,
            ),
            (400, r#"{"message":"Domain example.com is not allowed to send: disabled"}"#, Account),
            (401, "Forbidden", Account),
            (402, r#"{"message":"payment"}"#, Account),
            (403, r#"{"message":"Domain is disabled"}"#, Account),
            (404, r#"{"message":"Domain not found: example.com"}"#, Account),
            (413, "", Message),
            (
                429,
                r#"{"message":"account-requests-per-sec limit exceeded, try again after 120 seconds"}"#,
                Busy,
            ),
            (500, "", Again),
            (502, "", Busy),
        ] {
            assert_eq!(class_of(&classify(&answer(status, &[], body))), expected, "{status} {body}");
        }
    }

    #[test]
    fn try_again_after_120_seconds_is_120_seconds() {
        let body =
            r#"{"message":"Sender account-requests-per-sec limit exceeded, try again after 120 seconds"}"#;
        let outcome = classify(&answer(429, &[], body));
        assert!(matches!(outcome, Outcome::Retry(_, Some(wait)) if wait.as_secs() == 120), "{outcome:?}");
    }
}
