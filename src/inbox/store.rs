//! The last mails: an index in memory, the mails themselves in the archive.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use super::archive::{Archive, Envelope, Sidecar};
use super::reading::Reading;

/// Older mails make room for newer ones.
const KEPT: usize = 500;

/// What lists and searches need of a mail.
pub(super) struct Summary {
    pub(super) id: Uuid,
    pub(super) envelope: Envelope,
    pub(super) from: String,
    pub(super) subject: String,
    pub(super) snippet: String,
    pub(super) size: usize,
    pub(super) attachments: usize,
    /// From, to, subject and text in lower case.
    searchable: String,
}

/// A mail in the index.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) summary: Arc<Summary>,
    pub(super) unread: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) total: usize,
    pub(super) unread: usize,
}

/// The mails and the news about them.
pub(super) struct Store {
    archive: Archive,
    /// Oldest first, which is the order of their ids.
    index: Mutex<Vec<Entry>>,
    /// Held while files change, so that a clear cannot take the files of a mail that is arriving.
    writing: Mutex<()>,
    revision: watch::Sender<i64>,
}

impl Store {
    /// Reads what earlier runs left; what cannot be read is skipped with a warning.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let archive = Archive::open(folder)?;
        let ids = archive.ids()?;
        let index = ids.into_iter().filter_map(|id| load(&archive, id)).collect();
        // Starts at the time of day, so that a page from an earlier run sees that it is behind.
        let start = OffsetDateTime::now_utc().unix_timestamp() * 1000;
        let store = Self {
            archive,
            index: Mutex::new(index),
            writing: Mutex::new(()),
            revision: watch::Sender::new(start),
        };
        store.make_room();
        Ok(store)
    }

    /// Keeps a mail: once this returns `Ok`, it is on the list and in the folder.
    pub(super) fn add(&self, envelope: Envelope, raw: &[u8]) -> io::Result<Uuid> {
        let id = Uuid::now_v7();
        let summary = Summary::new(id, envelope, raw);
        let sidecar = Sidecar { envelope: summary.envelope.clone(), unread: true };
        let entry = Entry { summary: Arc::new(summary), unread: true };
        let writing = self.writing();
        self.archive.write(id, &sidecar, raw)?;
        {
            let mut index = self.index();
            let place = index.partition_point(|other| other.summary.id < id);
            index.insert(place, entry);
        }
        self.make_room();
        drop(writing);
        self.changed();
        tracing::debug!(inbox_id = %id, size = raw.len(), "mail received");
        Ok(id)
    }

    /// Newest first; with a query, those that contain each of its words.
    pub(super) fn list(&self, query: &str) -> Vec<Entry> {
        let query = query.to_lowercase();
        let found =
            |entry: &&Entry| query.split_whitespace().all(|word| entry.summary.searchable.contains(word));
        self.index().iter().rev().filter(found).cloned().collect()
    }

    pub(super) fn get(&self, id: Uuid) -> Option<Entry> {
        let index = self.index();
        let place = index.binary_search_by_key(&id, |entry| entry.summary.id).ok()?;
        Some(index[place].clone())
    }

    /// The bytes as received; none when the mail is gone.
    pub(super) fn raw(&self, id: Uuid) -> io::Result<Option<Vec<u8>>> {
        match self.archive.read_raw(id) {
            Ok(raw) => Ok(Some(raw)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn mark_read(&self, id: Uuid) -> io::Result<()> {
        let _writing = self.writing();
        let Some(envelope) = self.take_unread_mark(id) else {
            return Ok(());
        };
        self.changed();
        self.archive.write_sidecar(id, &Sidecar { envelope, unread: false })
    }

    /// Forgets every mail and removes its files.
    pub(super) fn clear(&self) -> io::Result<()> {
        let _writing = self.writing();
        self.index().clear();
        self.changed();
        self.archive.remove_all()
    }

    pub(super) fn counts(&self) -> Counts {
        let index = self.index();
        Counts { total: index.len(), unread: index.iter().filter(|entry| entry.unread).count() }
    }

    /// A number that grows with every change. Subscribe before looking, and no change is missed.
    pub(super) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    fn take_unread_mark(&self, id: Uuid) -> Option<Envelope> {
        let mut index = self.index();
        let entry = index.iter_mut().find(|entry| entry.summary.id == id && entry.unread)?;
        entry.unread = false;
        Some(entry.summary.envelope.clone())
    }

    fn make_room(&self) {
        let surplus: Vec<Entry> = {
            let mut index = self.index();
            let surplus = index.len().saturating_sub(KEPT);
            index.drain(..surplus).collect()
        };
        for entry in surplus {
            if let Err(error) = self.archive.remove(entry.summary.id) {
                tracing::warn!(inbox_id = %entry.summary.id, %error, "an old mail's files could not be removed");
            }
        }
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    // What the locks guard is whole between any two statements, so a poisoned one is still good.
    fn index(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(archive: &Archive, id: Uuid) -> Option<Entry> {
    let read = || Ok::<_, io::Error>((archive.read_sidecar(id)?, archive.read_raw(id)?));
    match read() {
        Ok((sidecar, raw)) => {
            let summary = Summary::new(id, sidecar.envelope, &raw);
            Some(Entry { summary: Arc::new(summary), unread: sidecar.unread })
        }
        Err(error) => {
            tracing::warn!(inbox_id = %id, %error, "a mail of an earlier run cannot be read and is skipped");
            None
        }
    }
}

impl Summary {
    fn new(id: Uuid, envelope: Envelope, raw: &[u8]) -> Self {
        let reading = Reading::of(raw);
        let text = reading.readable_text();
        let from = reading.from.unwrap_or_else(|| envelope.from.clone());
        let searchable =
            [&from, &envelope.from, &envelope.to.join(" "), &reading.recipients, &reading.subject, &text]
                .map(|field| field.to_lowercase())
                .join("\n");
        Self {
            id,
            envelope,
            from,
            snippet: snippet(&text),
            subject: reading.subject,
            size: raw.len(),
            attachments: reading.attachments.len(),
            searchable,
        }
    }

    /// When the mail arrived: a UUIDv7 says it, to the millisecond.
    pub(super) fn received_at(&self) -> OffsetDateTime {
        let milliseconds = self.id.get_timestamp().map_or(0, |timestamp| {
            let (seconds, nanoseconds) = timestamp.to_unix();
            i128::from(seconds) * 1000 + i128::from(nanoseconds / 1_000_000)
        });
        OffsetDateTime::from_unix_timestamp_nanos(milliseconds * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// The first words of a text, on one line.
fn snippet(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() + word.len() > 160 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}
