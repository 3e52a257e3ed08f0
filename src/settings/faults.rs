//! What is wrong with the settings: all of it at once.

use std::fmt::{self, Write as _};

/// At most this many characters of a refused value are shown.
const SHOWN: usize = 64;

/// One thing that is wrong, with the variables to look at and what they accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    names: Vec<String>,
    text: String,
}

/// Every fault found, one per line when printed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Faults(Vec<Fault>);

impl Fault {
    pub(super) fn new(names: &[&str], text: impl Into<String>) -> Self {
        Self { names: names.iter().map(ToString::to_string).collect(), text: text.into() }
    }

    /// The variables, or the file, that the fault is about.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl Faults {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self(faults)
    }

    /// Each fault, in the order in which the settings are read.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.names.join(", "), self.text)
    }
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A value that is no secret, quoted for a message: escaped, and cut.
///
/// A URL with a user in it is not shown: a password pasted into the wrong variable is still one.
pub(super) fn shown(value: &str) -> String {
    if value.contains('@') && value.contains("://") {
        return "a URL (not shown)".to_owned();
    }
    let mut out = String::from("\"");
    let mut left = SHOWN;
    for c in value.chars() {
        let escaped = c.escape_debug();
        let Some(rest) = left.checked_sub(escaped.len()) else {
            out.push('…');
            break;
        };
        left = rest;
        // Writing to a String cannot fail.
        let _ = write!(out, "{escaped}");
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_one_fault_per_line() {
        let faults = Faults::new(vec![Fault::new(&["A"], "is one"), Fault::new(&["B", "C"], "are two")]);
        assert_eq!(faults.to_string(), "A: is one\nB, C: are two");
    }

    #[test]
    fn shows_a_value_escaped_and_cut() {
        assert_eq!(shown("a\r\n\u{1b}[2J"), r#""a\r\n\u{1b}[2J""#);
        assert_eq!(shown(&"x".repeat(64)).chars().count(), 66);
        assert_eq!(shown(&"x".repeat(65)), format!("\"{}…\"", "x".repeat(64)));
        assert!(shown(&"\u{202e}".repeat(60)).chars().count() <= 67);
    }

    #[test]
    fn does_not_show_a_url_with_a_user() {
        assert!(!shown("smtp://me:hunter2@relay.test").contains("hunter2"));
    }
}
