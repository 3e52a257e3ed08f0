use std::time::Duration;

use metrics::{gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::families::{BUILD, DATABASE, PROCESS, describe, zero};
use super::log::TelemetryError;

/// The upper bounds of the histograms, in seconds: from a server next door to the longest deadline.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// How often samples are gathered into the histograms: between scrapes they would only pile up.
const GATHER_EVERY: Duration = Duration::from_secs(5);

/// What this process counted, as text for Prometheus.
///
/// The default has counted nothing: for a door in a program whose recorder is its own.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    counted: Option<PrometheusHandle>,
}

/// A recorder that nothing counts on yet, and what shows it.
pub fn recorder() -> (PrometheusRecorder, Exposition) {
    let recorder = empty();
    let exposition = Exposition { counted: Some(recorder.handle()) };
    with_local_recorder(&recorder, || {
        describe(PROCESS);
        zero(PROCESS);
        gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    });
    (recorder, exposition)
}

fn empty() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    // Fails for an empty list only; summaries instead of histograms are no reason not to run.
    builder.set_buckets(&SECONDS).unwrap_or_default().build_recorder()
}

impl Exposition {
    /// Counts for the whole process from here on: the program's business, never the library's.
    ///
    /// # Errors
    /// Something counts already.
    pub fn install() -> Result<Self, TelemetryError> {
        let (recorder, exposition) = recorder();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Counting)?;
        Ok(exposition)
    }

    /// Gathers samples for ever, so that they do not pile up when nobody scrapes.
    pub async fn keep_up(&self) {
        loop {
            tokio::time::sleep(GATHER_EVERY).await;
            self.counted.iter().for_each(PrometheusHandle::run_upkeep);
        }
    }

    /// What was counted so far, and what `read` sets just now: that is told once and then forgotten.
    pub fn text(&self, read: impl FnOnce()) -> String {
        let now = empty();
        with_local_recorder(&now, || {
            describe(DATABASE);
            read();
        });
        let mut text = self.counted.as_ref().map(PrometheusHandle::render).unwrap_or_default();
        text.push_str(&now.handle().render());
        text
    }
}
