//! Which files the API fetches for its callers.

use std::time::Duration;

use super::profile::Environment;
use super::reader::Reader;

const LOCALHOST: &str = "ATTACHMENTS_FROM_LOCALHOST";

/// Which files the API fetches for its callers: attachments by `path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetching {
    /// Over `http` too, and from any port: development's.
    pub plain: bool,
    /// From this machine too: development's, if it says so.
    pub loopback: bool,
    /// How long all files of one request may take together.
    pub patience: Duration,
}

impl Fetching {
    pub(super) fn of(environment: Environment) -> Self {
        let plain = environment == Environment::Development;
        Self { plain, loopback: false, patience: Duration::from_secs(30) }
    }

    pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> Self {
        let loopback = reader.flag(LOCALHOST).is_some_and(|found| found.value);
        if loopback && environment != Environment::Development {
            let text = "is for development: elsewhere a caller could read with it what only this machine may";
            reader.fault(&[LOCALHOST], text);
        }
        Self { loopback, ..Self::of(environment) }
    }
}
