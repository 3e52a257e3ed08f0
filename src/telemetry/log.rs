//! The tracing subscriber: log lines for people or for machines, all of them to stderr.

use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::ParseError;
#[cfg(feature = "otlp")]
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use super::TRACE;
use super::trace::Traces;
#[cfg(feature = "otlp")]
use super::trace::layer;
use crate::settings::{Log, LogFormat, Otlp};

/// Why logging or counting could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is malformed.
    #[error("LOG_LEVEL or RUST_LOG: not a filter such as info,facteur=debug")]
    Filter(#[from] ParseError),
    /// There is a subscriber already.
    #[error("logging was started before")]
    Started(#[from] TryInitError),
    /// Something in this process counts already.
    #[error("counting was started before")]
    Counting,
}

/// Starts logging, for the whole process, and where there is a collector, tracing, on the runtime that is in force.
///
/// # Errors
/// The filter is malformed, or there is a log already.
pub fn init(log: &Log, otlp: Option<&Otlp>) -> Result<Traces, TelemetryError> {
    // "already exists, skipping", at each start; whoever wants to read it names it in the filter.
    // What is for traces is not for the log.
    let filter = format!("sqlx::postgres::notice=warn,{},{TRACE}=off", log.filter);
    let filter = EnvFilter::try_new(filter)?;
    #[cfg(feature = "otlp")]
    let failed = match otlp.map(Traces::new) {
        Some(Ok((traces, tracer))) => {
            let only_ours = filter_fn(|metadata| metadata.target() == TRACE);
            let spans = layer(tracer).with_filter(only_ours.with_max_level_hint(LevelFilter::INFO));
            tracing_subscriber::registry().with(lines(log).with_filter(filter)).with(spans).try_init()?;
            return Ok(traces);
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    tracing_subscriber::registry().with(filter).with(lines(log)).try_init()?;
    #[cfg(not(feature = "otlp"))]
    return Ok(Traces::new(otlp));
    #[cfg(feature = "otlp")]
    {
        if let Some(error) = failed {
            tracing::error!(%error, "traces cannot be sent; mail goes on without");
        }
        Ok(Traces::default())
    }
}

type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

fn lines<S>(log: &Log) -> Lines<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match log.format {
        LogFormat::Text => text(io::stderr, log.color && io::stderr().is_terminal()),
        LogFormat::Json => json(io::stderr),
    }
}

fn text<S, W>(writer: W, color: bool) -> Lines<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(color);
    lines.fmt_fields(OneLine).boxed()
}

fn json<S, W>(writer: W) -> Lines<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).json();
    lines.flatten_event(true).with_current_span(false).boxed()
}

/// Fields as text, each event on one line.
///
/// tracing-subscriber's own text escapes ESC but lets line ends through, so that an SMTP server
/// or a caller could write log lines of its own.
struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = OneLineVisitor { writer, empty: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct OneLineVisitor<'w> {
    writer: Writer<'w>,
    empty: bool,
    result: fmt::Result,
}

impl OneLineVisitor<'_> {
    fn write(&mut self, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        if !self.empty {
            self.writer.write_char(' ')?;
        }
        self.empty = false;
        if name != "message" {
            self.writer.write_str(name.strip_prefix("r#").unwrap_or(name))?;
            self.writer.write_char('=')?;
        }
        Escaped(&mut self.writer).write_fmt(value)
    }
}

impl Visit for OneLineVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A message is read, other texts are quoted: where they end is part of what they say.
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", Causes(error)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Fields that the bridge from the log crate adds; they are shown as target and place.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field.name(), format_args!("{value:?}"));
        }
    }
}

/// An error and what caused it, from the outside in.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Writes control characters, line ends and what turns the direction of text as escapes.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| must_not_pass(c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", c.escape_default())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

fn must_not_pass(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    use tracing_subscriber::Registry;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            buffer.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(lines: impl FnOnce(Buffer) -> Lines<Registry>, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let subscriber = tracing_subscriber::registry().with(lines(buffer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = buffer.0.lock().expect("nobody panicked").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn as_text(log: impl FnOnce()) -> String {
        logged(|buffer| text(move || buffer.clone(), false), log)
    }

    fn as_json(log: impl FnOnce()) -> String {
        logged(|buffer| json(move || buffer.clone()), log)
    }

    const HOSTILE: &str = "250 ok\r\n2026 ERROR \u{1b}[2Jforged\u{9b}\u{2028}\u{202e}\0";

    fn log_something_hostile() {
        let error = io::Error::other(HOSTILE);
        let error: &(dyn Error + 'static) = &error;
        let span = tracing::info_span!("session", reply = %HOSTILE);
        let _entered = span.enter();
        span.record("reply", HOSTILE);
        tracing::info!(shown = %HOSTILE, debugged = ?HOSTILE, plain = HOSTILE, error, "{HOSTILE}");
        tracing::info!(message = HOSTILE);
    }

    #[test]
    fn no_value_writes_a_line_of_its_own() {
        let out = as_text(log_something_hostile);
        assert_eq!(out.lines().count(), 2, "{out}");
        let text = out.replace('\n', "");
        assert!(!text.contains(must_not_pass), "{out:?}");
        assert!(out.contains(r"250 ok\r\n2026 ERROR \u{1b}[2Jforged"), "{out}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        let out = as_json(log_something_hostile);
        assert_eq!(out.lines().count(), 2, "{out}");
        for line in out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(value["message"], HOSTILE);
            assert_eq!(value["level"], "INFO");
            is_utc(value["timestamp"].as_str().expect("a time"));
        }
        assert!(!out.contains(['\u{1b}', '\r', '\0']), "{out:?}");
    }

    #[test]
    fn text_is_time_level_target_message_fields() {
        let out = as_text(|| tracing::warn!(id = 7, host = "relay.test", "late"));
        let (time, rest) = out.split_once(' ').expect("a time");
        is_utc(time);
        assert_eq!(rest, " WARN facteur::telemetry::log::tests: late id=7 host=\"relay.test\"\n");
    }

    #[test]
    fn an_error_comes_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("inner"));
        let out = as_text(|| tracing::error!(error = &outer as &(dyn Error + 'static)));
        assert!(out.contains("error=outer: inner"), "{out}");
    }

    #[test]
    fn a_malformed_filter_is_refused_by_name() {
        let log = Log { format: LogFormat::Text, filter: "facteur=loud".to_owned(), color: false };
        let error = init(&log, None).expect_err("no such level");
        assert!(matches!(error, TelemetryError::Filter(_)));
        assert!(error.to_string().starts_with("LOG_LEVEL or RUST_LOG"));
    }

    #[test]
    fn colours_only_when_asked_for() {
        let log = || tracing::info!("x");
        let out = logged(|buffer| text(move || buffer.clone(), true), log);
        assert!(out.contains('\u{1b}'));
        assert!(!as_text(log).contains('\u{1b}'));
    }

    fn is_utc(time: &str) {
        let parsed = OffsetDateTime::parse(time, &Rfc3339).expect("RFC 3339");
        assert!(parsed.offset().is_utc() && time.ends_with('Z'), "{time}");
    }
}
