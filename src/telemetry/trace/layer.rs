//! Spans of ours, as they open and close.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::Context as Within;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use super::context::Context;

/// A span, open or ended.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) context: Context,
    pub(super) parent: Option<u64>,
    pub(super) begun: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) fields: Fields,
}

/// What a span says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) is_error: bool,
    pub(super) attributes: Vec<(&'static str, Value)>,
    remote: Option<Context>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// Hands spans that ended to the exporter, and never waits for it.
pub(in crate::telemetry) struct TraceLayer {
    pub(super) spans: mpsc::Sender<Recorded>,
    /// Those for which there was no room.
    pub(super) dropped: Arc<AtomicU64>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, within: Within<'_, S>) {
        let Some(span) = within.span(id) else { return };
        let mut fields = Fields { name: attributes.metadata().name().to_owned(), ..Fields::default() };
        attributes.record(&mut fields);
        let around =
            || span.scope().skip(1).find_map(|s| s.extensions().get::<Recorded>().map(|r| r.context));
        let parent = fields.remote.or_else(around);
        let now = now();
        span.extensions_mut().insert(Recorded {
            context: parent.map_or_else(Context::root, Context::child),
            parent: parent.map(|parent| parent.span),
            begun: now,
            ended: now,
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, within: Within<'_, S>) {
        if let Some(span) = within.span(id)
            && let Some(recorded) = span.extensions_mut().get_mut::<Recorded>()
        {
            values.record(&mut recorded.fields);
        }
    }

    fn on_close(&self, id: Id, within: Within<'_, S>) {
        let recorded = within.span(&id).and_then(|span| span.extensions_mut().remove::<Recorded>());
        let Some(mut recorded) = recorded.filter(|recorded| recorded.context.sampled) else { return };
        recorded.ended = now();
        if self.spans.try_send(recorded).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a trace compares processes of several machines; no mail goes by it"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The context of the innermost span of ours that is in force.
pub(super) fn current() -> Option<Context> {
    let found = Span::current().with_subscriber(|(id, subscriber)| {
        let span = subscriber.downcast_ref::<Registry>()?.span(id)?;
        span.scope().find_map(|s| s.extensions().get::<Recorded>().map(|recorded| recorded.context))
    });
    found.flatten()
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = value.to_owned(),
            "otel.kind" => self.kind = value.to_owned(),
            "traceparent" => self.remote = Context::parse(value),
            name => self.attributes.push((name, Value::Text(value.to_owned()))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push((field.name(), Value::Number(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "otel.error" => self.is_error = value,
            name => self.attributes.push((name, Value::Flag(value))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
