//! Traces: from the request that hands an e-mail over to the reply of the server that takes it, also across processes.
//!
//! A span of the target [`TARGET`] is for traces alone, the log does not show it. It holds what the log may hold of a mail and
//! less: its id, the way out, codes; no address, no subject, no word of a server. The e-mail's row keeps the trace's
//! context, and the worker's spans go on with it.
//!
//! Fields with a meaning of their own: `otel.name` and `otel.kind` of the span, and `otel.status_code`, which is
//! `ERROR` when it went wrong. Numbers are `i64`: others arrive as texts.

#[cfg(all(feature = "otlp", feature = "server"))]
mod collector;
#[cfg(feature = "otlp")]
mod context;
#[cfg(all(feature = "otlp", feature = "server"))]
mod export;

#[cfg(feature = "otlp")]
pub(crate) use context::{continues, traceparent};
#[cfg(all(feature = "otlp", feature = "server"))]
pub use export::Traces;
#[cfg(all(feature = "otlp", feature = "server"))]
pub(super) use export::layer;

/// The target of spans that are for traces.
pub(crate) const TARGET: &str = "facteur::trace";

/// Nothing is traced in this build.
#[cfg(not(feature = "otlp"))]
pub(crate) fn traceparent() -> Option<String> {
    None
}

/// Nothing is traced in this build.
#[cfg(not(feature = "otlp"))]
pub(crate) fn continues(_span: &tracing::Span, _traceparent: Option<&str>) {}

/// Traces that go nowhere: this build has no exporter.
#[cfg(all(feature = "server", not(feature = "otlp")))]
#[derive(Debug, Default)]
pub struct Traces;

#[cfg(all(feature = "server", not(feature = "otlp")))]
impl Traces {
    pub(super) fn new(otlp: Option<&crate::settings::Otlp>) -> Self {
        if otlp.is_some() {
            tracing::warn!(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this build has no feature otlp: nothing is traced"
            );
        }
        Self
    }

    /// Nothing to do.
    pub async fn finish(self) {}
}
