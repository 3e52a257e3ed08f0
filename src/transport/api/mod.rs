//! Providers' HTTP APIs: one file per provider, one client, one table of what answers mean.
//!
//! A delivery has one recipient, and a request names nobody else as one: where the API takes a
//! whole message (SES, Mailgun) the headers stay as they are; where it builds the message itself
//! (the others), `To` shows this recipient alone, because everybody it showed would get a copy.
//!
//! The body leaves in pieces and its last one only with the gate's leave, so that up to there
//! certainly no mail was made. There is no proxy and no redirect, and no second try inside: trying
//! again is the outbox's.

mod answer;
mod body;
mod brevo;
mod classify;
mod http;
mod mailgun;
mod mailjet;
mod parts;
mod postmark;
mod request;
mod scaleway;
mod sendgrid;
mod ses;
mod sigv4;
#[cfg(test)]
mod tests;

use std::fmt;

use reqwest::Url;
use rustls::RootCertStore;

use super::smtp::{TlsError, machine_roots};
use super::{Gate, Outcome, Parcel, Recorder, Report, Stage};
use crate::settings::{self, Api, ExposeSecret, SecretString};
use answer::Answer;
use http::Http;
use request::Request;

pub use http::Deadlines;

/// Why an API cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No authorities, so that no certificate can be checked.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client refused its settings.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
    /// A setting that cannot be.
    #[error("{field} of {provider} {problem}")]
    Setting {
        /// Whose.
        provider: &'static str,
        /// Which.
        field: &'static str,
        /// What is wrong with it, and what is accepted.
        problem: &'static str,
    },
}

/// What is different from one provider to the next.
trait Adapter: Send + Sync {
    /// What logs, events and outcomes call it.
    fn name(&self) -> String;

    /// What no report may hold.
    fn secrets(&self) -> Vec<SecretString>;

    /// The request that sends one mail to one recipient.
    fn send(&self, parcel: Parcel<'_>) -> Request;

    /// A request that needs the same key and sends nothing.
    fn login(&self) -> Request;

    /// What an answer to a mail means.
    fn classify(&self, answer: &Answer) -> Outcome;
}

/// One provider's HTTP API.
pub struct ApiTransport {
    name: String,
    adapter: Box<dyn Adapter>,
    http: Http,
    secrets: Vec<SecretString>,
}

impl ApiTransport {
    /// A transport to this provider, whose certificate is checked against this machine's authorities.
    ///
    /// # Errors
    /// A setting that cannot be, or no authorities.
    pub fn new(settings: &Api) -> Result<Self, ApiError> {
        let plain = base_url(settings).is_some_and(|url| url.starts_with("http:"));
        let roots = if plain { RootCertStore::empty() } else { machine_roots()? };
        Self::with_roots(settings, roots, Deadlines::default())
    }

    /// The same, with these authorities and these deadlines.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn with_roots(settings: &Api, roots: RootCertStore, deadlines: Deadlines) -> Result<Self, ApiError> {
        let http = Http::new(roots, deadlines)?;
        let adapter: Box<dyn Adapter> = match settings {
            Api::Ses(settings) => Box::new(ses::Ses::new(settings)?),
            Api::Mailgun(settings) => Box::new(mailgun::Mailgun::new(settings)?),
            Api::SendGrid(settings) => Box::new(sendgrid::SendGrid::new(settings)?),
            Api::Postmark(settings) => Box::new(postmark::Postmark::new(settings)?),
            Api::Brevo(settings) => Box::new(brevo::Brevo::new(settings)?),
            Api::Mailjet(settings) => Box::new(mailjet::Mailjet::new(settings)?),
            Api::Scaleway(settings) => Box::new(scaleway::Scaleway::new(settings)?),
        };
        let (name, secrets) = (adapter.name().chars().take(64).collect(), adapter.secrets());
        Ok(Self { name, adapter, http, secrets })
    }

    /// The same, with its requests and answers taken down.
    #[must_use]
    pub fn recording(mut self, recorder: Recorder) -> Self {
        self.secrets.iter().for_each(|secret| recorder.hide(secret));
        self.http.record(recorder);
        self
    }

    /// `ses:eu-west-3`, `mailgun:example.com`, `sendgrid`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends one mail to one recipient. Until the last byte of the request it can be stopped by the gate;
    /// after it, only the answer or the deadline ends it.
    pub async fn send(&self, parcel: Parcel<'_>, gate: &impl Gate) -> Outcome {
        if !gate.before_data().await {
            return Outcome::Interrupted;
        }
        let outcome = match self.http.send(self.adapter.send(parcel), gate).await {
            Ok(answer) => self.adapter.classify(&self.without_keys(answer)),
            Err(outcome) => outcome,
        };
        self.without_secrets(outcome)
    }

    /// Asks something harmless that needs the same key.
    ///
    /// # Errors
    /// What stands in the way, as sending would meet it.
    pub async fn check(&self) -> Result<(), Report> {
        let answer = self.http.ask(self.adapter.login()).await.map_err(|report| self.masked(report))?;
        let answer = self.without_keys(answer);
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let report = self.adapter.classify(&answer).report().cloned();
        let report = report.unwrap_or_else(|| Report::new(Stage::Response, answer.text()));
        Err(self.masked(Report { stage: Stage::Account, ..report }))
    }

    /// A provider may answer with the key that it did not like. Before anything is cut off: half a key is one too.
    fn without_keys(&self, mut answer: Answer) -> Answer {
        let body = String::from_utf8_lossy(&answer.body);
        let keys = self.secrets.iter().map(|secret| secret.expose_secret());
        // What is shorter may be a word of the answer's own grammar.
        let found: Vec<&str> = keys.filter(|key| key.len() >= 8 && body.contains(key)).collect();
        if !found.is_empty() {
            let masked = found.iter().fold(body.into_owned(), |text, key| text.replace(key, "***"));
            answer.body = masked.into_bytes();
        }
        answer
    }

    /// The last sieve: headers and errors have not been through the first.
    fn without_secrets(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Sent(report) => Outcome::Sent(self.masked(report)),
            Outcome::Retry(report, wait) => Outcome::Retry(self.masked(report), wait),
            Outcome::Reject(report) => Outcome::Reject(self.masked(report)),
            Outcome::Unusable(report) => Outcome::Unusable(self.masked(report)),
            Outcome::Unknown(report) => Outcome::Unknown(self.masked(report)),
            Outcome::Interrupted => Outcome::Interrupted,
        }
    }

    fn masked(&self, mut report: Report) -> Report {
        for secret in self.secrets.iter().map(|secret| secret.expose_secret()).filter(|s| !s.is_empty()) {
            report.text = report.text.replace(secret, "***");
        }
        report
    }
}

impl fmt::Debug for ApiTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTransport").field("name", &self.name).finish_non_exhaustive()
    }
}

fn base_url(settings: &Api) -> Option<&str> {
    match settings {
        Api::Ses(s) => s.base_url.as_deref(),
        Api::Mailgun(s) => s.base_url.as_deref(),
        Api::SendGrid(s) => s.base_url.as_deref(),
        Api::Postmark(s) => s.base_url.as_deref(),
        Api::Brevo(s) => s.base_url.as_deref(),
        Api::Mailjet(s) => s.base_url.as_deref(),
        Api::Scaleway(s) => s.base_url.as_deref(),
    }
}

/// The provider's own address, or the one that replaces it: HTTPS, or this machine.
fn base(provider: &'static str, given: Option<&str>, own: &str) -> Result<String, ApiError> {
    let Some(given) = given else { return Ok(own.to_owned()) };
    let fault = |problem| ApiError::Setting { provider, field: "base_url", problem };
    let shape = "must be an address such as https://api.example.com, without a login, a query or a fragment";
    let url = Url::parse(given).map_err(|_| fault(shape))?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let Some(host) = url.host_str().filter(|_| bare && url.fragment().is_none()) else {
        return Err(fault(shape));
    };
    match url.scheme() {
        "https" => {}
        "http" if settings::is_loopback(host.trim_matches(['[', ']'])) => {}
        _ => {
            return Err(fault(
                "must begin with https:// (http:// is for this machine: localhost, 127.0.0.1, ::1)",
            ));
        }
    }
    Ok(given.trim_end_matches('/').to_owned())
}

/// A word that becomes part of an address: letters, digits, dots, hyphens.
fn word(provider: &'static str, field: &'static str, text: &str) -> Result<String, ApiError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if text.is_empty() || text.len() > 253 || text.starts_with('.') || !text.bytes().all(fits) {
        let problem = "must be 1 to 253 ASCII letters, digits, dots and hyphens";
        return Err(ApiError::Setting { provider, field, problem });
    }
    Ok(text.to_owned())
}
