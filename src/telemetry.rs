//! The tracing subscriber.
