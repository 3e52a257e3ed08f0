//! Attachments by `path`: files that are fetched before their e-mail is accepted, and stored with it.
//!
//! The caller chooses the address, so it must not lead where only this machine may go. Every connection goes
//! to an address that was checked after it was looked up (`reach.rs`), each redirect is held to the same rules,
//! no proxy of the environment is asked, and nothing of what was answered is told but the status.

mod address;
mod client;
mod draft;
mod reach;
mod refusal;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use reqwest::Client;
use rustls::RootCertStore;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub(super) use draft::{Draft, Wanted};
pub use reach::{Internet, Reach};

use self::client::Fetched;
use self::refusal::Refusal;
use super::ApiError;
use crate::email::Email;
use crate::settings::Fetching;

/// Bytes of all files that one request names: about what it could have brought itself.
const MOST_BYTES: usize = 40_000_000;
/// Different addresses that one request may name.
const MOST_FILES: usize = 100;
/// Files of one request that are fetched at once.
const AT_ONCE: usize = 4;
/// Requests whose files are fetched at once, in the whole process: each may hold so many bytes twice.
const SEATS: usize = 8;

/// Fetches files for e-mails.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    rules: Fetching,
    reach: Arc<dyn Reach>,
    /// The machine's own when there are none.
    roots: Option<RootCertStore>,
    /// Made for the first file: most processes never fetch one.
    client: OnceLock<Option<Client>>,
    seats: Semaphore,
}

impl Fetcher {
    /// From the internet, by the machine's certificate authorities.
    pub fn new(rules: Fetching) -> Self {
        let reach = Arc::new(Internet { loopback: rules.loopback });
        Self::with(rules, reach, None)
    }

    /// From somewhere else, whose certificates are by these authorities: for tests.
    pub fn reaching(rules: Fetching, reach: Arc<dyn Reach>, roots: RootCertStore) -> Self {
        Self::with(rules, reach, Some(roots))
    }

    fn with(rules: Fetching, reach: Arc<dyn Reach>, roots: Option<RootCertStore>) -> Self {
        let seats = Semaphore::new(SEATS);
        Self(Arc::new(Inner { rules, reach, roots, client: OnceLock::new(), seats }))
    }

    /// The e-mails with the files that they name, each or why it cannot be, in their order. A file that several
    /// name is fetched once.
    pub(super) async fn complete(&self, drafts: Vec<Draft>) -> Vec<Result<Email, ApiError>> {
        let paths: BTreeSet<String> =
            drafts.iter().flat_map(|draft| &draft.wanted).map(|wanted| wanted.path.clone()).collect();
        if paths.is_empty() {
            return drafts.into_iter().map(|draft| Ok(draft.email)).collect();
        }
        let room = Room(AtomicUsize::new(MOST_BYTES));
        let files = self.files(paths, &room).await;
        let done = drafts.into_iter().map(|draft| match &files {
            Some(files) => draft.complete(files, &room),
            None => Err(ApiError::Unavailable),
        });
        done.collect()
    }

    /// What is at each of these addresses; none when too many others are fetching.
    async fn files(&self, paths: BTreeSet<String>, room: &Room) -> Option<Files> {
        let deadline = Instant::now() + self.0.rules.patience;
        let _seat = timeout_at(deadline, self.0.seats.acquire()).await.ok()?.ok()?;
        let all = paths.into_iter().enumerate().map(|(i, path)| async move {
            if i >= MOST_FILES {
                return (path, Err(Refusal::TooMany(MOST_FILES)));
            }
            let found = timeout_at(deadline, self.0.fetch(&path, room)).await;
            let late = Refusal::TooSlow(self.0.rules.patience.as_secs());
            (path, found.unwrap_or(Err(late)).map(Fetch::new))
        });
        Some(futures_util::stream::iter(all).buffer_unordered(AT_ONCE).collect().await)
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fetcher").field(&self.0.rules).field(&self.0.reach).finish()
    }
}

/// By their addresses.
type Files = BTreeMap<String, Result<Fetch, Refusal>>;

/// A file, and how many have it already: the first has it for nothing, its bytes were counted as they came.
struct Fetch {
    file: Fetched,
    taken: AtomicUsize,
}

impl Fetch {
    fn new(file: Fetched) -> Self {
        Self { file, taken: AtomicUsize::new(0) }
    }

    fn take(&self, room: &Room) -> Result<&Fetched, Refusal> {
        if self.taken.fetch_add(1, Ordering::Relaxed) > 0 {
            room.take(self.file.content.len())?;
        }
        Ok(&self.file)
    }
}

/// The bytes that a request's files may still have.
struct Room(AtomicUsize);

impl Room {
    fn take(&self, bytes: usize) -> Result<(), Refusal> {
        let left = |left: usize| left.checked_sub(bytes);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        taken.map(drop).map_err(|_| Refusal::TooLarge(MOST_BYTES))
    }

    fn has(&self, bytes: u64) -> bool {
        bytes <= self.0.load(Ordering::Relaxed) as u64
    }
}
