//! The mails as files, so that they outlive a restart: `<id>.eml` as received, `<id>.json` with
//! the envelope and the unread mark.
//!
//! The `.json` is written last, and both by rename: a mail is there with all its bytes or not at
//! all. Nothing is synced to the disk, because this is a development tool: what it keeps
//! survives the process, not the power cut.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the SMTP client said about a mail.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// Empty for a bounce (`MAIL FROM:<>`).
    pub(super) from: String,
    pub(super) to: Vec<String>,
}

/// The `.json` beside a mail.
#[derive(Serialize, Deserialize)]
pub(super) struct Sidecar {
    pub(super) envelope: Envelope,
    pub(super) unread: bool,
}

/// The folder of the mails.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The ids that are there, oldest first.
    pub(super) fn ids(&self) -> io::Result<Vec<Uuid>> {
        let mut ids: Vec<Uuid> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            if let Some(id) = id_of(&entry?.path(), "json") {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) fn write(&self, id: Uuid, sidecar: &Sidecar, raw: &[u8]) -> io::Result<()> {
        self.put(&self.path(id, "eml"), raw)?;
        self.write_sidecar(id, sidecar)
    }

    pub(super) fn write_sidecar(&self, id: Uuid, sidecar: &Sidecar) -> io::Result<()> {
        let json = serde_json::to_vec(sidecar).map_err(io::Error::other)?;
        self.put(&self.path(id, "json"), &json)
    }

    pub(super) fn read_sidecar(&self, id: Uuid) -> io::Result<Sidecar> {
        let json = fs::read(self.path(id, "json"))?;
        serde_json::from_slice(&json).map_err(io::Error::other)
    }

    pub(super) fn read_raw(&self, id: Uuid) -> io::Result<Vec<u8>> {
        fs::read(self.path(id, "eml"))
    }

    /// Removes both files; what is not there is no fault.
    pub(super) fn remove(&self, id: Uuid) -> io::Result<()> {
        for extension in ["json", "eml"] {
            match fs::remove_file(self.path(id, extension)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every file of ours, those that could not be read and half-written ones as well.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if ["json", "eml", "part"].iter().any(|extension| id_of(&path, extension).is_some()) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, id: Uuid, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let part = path.with_extension("part");
        fs::write(&part, bytes)?;
        fs::rename(part, path)
    }
}

fn id_of(path: &Path, extension: &str) -> Option<Uuid> {
    if path.extension()? != extension {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
