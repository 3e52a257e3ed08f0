//! `.env.example` and the table of known variables say the same, and the code reads just that.

use std::collections::{BTreeMap, BTreeSet};

use super::known::{self, KNOWN};
use super::profile::Environment;
use super::reader::Reader;
use super::{DevSettings, Log, Settings, Variables, sender};

const EXAMPLE: &str = include_str!("../../.env.example");

/// `NAME=value`, also when it is commented out.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(upper)).then_some((name, value))
}

/// Each name, its value, and the line above it.
fn assignments() -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| assignment(pair[1]).map(|(name, value)| (name, (value, pair[0]))))
        .collect()
}

#[test]
fn the_example_names_every_variable_once_and_no_other() {
    let named: Vec<&str> = EXAMPLE.lines().filter_map(assignment).map(|pair| pair.0).collect();
    let once: BTreeSet<String> = named.iter().map(ToString::to_string).collect();
    assert_eq!(once, known::names().collect());
    assert_eq!(once.len(), named.len(), "a variable is named twice");
}

#[test]
fn the_example_explains_each_variable_in_the_words_of_the_table() {
    let assignments = assignments();
    for known in KNOWN {
        let (_, above) = assignments[known.name];
        assert_eq!(above, format!("# {}", known.doc), "{}", known.name);
        if known.secret {
            let (_, above) = assignments[known::file_name(known.name).as_str()];
            assert_eq!(above, format!("# {}=", known.name));
        }
    }
}

#[test]
fn the_code_reads_every_variable_of_the_table() {
    let variables = Variables::default();
    let mut reader = Reader::new(&variables);
    Settings::read(&mut reader);
    DevSettings::read(&mut reader);
    Log::read(&mut reader);
    sender::read(&mut reader, Environment::Production);
    assert_eq!(reader.asked, known::names().collect());
}

#[test]
fn the_example_shows_the_real_defaults() {
    let shown: Variables = assignments()
        .into_iter()
        .map(|(name, (value, _))| (name, value))
        .filter(|(name, _)| {
            let group = ["WORKER_", "SHUTDOWN_", "LOG_", "API_", "HTTP_", "INBOX_", "FACTEUR_", "KEEP_"];
            let is_default =
                group.iter().any(|prefix| name.starts_with(prefix)) || *name == "SMTP_MAX_CONNECTIONS";
            // The default is the publisher's own place; the line shows what a mirror looks like.
            is_default && *name != "FACTEUR_POSTGRES_MIRROR"
        })
        .collect();
    let unset = Variables::default();
    let dev = |variables: &Variables| format!("{:?}", DevSettings::from_variables(variables));
    assert_eq!(dev(&shown), dev(&unset));
    let log = |variables: &Variables| format!("{:?}", Log::from_variables(variables));
    assert_eq!(log(&shown), log(&unset));
    let database = |mut pairs: Vec<(&'static str, &'static str)>| {
        pairs.push(("DATABASE_URL", "postgres://localhost/mail"));
        let variables = Variables::from_iter(pairs);
        format!("{:?}", super::Database::from_variables(&variables))
    };
    let shown =
        ["API_DATABASE_CONNECTIONS", "WORKER_DATABASE_CONNECTIONS"].map(|name| (name, assignments()[name].0));
    assert_eq!(database(shown.to_vec()), database(vec![]));
}

#[cfg(feature = "server")]
#[test]
fn a_copy_of_the_example_is_a_working_development() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    let mut variables = Variables::default();
    variables.load_dotenv_file(path.as_ref()).expect("no fault");
    let dev = DevSettings::from_variables(&variables).expect("no fault");
    assert_eq!((dev.relay.host.as_str(), dev.relay.port), ("localhost", 1025));
    assert_eq!(dev.relay.tls, super::Tls::None);
    assert_eq!(dev.inbox_smtp.to_string(), "127.0.0.1:1025");
    assert_eq!(dev.sender, "noreply@local.test");
}
