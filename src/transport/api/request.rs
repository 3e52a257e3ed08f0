use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::settings::{ExposeSecret, SecretString};

/// A request, complete but for its `Content-Length`. No `Debug`: its headers hold secrets.
pub(super) struct Request {
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// GET without, POST with one.
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    pub(super) fn get(url: String) -> Self {
        Self { url, headers: vec![("accept", "application/json".into())], body: None }
    }

    pub(super) fn post(url: String, content_type: &str, body: Vec<u8>) -> Self {
        let mut request = Self::get(url).header("content-type", content_type);
        request.body = Some(body);
        request
    }

    pub(super) fn json(url: String, body: &serde_json::Value) -> Self {
        Self::post(url, "application/json", body.to_string().into_bytes())
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What follows `Basic` (RFC 7617): as secret as what is in it.
pub(super) fn basic(user: &str, password: &SecretString) -> SecretString {
    base64(format!("{user}:{}", password.expose_secret()).as_bytes()).into()
}

/// With padding, on one line.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
