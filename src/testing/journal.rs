use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::record::AcceptedMail;
use super::script::{Moment, Rule, Stage};
use super::server::Counters;
use super::transcript::{Chunk, Conversation, Speaker};

/// What has happened so far, written by the sessions, read by the test.
#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    conversations: Vec<Conversation>,
    accepted: Vec<AcceptedMail>,
    counters: Counters,
    /// How often each rule of the script has shown.
    shown: Vec<usize>,
}

/// A connection is open for as long as this lives.
pub(super) struct Open {
    journal: Arc<Journal>,
    pub(super) connection: usize,
    /// False: there are too many.
    pub(super) admitted: bool,
}

/// The content of a mail is awaited for as long as this lives.
pub(super) struct InData {
    journal: Arc<Journal>,
}

impl Journal {
    /// A connection begins; it is admitted when there are fewer than `most`.
    pub(super) fn open(self: &Arc<Self>, most: Option<usize>) -> Open {
        let (connection, admitted) = self.write(|state| {
            let counters = &mut state.counters;
            let admitted = most.is_none_or(|most| counters.open < most);
            counters.opened += 1;
            if admitted {
                counters.open += 1;
                counters.most_open = counters.most_open.max(counters.open);
            } else {
                counters.turned_away += 1;
            }
            let connection = counters.opened;
            state.conversations.push(Conversation { connection, ..Conversation::default() });
            (connection, admitted)
        });
        Open { journal: Arc::clone(self), connection, admitted }
    }

    pub(super) fn heard(&self, connection: usize, speaker: Speaker, encrypted: bool, bytes: &[u8]) {
        let chunk = Chunk { speaker, encrypted, bytes: bytes.to_vec() };
        self.write(|state| state.conversations[connection - 1].chunks.push(chunk));
    }

    /// The number of the mail that a MAIL command begins.
    pub(super) fn begin_mail(&self) -> usize {
        self.write(|state| {
            state.counters.mails += 1;
            state.counters.mails
        })
    }

    /// A client was told to go on with its content.
    pub(super) fn begin_data(self: &Arc<Self>) -> InData {
        self.write(|state| {
            state.counters.in_data += 1;
            state.counters.most_in_data = state.counters.most_in_data.max(state.counters.in_data);
        });
        InData { journal: Arc::clone(self) }
    }

    pub(super) fn accept(&self, mail: AcceptedMail) {
        self.write(|state| state.accepted.push(mail));
    }

    /// The first rule that fits shows now, and counts it.
    pub(super) fn show<'a>(&self, rules: &'a [Rule], stage: Stage, moment: &Moment<'_>) -> Option<&'a Rule> {
        self.write(|state| {
            state.shown.resize(rules.len(), 0);
            let mut numbered = rules.iter().enumerate();
            let (n, rule) = numbered.find(|(n, rule)| rule.fits(stage, moment, state.shown[*n]))?;
            state.shown[n] += 1;
            state.counters.faults += 1;
            Some(rule)
        })
    }

    pub(super) fn conversations(&self) -> Vec<Conversation> {
        self.lock().conversations.clone()
    }

    pub(super) fn accepted(&self) -> Vec<AcceptedMail> {
        self.lock().accepted.clone()
    }

    pub(super) fn accepted_count(&self) -> usize {
        self.lock().accepted.len()
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Changes when anything is written here.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole, whatever panics elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InData {
    fn drop(&mut self) {
        self.journal.write(|state| state.counters.in_data -= 1);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.journal.write(|state| {
            state.counters.open -= usize::from(self.admitted);
            state.conversations[self.connection - 1].over = true;
        });
    }
}
