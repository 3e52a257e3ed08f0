use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde::Deserialize;

use super::{Failure, Fetched, OAuth, SecretString, Stage};
use crate::settings::ExposeSecret;

/// A token that says nothing of its life (RFC 6749 §5.1 only recommends it).
const ASSUMED_LIFE: u64 = 300;
/// Longer than any endpoint means it.
const LONGEST_LIFE: u64 = 24 * 3_600;
/// Bytes of an answer: tokens have a few thousand.
const LARGEST_ANSWER: usize = 256 * 1024;
/// Characters of an endpoint's explanation.
const SHOWN: usize = 300;

/// Where tokens are fetched.
pub(super) struct Endpoint {
    client: Result<Client, String>,
}

/// RFC 6749 §5.1. No `Debug`: it holds the token.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

/// RFC 6749 §5.2.
#[derive(Deserialize, Default)]
struct Denied {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Endpoint {
    pub(super) fn new(oauth: &OAuth) -> Self {
        // The process's TLS stack; that somebody else has chosen it already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would carry the client's secret to wherever it says.
        let builder = Client::builder().redirect(redirect::Policy::none());
        let builder = builder.connect_timeout(Duration::from_secs(10));
        // One on this machine is not for the network's proxy.
        let builder = if oauth.token_url.starts_with("http://") { builder.no_proxy() } else { builder };
        Self { client: builder.build().map_err(causes) }
    }

    /// # Errors
    /// The endpoint is away: later. It refuses us: not until somebody changes something.
    pub(super) async fn fetch(&self, oauth: &OAuth) -> Result<Fetched, Failure> {
        let client = self.client.as_ref().map_err(|error| unfit(error.clone()))?;
        let url = Url::parse(&oauth.token_url).map_err(|_| unfit("the token URL is not a URL".into()))?;
        let request = client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form(oauth));
        let mut response = request.send().await.map_err(|error| away(&causes(error)))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| away(&causes(error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                return Err(away("its answer is longer than 256 KiB"));
            }
        }
        match response.status().as_u16() {
            200 => granted(&body),
            status => Err(denied(status, &body, oauth)),
        }
    }
}

/// The secret goes in the body, where every endpoint takes it (RFC 6749 §2.3.1 allows either).
fn form(oauth: &OAuth) -> String {
    let mut pairs = vec![
        ("grant_type", "client_credentials"),
        ("client_id", oauth.client_id.as_str()),
        ("client_secret", oauth.client_secret.expose_secret()),
    ];
    pairs.extend(oauth.scope.as_deref().map(|scope| ("scope", scope)));
    let encode = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        });
        bytes.collect()
    };
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

fn granted(body: &[u8]) -> Result<Fetched, Failure> {
    // The parser's words could quote the token.
    let granted: Granted = serde_json::from_slice(body).map_err(|_| away("its answer holds no token"))?;
    let bearer = granted.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    let readable = |c: u8| c.is_ascii_graphic();
    if !bearer || granted.access_token.is_empty() || !granted.access_token.bytes().all(readable) {
        return Err(unfit("the token endpoint gave something else than a bearer token".into()));
    }
    let seconds = match granted.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_f64().map(|seconds| seconds as u64),
        // As a text it is against the RFC, and met.
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let lives = Duration::from_secs(seconds.unwrap_or(ASSUMED_LIFE).min(LONGEST_LIFE));
    Ok(Fetched { secret: SecretString::from(granted.access_token), lives })
}

fn denied(status: u16, body: &[u8], oauth: &OAuth) -> Failure {
    let Denied { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let words = format!("{status} {error} {error_description}");
    let words = words.replace(oauth.client_secret.expose_secret(), "(the client secret)");
    let words: String = words.trim().chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    let later = matches!(status, 408 | 429 | 500..=599)
        || matches!(error.as_str(), "temporarily_unavailable" | "server_error");
    if later { away(&words) } else { unfit(format!("the token endpoint refuses: {words}")) }
}

fn away(why: &str) -> Failure {
    Failure::Broken { stage: Stage::Auth, text: format!("no token could be fetched: {why}") }
}

fn unfit(text: String) -> Failure {
    Failure::Unfit { stage: Stage::Auth, text }
}

/// reqwest's own text stops at "error sending request"; without the address, which is in the settings.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
