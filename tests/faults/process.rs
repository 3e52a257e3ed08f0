//! The real program as a process of its own, to kill, to freeze and to end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use facteur::settings::Relay;

/// A running `facteur worker` or `facteur serve`; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// The environment of a worker that hurries: leases are found lost within seconds.
pub(crate) fn hasty(database: &str, relay: &Relay) -> Vec<(&'static str, String)> {
    vec![
        ("APP_ENV", "development".to_owned()),
        ("DATABASE_URL", database.to_owned()),
        ("SMTP_HOST", relay.host.clone()),
        ("SMTP_PORT", relay.port.to_string()),
        ("SMTP_MAX_CONNECTIONS", "16".to_owned()),
        ("WORKER_POLL", "200ms".to_owned()),
        ("WORKER_HEARTBEAT", "500ms".to_owned()),
        ("WORKER_SESSION_EXPIRY", "2s".to_owned()),
        ("LOG_LEVEL", "info".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
    ]
}

impl Process {
    /// `facteur …` with this environment and nothing else.
    pub(crate) fn start(arguments: &[&str], environment: &[(&'static str, String)]) -> Self {
        Self::start_of(Path::new(env!("CARGO_BIN_EXE_facteur")), arguments, environment)
    }

    /// The same of another build.
    pub(crate) fn start_of(
        program: &Path,
        arguments: &[&str],
        environment: &[(&'static str, String)],
    ) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.log", uuid::Uuid::new_v4()));
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // Away from any `.env`.
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// kill -9, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `TERM`, `STOP`, `CONT`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// How it ended and how long that took, if it does within the time given.
    pub(crate) async fn ended(&mut self, patience: Duration) -> Option<(ExitStatus, Duration)> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some((status, begun.elapsed()));
            }
            if begun.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What stands behind `start` in its log, up to a quotation mark, once it is there.
    pub(crate) async fn logged(&self, start: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some((_, rest)) = self.log().split_once(start)
                && let Some((value, _)) = rest.split_once('"')
            {
                return value.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "never logged {start}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// How many files and sockets this program has open; zero where the system does not tell.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count())
}

/// How much memory this program has, in kB; zero where the system does not tell.
pub(crate) fn memory_kb() -> u64 {
    status_kb("VmRSS:")
}

/// The most that it had since [`forget_peak_memory`].
pub(crate) fn peak_memory_kb() -> u64 {
    status_kb("VmHWM:")
}

pub(crate) fn forget_peak_memory() {
    // Where this is not known, the peak is that of the whole run: too much rather than too little.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.log);
    }
}
