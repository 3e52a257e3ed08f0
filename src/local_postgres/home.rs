//! Where the private Postgres lives: the lock on its home, and the folder it can reach.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::LocalPostgresError;
use super::progress::Progress;

/// Held by the one Facteur that uses a home. The system releases it when that process ends, however it ends.
#[derive(Debug)]
pub(super) struct HomeLock {
    _file: File,
}

impl HomeLock {
    pub(super) fn acquire(home: &Path) -> Result<Self, LocalPostgresError> {
        let file = Self::open(home)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(already_running(home)),
            Err(TryLockError::Error(source)) => {
                return Err(LocalPostgresError::folder(home.join("lock"))(source));
            }
        }
        // Beside the lock and not in it: Windows lets nobody read a locked file.
        let pid = home.join("facteur.pid");
        fs::write(&pid, std::process::id().to_string()).map_err(LocalPostgresError::folder(pid))?;
        Ok(Self { _file: file })
    }

    /// The same, waiting for its turn. For tests, which share a server and hold the lock only to start it.
    pub(super) fn wait(home: &Path) -> Result<Self, LocalPostgresError> {
        let file = Self::open(home)?;
        file.lock().map_err(LocalPostgresError::folder(home.join("lock")))?;
        Ok(Self { _file: file })
    }

    fn open(home: &Path) -> Result<File, LocalPostgresError> {
        fs::create_dir_all(home).map_err(LocalPostgresError::folder(home))?;
        let path = home.join("lock");
        File::options().create(true).append(true).open(&path).map_err(LocalPostgresError::folder(path))
    }
}

fn already_running(home: &Path) -> LocalPostgresError {
    LocalPostgresError::AlreadyRunning {
        pid: fs::read_to_string(home.join("facteur.pid")).ok().and_then(|text| text.trim().parse().ok()),
        home: home.to_owned(),
    }
}

/// The folder of the server, and the user that it runs as.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) account: Account,
}

impl Place {
    /// `home/postgres`, or a folder under `/var/lib` where root's home keeps other users out of it.
    pub(super) fn choose(home: &Path, progress: &dyn Progress) -> Result<Self, LocalPostgresError> {
        let home = fs::canonicalize(home).map_err(LocalPostgresError::folder(home))?;
        let near = home.join("postgres");
        let far = fallback(&home);
        let far_has_data = far.join("data").join("PG_VERSION").exists();
        if !far_has_data || near.join("data").exists() {
            let place = Self::prepare(near)?;
            if place.account.can_enter(&place.folder) {
                return Ok(place);
            }
        }
        progress.step(&format!(
            "PostgreSQL cannot be root, and other users cannot enter {}: its data is in {}",
            home.display(),
            far.display()
        ));
        Self::prepare(far)
    }

    fn prepare(folder: PathBuf) -> Result<Self, LocalPostgresError> {
        let account = Account::choose(&folder.join("data"))?;
        fs::create_dir_all(&folder)
            .and_then(|()| account.own(&folder))
            .and_then(|()| private(&folder, 0o700))
            .map_err(LocalPostgresError::folder(&folder))?;
        Ok(Self { folder, account })
    }

    /// Writes a small file that only the server's user and root can read.
    pub(super) fn write_private(&self, name: &str, text: &str) -> Result<(), LocalPostgresError> {
        let path = self.folder.join(name);
        File::create(&path)
            .and_then(|_| private(&path, 0o600))
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| self.account.own(&path))
            .map_err(LocalPostgresError::folder(path))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }
}

fn fallback(home: &Path) -> PathBuf {
    let digest = ring::digest::digest(&ring::digest::SHA256, home.as_os_str().as_encoded_bytes());
    let name = super::cluster::hex(&digest.as_ref()[..8]);
    Path::new("/var/lib").join(format!("facteur-{name}"))
}

#[cfg(unix)]
fn private(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Windows: a user's folders are the user's by inheritance.
#[cfg(not(unix))]
fn private(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}
