//! How log lines look, and which.

use super::faults::{Faults, shown};
use super::reader::{Found, Reader};
use super::variables::Variables;

/// How log lines look, and which.
#[derive(Debug, Clone)]
pub struct Log {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// A `tracing` filter such as `info,facteur=debug`.
    pub filter: String,
    /// Whether a terminal gets colours: `NO_COLOR` is unset.
    pub color: bool,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Log {
    /// Reads `LOG_FORMAT`, `LOG_LEVEL` or `RUST_LOG`, and `NO_COLOR`.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let log = Self::read(&mut reader);
        reader.finish(Some(log))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let format = reader.parse("LOG_FORMAT", "text or json", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        Self {
            format: format.map_or(LogFormat::Text, |found| found.value),
            filter: read_filter(reader),
            color: reader.text("NO_COLOR").is_none(),
        }
    }
}

/// `RUST_LOG` wins, because it is what one types in front of a command to look closer, once.
fn read_filter(reader: &mut Reader<'_>) -> String {
    let level = reader.text("LOG_LEVEL");
    let filter = reader.text("RUST_LOG");
    if let Some(Found { name, value }) = &level
        && is_misspelt_level(value.trim())
    {
        let text = format!(
            "{} is not error, warn, info, debug, trace or off, nor a filter such as \
             info,facteur=debug",
            shown(value)
        );
        reader.fault(&[name], text);
    }
    let found = filter.or(level);
    found.map_or_else(|| "info".to_owned(), |found| found.value.trim().to_owned())
}

/// A filter of one bare word is the name of a module to show, and hides everything else: so
/// `warning`, which is no level, would silence Facteur.
fn is_misspelt_level(filter: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let bare = filter.chars().all(|c| c.is_alphanumeric() || c == '_');
    let facteur = filter == env!("CARGO_CRATE_NAME");
    bare && !facteur && !levels.iter().any(|level| level.eq_ignore_ascii_case(filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log<const N: usize>(pairs: [(&str, &str); N]) -> Result<Log, Faults> {
        Log::from_variables(&Variables::from_iter(pairs))
    }

    #[test]
    fn defaults_to_text_at_info() {
        let log = log([]).expect("no fault");
        assert_eq!((log.format, log.filter.as_str(), log.color), (LogFormat::Text, "info", true));
    }

    #[test]
    fn rust_log_wins_over_log_level() {
        let log = log([("LOG_LEVEL", "warn"), ("RUST_LOG", "facteur=trace")]).expect("no fault");
        assert_eq!(log.filter, "facteur=trace");
        assert_eq!(self::log([("LOG_LEVEL", "WARN")]).expect("no fault").filter, "WARN");
    }

    #[test]
    fn reads_format_and_no_color() {
        let log = log([("LOG_FORMAT", "json"), ("NO_COLOR", "1")]).expect("no fault");
        assert_eq!((log.format, log.color), (LogFormat::Json, false));
    }

    #[test]
    fn refuses_what_would_silence_the_log() {
        for (name, value) in [("LOG_FORMAT", "xml"), ("LOG_LEVEL", "warning"), ("LOG_LEVEL", "verbose")] {
            let text = log([(name, value)]).expect_err("a fault").to_string();
            assert!(text.starts_with(name) && text.contains(value), "{text}");
        }
        for value in ["off", "info,facteur=debug", "facteur", "facteur::outbox=trace"] {
            assert!(log([("LOG_LEVEL", value)]).is_ok(), "{value}");
        }
    }
}
