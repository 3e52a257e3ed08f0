//! A Postgres server of a case's own, to stop, to kill and to start again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use facteur::local_postgres::{LocalPostgres, Silent};
use facteur::settings::ExposeSecret;

/// How a server is made to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Transactions are rolled back, sessions are closed (SIGINT).
    Fast,
    /// As if the machine lost its power: recovery at the next start (SIGQUIT).
    Immediate,
}

/// A durable server in a folder of its own; both go with this value.
pub(crate) struct Cluster {
    home: PathBuf,
    running: Option<LocalPostgres>,
    url: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let home = std::env::temp_dir().join(format!("facteur-faults-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).unwrap();
        Self::start_in(home).await
    }

    /// In a folder that is there already: one that is small, say.
    pub(crate) async fn start_in(home: PathBuf) -> Self {
        open_to_all(&home);
        let running = LocalPostgres::start(&home, None, &Silent).await.unwrap();
        let url = running.url().expose_secret().to_owned();
        Self { home, running: Some(running), url }
    }

    /// `postgres://…` of the empty database `facteur`, as the server's owner.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("postgres/data")
    }

    /// Down when this returns.
    pub(crate) async fn stop(&mut self, how: Stop) {
        let pid = self.pid();
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        let end = Instant::now() + Duration::from_secs(30);
        while Path::new("/proc").join(&pid).exists() {
            assert!(Instant::now() < end, "Postgres does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(self.running.take());
    }

    /// Up again, at the same address, when this returns.
    pub(crate) async fn start_again(&mut self) {
        // One that fell by itself must not be stopped later in place of the new one.
        drop(self.running.take());
        let running = LocalPostgres::start(&self.home, None, &Silent).await.unwrap();
        assert_eq!(running.url().expose_secret(), self.url, "the address is kept");
        self.running = Some(running);
    }

    fn pid(&self) -> String {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().to_owned()
    }
}

/// Started as root, the server runs as another user, who must be able to enter.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if let (Some(running), Some(pid)) = (self.running.take(), file.lines().next()) {
            drop(running);
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
            let end = Instant::now() + Duration::from_secs(5);
            while Path::new("/proc").join(pid).exists() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
