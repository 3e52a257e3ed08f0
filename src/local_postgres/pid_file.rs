//! `postmaster.pid`: by it the server of the last run is found, dead or alive.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::LocalPostgresError;
use super::home::Place;

/// What the server notes about itself while it runs, and leaves behind when it is killed.
pub(super) struct PidFile {
    text: String,
    pub(super) pid: u32,
    pub(super) data: String,
    pub(super) port: Option<u16>,
}

impl PidFile {
    fn path(place: &Place) -> PathBuf {
        place.data().join("postmaster.pid")
    }

    pub(super) fn read(place: &Place) -> Option<Self> {
        let text = fs::read_to_string(Self::path(place)).ok()?;
        let mut lines = text.lines().map(str::trim);
        let pid = lines.next()?.parse().ok()?;
        let data = lines.next()?.to_owned();
        let port = lines.nth(1).and_then(|port| port.parse().ok());
        Some(Self { pid, data, port, text })
    }

    /// Puts this process's number in place of a stranger's who has got the dead server's.
    ///
    /// PostgreSQL would take the stranger for the server and refuse to start; it knows that the
    /// process which runs `pg_ctl` is none. The rest of the file stays: by its shared memory key
    /// PostgreSQL still sees whether sessions of the dead server live.
    pub(super) fn disown(&self, place: &Place) -> Result<(), LocalPostgresError> {
        let rest = self.text.split_once('\n').map_or("", |(_, rest)| rest);
        let path = Self::path(place);
        fs::write(&path, format!("{}\n{rest}", std::process::id())).map_err(LocalPostgresError::folder(path))
    }
}

pub(super) fn same_folder(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
