//! The rules, each held by a table of what is accepted and what is refused.

mod dev;
mod fetching;
mod passwords;
mod profile;
mod relay;
mod secrets;
mod transports;
mod worker;

use super::{DevSettings, Faults, Settings, Variables};

pub(super) const KEY: &str = "kW3vXo0n1yqfT8sB5hUe2RmZ7dLcA9pJ4gQiYxN6wFt";

type Pair<'a> = (&'a str, &'a str);

/// Settings for production in which nothing is wrong.
const PRODUCTION: [Pair<'_>; 4] = [
    ("SMTP_HOST", "relay.test"),
    ("EMAIL_FROM", "noreply@acme.test"),
    ("DATABASE_URL", "postgres://facteur:hunter2@db.test/mail"),
    ("JWT_SECRET", KEY),
];

/// A base with changes; an empty value takes a variable away.
fn with(base: &[Pair<'_>], changes: &[Pair<'_>]) -> Variables {
    let unchanged = base.iter().filter(|(name, _)| changes.iter().all(|(other, _)| other != name));
    unchanged.chain(changes).copied().collect()
}

fn production(changes: &[Pair<'_>]) -> Result<Settings, Faults> {
    Settings::from_variables(&with(&PRODUCTION, changes))
}

fn staging(changes: &[Pair<'_>]) -> Result<Settings, Faults> {
    let base = with_environment("staging");
    Settings::from_variables(&with(&base, changes))
}

fn development(changes: &[Pair<'_>]) -> Result<Settings, Faults> {
    let base = [("APP_ENV", "development"), ("DATABASE_URL", "postgres://localhost/mail")];
    Settings::from_variables(&with(&base, changes))
}

fn dev(changes: &[Pair<'_>]) -> Result<DevSettings, Faults> {
    DevSettings::from_variables(&with(&[], changes))
}

fn with_environment(name: &'static str) -> Vec<Pair<'static>> {
    PRODUCTION.into_iter().chain([("APP_ENV", name)]).collect()
}

/// The only fault of a reading: its variables and its text.
#[track_caller]
fn only_fault<T: std::fmt::Debug>(result: Result<T, Faults>) -> (String, String) {
    let faults = result.expect_err("a fault");
    let text = faults.to_string();
    assert_eq!(faults.iter().count(), 1, "{text}");
    let (names, text) = text.split_once(": ").expect("names and a text");
    (names.to_owned(), text.to_owned())
}

/// A folder that goes when the test ends.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("facteur-settings-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a temporary file");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
