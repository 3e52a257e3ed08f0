//! Whom Postgres runs as: it refuses to be root.

use std::io;
use std::path::Path;

use super::error::LocalPostgresError;

/// The user that Postgres runs as, where that is not simply the user who started Facteur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever started Facteur.
    Same,
    /// Facteur was started by root: an unprivileged user and its group.
    #[cfg(unix)]
    Other { user: u32, group: u32 },
}

#[cfg(unix)]
impl Account {
    /// Chooses the user. Root becomes the owner of `data` when there is data already (so that
    /// `sudo` works on a normal user's data), and else the first of the usual unprivileged users.
    pub(super) fn choose(data: &Path) -> Result<Self, LocalPostgresError> {
        use std::os::unix::fs::MetadataExt;
        if id(&["-u"]) != Some(0) {
            return Ok(Self::Same);
        }
        if let Ok(found) = std::fs::metadata(data)
            && found.uid() != 0
        {
            let (user, group) = (found.uid(), found.gid());
            return Ok(Self::Other { user, group });
        }
        ["postgres", "_postgres", "nobody", "daemon"]
            .iter()
            .find_map(|name| {
                let user = id(&["-u", name]).filter(|user| *user != 0)?;
                let group = id(&["-g", name])?;
                Some(Self::Other { user, group })
            })
            .ok_or(LocalPostgresError::NoUnprivilegedUser)
    }

    /// Makes `command` run as this user, without root's groups.
    pub(super) fn apply(self, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt;
        if let Self::Other { user, group } = self {
            command.gid(group).uid(user);
        }
    }

    /// Gives a file or folder to this user.
    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Same => Ok(()),
            Self::Other { user, group } => std::os::unix::fs::chown(path, Some(user), Some(group)),
        }
    }

    /// Whether this user can stand in `folder`. Tried, not computed: modes, ACLs and mounts all count.
    pub(super) fn can_enter(self, folder: &Path) -> bool {
        if self == Self::Same {
            return true;
        }
        let mut command = std::process::Command::new("true");
        command.current_dir(folder);
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}

/// What `id` answers: the standard library knows no users, and `/etc/passwd` not all of them.
#[cfg(unix)]
fn id(arguments: &[&str]) -> Option<u32> {
    let output =
        std::process::Command::new("id").args(arguments).stderr(std::process::Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

#[cfg(not(unix))]
impl Account {
    /// Windows: `pg_ctl` itself gives up an administrator's rights.
    pub(super) fn choose(_: &Path) -> Result<Self, LocalPostgresError> {
        Ok(Self::Same)
    }

    pub(super) fn apply(self, _: &mut std::process::Command) {}

    pub(super) fn own(self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn can_enter(self, _: &Path) -> bool {
        true
    }
}
