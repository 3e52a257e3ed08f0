//! The collector, over this program's own HTTP client and TLS.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use crate::settings::Otlp;

const SAY_EVERY: Duration = Duration::from_secs(60);

/// Takes the exporter's requests to the runtime: the exporter has a thread of its own, the HTTP client needs tokio.
pub(super) struct Collector {
    client: Client,
    headers: HeaderMap,
    runtime: Handle,
    /// When it was last said that the collector takes no spans.
    said: Mutex<Option<Instant>>,
}

impl Collector {
    /// Requests go out on the runtime that is in force, and take no longer than `patience`.
    pub(super) fn new(otlp: &Otlp, patience: Duration) -> Result<Self, HttpError> {
        Ok(Self {
            client: client(&otlp.traces, patience)?,
            headers: headers(otlp)?,
            runtime: Handle::try_current()?,
            said: Mutex::default(),
        })
    }

    fn tell(&self, problem: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(problem, "spans were lost; mail goes on without");
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        request.headers_mut().extend(self.headers.clone());
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        // The client looks for the runtime when it is called, not only when it is awaited.
        let answer = self.runtime.spawn(async move { client.execute(request).await }).await?;
        let status = answer.map(|answer| answer.status()).map_err(|error| {
            let problem = causes(error);
            self.tell(&problem);
            problem
        })?;
        if !status.is_success() {
            self.tell(&format!("the collector answered {}", status.as_u16()));
        }
        // What it says beyond that, nobody reads.
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        Ok(response)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

fn headers(otlp: &Otlp) -> Result<HeaderMap, HttpError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &otlp.headers {
        let mut value = HeaderValue::from_str(value.expose_secret())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name)?, value);
    }
    Ok(headers)
}

fn client(address: &str, patience: Duration) -> Result<Client, reqwest::Error> {
    // The process's TLS stack; that somebody else has chosen it already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().timeout(patience).redirect(reqwest::redirect::Policy::none());
    let own = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    if own.iter().any(|start| address.starts_with(start)) {
        builder.no_proxy().build()
    } else {
        builder.build()
    }
}

/// An error and what caused it, without the address.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
