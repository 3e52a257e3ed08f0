use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Body, Client};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout, timeout_at};

use super::ApiError;
use super::answer::{Answer, one_line};
use super::body::{LastPiece, held_back};
use super::request::Request;
use crate::crash::{self, Point};
use crate::transport::{Gate, Outcome, Recorder, Report, Stage};

/// Bytes of an answer that are read.
const MOST_BODY: usize = 65_536;
/// Lines of it that are shown to who watches.
const MOST_LINES: usize = 50;
/// Long enough for a burst, shorter than any provider keeps one open: a request on a connection that the
/// other side is closing would be in doubt.
const IDLE: Duration = Duration::from_secs(15);

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Name look-up, TCP and TLS.
    pub connect: Duration,
    /// All of it, the answer included.
    pub whole: Duration,
    /// The rest of an answer whose status has come.
    pub body: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), whole: seconds(60), body: seconds(10) }
    }
}

/// The one client: HTTP/1.1 over rustls, no redirects, no proxy, nothing unpacked.
pub(super) struct Http {
    client: Client,
    deadlines: Deadlines,
    recorder: Option<Recorder>,
}

impl Http {
    pub(super) fn new(roots: RootCertStore, deadlines: Deadlines) -> Result<Self, ApiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ApiError::Client(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(deadlines.connect)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("facteur/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ApiError::Client(error.to_string()))?;
        Ok(Self { client, deadlines, recorder: None })
    }

    pub(super) fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Sends a request that makes a mail. Until its last piece the gate can stop it; after that, only the
    /// answer or the deadline ends it.
    ///
    /// # Errors
    /// What became of the mail where there was no answer.
    pub(super) async fn send(&self, mut request: Request, gate: &impl Gate) -> Result<Answer, Outcome> {
        let deadline = Instant::now() + self.deadlines.whole;
        let body = request.body.take().unwrap_or_default();
        let length = body.len();
        let (pieces, LastPiece { mut awaited, release }) = held_back(body);
        let mut call = pin!(self.call(request, Some((length, Body::wrap_stream(pieces)))));
        let connecting = tokio::select! {
            biased;
            () = gate.closed() => return Err(Outcome::Interrupted),
            answer = &mut call => return before_the_end(answer),
            ready = timeout_at(deadline, &mut awaited) => ready,
        };
        if !matches!(connecting, Ok(Ok(()))) {
            return Err(again(Report::new(Stage::Request, "no connection took the request in time")));
        }
        if !gate.before_dot() {
            return Err(Outcome::Interrupted);
        }
        crash::reach(Point::BeforeDot, "");
        if release.send(()).is_err() {
            return Err(again(Report::new(Stage::Request, "the connection was lost before the last byte")));
        }
        let unknown = |text: String| Outcome::Unknown(Report::new(Stage::Response, text));
        match timeout_at(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => Err(unknown(fault.text)),
            Err(_) => Err(unknown("no answer in time".into())),
        }
    }

    /// Sends a request that changes nothing.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, Report> {
        match timeout(self.deadlines.whole, self.call(request, None)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => Err(Report::new(fault.stage, fault.text)),
            Err(_) => Err(Report::new(Stage::Response, "no answer in time")),
        }
    }

    async fn call(&self, request: Request, body: Option<(usize, Body)>) -> Result<Answer, Fault> {
        if let Some(recorder) = &self.recorder {
            show_request(recorder, &request, body.as_ref().map(|(length, _)| *length));
        }
        let headers = headers(request.headers).ok_or_else(Fault::unwritable)?;
        let call = match body {
            Some((length, body)) => self.client.post(request.url).header(CONTENT_LENGTH, length).body(body),
            None => self.client.get(request.url),
        };
        let mut response = call.headers(headers).send().await.map_err(Fault::from)?;
        let mut answer =
            Answer { status: response.status().as_u16(), headers: response.headers().clone(), body: vec![] };
        let reading = async {
            // A body that breaks off leaves the status, which says the most.
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = MOST_BODY - answer.body.len();
                answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if answer.body.len() == MOST_BODY {
                    break;
                }
            }
        };
        let _ = timeout(self.deadlines.body, reading).await;
        self.recorder.iter().for_each(|recorder| show_answer(recorder, &answer));
        Ok(answer)
    }
}

/// Its line, its headers, and how much follows them. A header that is not known to be harmless may hold the key.
fn show_request(recorder: &Recorder, request: &Request, length: Option<usize>) {
    const HARMLESS: [&str; 4] = ["accept", "content-type", "x-amz-date", "x-amz-content-sha256"];
    let method = if length.is_some() { "POST" } else { "GET" };
    recorder.us(&format!("{method} {} HTTP/1.1", request.url));
    for (name, value) in &request.headers {
        let shown = if HARMLESS.contains(name) { value } else { "***" };
        recorder.us(&format!("{name}: {shown}"));
    }
    if let Some(length) = length {
        recorder.us(&format!("content-length: {length}"));
        recorder.us("");
        recorder.us(&format!("({length} octets of body, not shown)"));
    }
}

fn show_answer(recorder: &Recorder, answer: &Answer) {
    recorder.them(&format!("HTTP/1.1 {}", answer.status));
    for (name, value) in &answer.headers {
        let shown = if name == SET_COOKIE { "***".into() } else { String::from_utf8_lossy(value.as_bytes()) };
        recorder.them(&format!("{name}: {shown}"));
    }
    recorder.them("");
    String::from_utf8_lossy(&answer.body).lines().take(MOST_LINES).for_each(|line| recorder.them(line));
}

fn headers(given: Vec<(&'static str, String)>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Some(headers)
}

/// Why there is no answer.
struct Fault {
    stage: Stage,
    text: String,
    /// Not a passing one: waiting does not mend a certificate.
    lasting: bool,
}

impl Fault {
    /// A key with a line end in it, say.
    fn unwritable() -> Self {
        let text = "a setting of this provider cannot be written in an HTTP header".to_owned();
        Self { stage: Stage::Account, text, lasting: true }
    }

    /// What it means while the last piece is still here: there is no mail.
    fn before_the_end(self) -> Outcome {
        let report = Report::new(self.stage, self.text);
        if self.lasting { Outcome::Unusable(report) } else { again(report) }
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        // The address may hold what is nobody's business.
        let error = error.without_url();
        let tls = tls_error(&error);
        let stage = match tls {
            _ if !error.is_connect() => Stage::Request,
            Some(_) => Stage::Tls,
            None => Stage::Connect,
        };
        let lasting = matches!(
            tls,
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        );
        let lasting = lasting || error.is_builder();
        Self { stage, text: one_line(&causes(&error)), lasting }
    }
}

/// rustls' own error, which hides in an I/O error that hides among the causes.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| tls_error(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn again(report: Report) -> Outcome {
    Outcome::Retry(report, None)
}

/// An answer, or none, while the last piece is still here: a refusal is one, a success cannot be.
fn before_the_end(answer: Result<Answer, Fault>) -> Result<Answer, Outcome> {
    match answer {
        Ok(answer) if (200..300).contains(&answer.status) => {
            let text = "the request was answered before it was complete".to_owned();
            Err(again(Report { stage: Stage::Request, code: Some(answer.status), text }))
        }
        Ok(answer) => Ok(answer),
        Err(fault) => Err(fault.before_the_end()),
    }
}
