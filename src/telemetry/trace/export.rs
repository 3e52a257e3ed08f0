//! What ended goes to the collector, in batches, beside everything else: a collector that is away costs mail nothing.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use super::collector::Collector;
use crate::settings::Otlp;

/// So many spans wait at most; what comes then is dropped.
const ROOM: usize = 4_096;
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last spans may hold up the end of the process.
const GOODBYE: Duration = Duration::from_secs(2);

/// The way of the traces out of this process; goes nowhere unless there is a collector.
#[derive(Debug, Default)]
pub struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Exports on the runtime that is in force.
    pub(in crate::telemetry) fn new(otlp: &Otlp) -> Result<(Self, SdkTracer), HttpError> {
        let provider = SdkTracerProvider::builder()
            .with_span_processor(batches(exporter(otlp)?))
            .with_resource(resource(otlp))
            // A caller that says that nobody keeps its trace is heeded.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        let scope = InstrumentationScope::builder("facteur").with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        Ok((Self { provider: Some(provider) }, tracer))
    }

    /// Sends what is left, within two seconds.
    pub async fn finish(self) {
        let Some(provider) = self.provider else { return };
        // Its thread needs this runtime meanwhile.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(GOODBYE));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

/// The layer that makes spans of this tracer, with no attribute but their fields.
pub(in crate::telemetry) fn layer<S>(tracer: SdkTracer) -> OpenTelemetryLayer<S, SdkTracer>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = OpenTelemetryLayer::new(tracer).with_location(false).with_threads(false);
    layer.with_target(false).with_tracked_inactivity(false)
}

fn exporter(otlp: &Otlp) -> Result<SpanExporter, HttpError> {
    let http = SpanExporter::builder().with_http().with_http_client(Collector::new(otlp, PATIENCE)?);
    let http = http.with_endpoint(&otlp.traces).with_protocol(Protocol::HttpBinary).with_timeout(PATIENCE);
    // Once: a trace is not worth a queue.
    Ok(http.with_retry_policy(RetryPolicy::disabled()).build()?)
}

fn batches(exporter: SpanExporter) -> BatchSpanProcessor {
    let config = BatchConfigBuilder::default().with_max_queue_size(ROOM).with_max_export_batch_size(BATCH);
    BatchSpanProcessor::new(exporter, config.with_scheduled_delay(EVERY).build())
}

fn resource(otlp: &Otlp) -> Resource {
    let process = i64::from(std::process::id());
    let resource = Resource::builder_empty().with_service_name(otlp.service.clone());
    resource
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", process),
        ])
        .build()
}
