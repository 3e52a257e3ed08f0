//! Takes values out of the variables, and collects what is wrong with them.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use super::duration;
use super::faults::{Fault, Faults, shown};
use super::known::file_name;
use super::variables::Variables;

/// A secret file larger than this is something else.
const LARGEST_SECRET: u64 = 64 * 1024;

/// A value, and the variable that it was found in.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) name: String,
    pub(super) value: T,
}

/// One reading of the variables. A value that is wrong is noted and counts as unset from there on,
/// so that one reading finds every fault.
pub(super) struct Reader<'a> {
    variables: &'a Variables,
    faults: Vec<Fault>,
    #[cfg(test)]
    pub(super) asked: std::collections::BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a Variables) -> Self {
        Self {
            variables,
            faults: Vec::new(),
            #[cfg(test)]
            asked: Default::default(),
        }
    }

    /// What was read, if nothing was wrong with it.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Faults> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.faults.is_empty(), "nothing was read, and nobody knows why");
                Err(Faults::new(self.faults))
            }
        }
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, names: &[&str], text: impl Into<String>) {
        self.faults.push(Fault::new(names, text));
    }

    /// Notes a fault that may only be the consequence of an earlier one about the same variables:
    /// a required value that is malformed is not missing too.
    pub(super) fn fault_unless_known(&mut self, names: &[&str], text: impl Into<String>) {
        if !self.is_faulty(names) {
            self.fault(names, text);
        }
    }

    /// Whether one of the variables has a fault already.
    pub(super) fn is_faulty(&self, names: &[&str]) -> bool {
        let mut known = self.faults.iter().flat_map(Fault::names);
        known.any(|name| names.contains(&name.as_str()))
    }

    /// Whether a variable has a value, right or wrong.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.variables.get(name).is_some()
    }

    /// A text that is no secret.
    pub(super) fn text(&mut self, name: &str) -> Option<Found<String>> {
        #[cfg(test)]
        self.asked.insert(name.to_owned());
        let Some(value) = self.variables.get(name)?.to_str() else {
            self.fault(&[name], "is not UTF-8 text");
            return None;
        };
        Some(Found { name: name.to_owned(), value: value.to_owned() })
    }

    /// A text that `parse` makes something of; `accepts` ends the sentence "… is not".
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        accepts: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Found<T>> {
        let Found { name, value } = self.text(name)?;
        let parsed = parse(value.trim());
        if parsed.is_none() {
            self.fault(&[&name], format!("{} is not {accepts}", shown(&value)));
        }
        parsed.map(|value| Found { name, value })
    }

    /// A whole number within bounds.
    pub(super) fn number<T>(&mut self, name: &str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        let accepts = format!("a number from {} to {}", bounds.start(), bounds.end());
        let number = |text: &str| text.parse().ok().filter(|number| bounds.contains(number));
        self.parse(name, &accepts, number).map_or(default, |found| found.value)
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        name: &str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let accepts = format!(
            "a duration from {} to {}, such as 500ms, 10s, 2m, 1h or 30d",
            duration::shown(*bounds.start()),
            duration::shown(*bounds.end()),
        );
        let within = |text: &str| duration::parse(text).filter(|value| bounds.contains(value));
        self.parse(name, &accepts, within).map_or(default, |found| found.value)
    }

    /// A yes or a no, in any usual spelling.
    pub(super) fn flag(&mut self, name: &str) -> Option<Found<bool>> {
        self.parse(name, "True or False", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        })
    }

    /// A secret: the variable itself, or the content of the file that `NAME_FILE` names.
    pub(super) fn secret(&mut self, name: &str) -> Option<Found<SecretString>> {
        let file = file_name(name);
        match (self.text(name), self.text(&file)) {
            (Some(_), Some(_)) => {
                let text = "both are set; keep the one you mean and unset the other";
                self.fault(&[name, &file], text);
                None
            }
            (Some(Found { name, value }), None) => Some(Found { name, value: value.into() }),
            (None, Some(path)) => self.secret_file(path),
            (None, None) => None,
        }
    }

    fn secret_file(&mut self, path: Found<String>) -> Option<Found<SecretString>> {
        match read_secret(&path.value) {
            Ok(value) => Some(Found { name: path.name, value }),
            Err(problem) => {
                let text = format!("the file {} {problem}", shown_path(&path.value));
                self.fault(&[&path.name], text);
                None
            }
        }
    }

    /// One value that two variables can hold: whichever is set, or both if they agree.
    pub(super) fn agreed<T>(
        &mut self,
        one: Option<Found<T>>,
        other: Option<Found<T>>,
        agree: impl FnOnce(&T, &T) -> bool,
    ) -> Option<Found<T>> {
        if let (Some(one), Some(other)) = (&one, &other)
            && !agree(&one.value, &other.value)
        {
            let text = "they are the same setting and disagree; keep one, or give both one value";
            self.fault(&[&one.name, &other.name], text);
        }
        one.or(other)
    }
}

fn read_secret(path: &str) -> Result<SecretString, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_SECRET + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > LARGEST_SECRET {
        return Err("is larger than 64 KiB, which no secret is".to_owned());
    }
    let text = String::from_utf8(content).map_err(|_| "is not UTF-8 text".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    // A line end of Windows; a lone carriage return may be the secret's own.
    let line = if line.len() < text.len() { line.strip_suffix('\r').unwrap_or(line) } else { line };
    if line.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(line.into())
}

/// A path is named in full, unless it is the secret itself, put where its file's name belongs.
pub(super) fn shown_path(path: &str) -> String {
    if path.contains("://") {
        return "named (a URL, not a path; not shown)".to_owned();
    }
    format!("\"{}\"", path.escape_debug())
}
