//! What ended goes to the collector, in batches, beside everything else: a collector that is away costs mail nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::layer::{Recorded, TraceLayer};
use super::wire;
use crate::settings::Otlp;

/// So many spans wait at most; what comes then is dropped.
const ROOM: usize = 4_096;
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last spans may hold up the end of the process.
const GOODBYE: Duration = Duration::from_secs(2);
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The way of the traces out of this process; goes nowhere unless there is a collector.
#[derive(Debug, Default)]
pub struct Traces {
    exporter: Option<Exporter>,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Exporter {
    otlp: Otlp,
    spans: mpsc::Receiver<Recorded>,
    dropped: Arc<AtomicU64>,
    /// When it was last said that spans are lost.
    said: Option<Instant>,
}

impl Traces {
    pub(in crate::telemetry) fn new(otlp: &Otlp) -> (Self, TraceLayer) {
        let (sender, spans) = mpsc::channel(ROOM);
        let dropped = Arc::<AtomicU64>::default();
        let layer = TraceLayer { spans: sender, dropped: Arc::clone(&dropped) };
        let exporter = Exporter { otlp: otlp.clone(), spans, dropped, said: None };
        (Self { exporter: Some(exporter), ..Self::default() }, layer)
    }

    /// Begins to export, on the runtime that is in force.
    pub fn start(&mut self) {
        if let Some(exporter) = self.exporter.take() {
            let stop = self.stop.clone();
            self.running = Some(tokio::spawn(exporter.run(stop)));
        }
    }

    /// Sends what is left, within two seconds.
    pub async fn finish(self) {
        self.stop.cancel();
        if let Some(running) = self.running
            && timeout(GOODBYE, running).await.is_err()
        {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

impl Exporter {
    async fn run(mut self, stop: CancellationToken) {
        let client = match client(&self.otlp.traces) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(error = causes(error), "traces cannot be sent");
                return;
            }
        };
        loop {
            let stopping = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none();
            let mut batch = Vec::new();
            while let Ok(span) = self.spans.try_recv() {
                batch.push(span);
                if batch.len() == BATCH {
                    self.send(&client, &std::mem::take(&mut batch)).await;
                }
            }
            self.send(&client, &batch).await;
            if stopping {
                return;
            }
        }
    }

    /// Once: a trace is not worth a queue.
    async fn send(&mut self, client: &Client, batch: &[Recorded]) {
        if batch.is_empty() {
            return;
        }
        let body = wire::request(&self.otlp.service, batch).to_string();
        let request = client.post(&self.otlp.traces).header(CONTENT_TYPE, "application/json").body(body);
        let headers = self.otlp.headers.iter();
        let request = headers.fold(request, |r, (name, value)| r.header(name, value.expose_secret()));
        let problem = match request.send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answered {}", answer.status().as_u16())),
            Err(error) => Some(causes(error)),
        };
        self.tell(problem, batch.len());
    }

    fn tell(&mut self, problem: Option<String>, spans: usize) {
        let lost = problem.as_ref().map_or(0, |_| spans as u64);
        let lost = self.dropped.fetch_add(lost, Ordering::Relaxed) + lost;
        if lost > 0 && self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            self.dropped.store(0, Ordering::Relaxed);
            tracing::warn!(spans = lost, problem, "spans were lost; mail goes on without");
        }
    }
}

fn client(address: &str) -> Result<Client, reqwest::Error> {
    // The process's TLS stack; that somebody else has chosen it already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
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
