//! W3C Trace Context: the header `traceparent`, as a request brings it and an e-mail's row keeps it.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const HEADER: &str = "traceparent";

/// The context of the span in force, as the header `traceparent` has it; none while nothing is traced.
pub(crate) fn traceparent() -> Option<String> {
    written(&Context::current())
}

/// Puts a span that nobody entered yet under a parent of another process; what is no `traceparent` changes nothing.
pub(crate) fn continues(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(read) {
        // A span that is not traced has no parent either.
        let _ = span.set_parent(parent);
    }
}

fn written(context: &Context) -> Option<String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut headers);
    headers.remove(HEADER)
}

fn read(text: &str) -> Option<Context> {
    // The propagator takes shorter numbers, and a plus in front of them.
    let lengths = text.split('-').map(str::len).take(4);
    if !lengths.eq([2, 32, 16, 2]) || text.contains('+') {
        return None;
    }
    let headers = HashMap::from([(HEADER.to_owned(), text.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    // Nothing valid, nothing written.
    written(&context).map(|_| context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_as_it_is_written() {
        for good in [GOOD.to_owned(), GOOD.replace("-01", "-00")] {
            assert_eq!(read(&good).and_then(|context| written(&context)), Some(good));
        }
        assert!(read(&format!("01{}-more", &GOOD[2..])).is_some(), "a later version");
    }

    #[test]
    fn what_is_none_begins_a_trace_of_its_own() {
        for bad in [
            "",
            "00",
            "00-1-1-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
