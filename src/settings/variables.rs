//! Where values come from: the process environment and `.env`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::known;

/// The values of the variables that Facteur knows, and of no others.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, OsString>);

impl Variables {
    /// Reads the environment of this process.
    pub fn from_process() -> Self {
        known::names().filter_map(|name| process_variable(&name).map(|value| (name, value))).collect()
    }

    /// Takes over a value unless there is one, be it empty: an empty variable switches off a line
    /// of `.env`.
    #[cfg(feature = "server")]
    pub(super) fn add(&mut self, name: String, value: String) {
        if known::names().any(|known| known == name) {
            self.0.entry(name).or_insert_with(|| value.into());
        }
    }

    /// The value of a variable; an empty one counts as unset.
    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        debug_assert!(
            known::names().any(|known| known == name),
            "{name} is missing in the table of known variables"
        );
        self.0.get(name).filter(|value| !value.is_empty())
    }
}

/// The user of the operating system who runs this, as the environment has it.
pub fn os_user() -> Option<String> {
    let names = ["SUDO_USER", "USER", "LOGNAME", "USERNAME"];
    names.iter().filter_map(|name| process_variable(name)?.into_string().ok()).find(|user| !user.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn process_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Values from elsewhere: `Variables::from_iter([("SMTP_HOST", "localhost")])` in a test.
impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        Self(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Names only: any of the values can be a secret.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset() {
        let variables = Variables::from_iter([("SMTP_HOST", ""), ("SMTP_PORT", "25")]);
        assert_eq!(variables.get("SMTP_HOST"), None);
        assert_eq!(variables.get("SMTP_PORT"), Some(&"25".into()));
        assert_eq!(variables.get("EMAIL_FROM"), None);
    }

    #[test]
    fn debug_prints_names_only() {
        let variables = Variables::from_iter([("SMTP_PASSWORD", "hunter2")]);
        assert_eq!(format!("{variables:?}"), r#"{"SMTP_PASSWORD"}"#);
    }
}
