use std::sync::{Arc, Mutex, PoisonError};

use super::manners::Trouble;
use super::wire::Said;

/// What a request to send is answered with, instead of success.
#[derive(Debug, Clone)]
#[must_use = "a reply is performed by FakeProvider::cue"]
pub struct Reply {
    pub(super) kind: Kind,
    pub(super) accepting: bool,
    pub(super) in_body: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Said(Said),
    Trouble(Trouble),
    Stall,
    Close,
    Reset,
    Half,
}

impl Reply {
    /// In the provider's own words.
    pub fn trouble(trouble: Trouble) -> Self {
        Self::of(Kind::Trouble(trouble))
    }

    /// This status and this body, as JSON if it begins like it.
    pub fn http(status: u16, body: impl Into<String>) -> Self {
        Self::of(Kind::Said(Said::new(status, body.into())))
    }

    /// Nothing, on a connection that stays open.
    pub fn stall() -> Self {
        Self::of(Kind::Stall)
    }

    /// The end of the connection.
    pub fn close() -> Self {
        Self::of(Kind::Close)
    }

    /// A reset of the connection.
    pub fn reset() -> Self {
        Self::of(Kind::Reset)
    }

    /// The head of a success, half of its body, and the end of the connection.
    pub fn half() -> Self {
        Self::of(Kind::Half).accepting()
    }

    /// One more header.
    ///
    /// # Panics
    /// For anything but [`Reply::http`].
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let Kind::Said(said) = &mut self.kind else { panic!("header() belongs to http()") };
        said.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// And yet the mail is taken: what a client must not know for certain.
    pub fn accepting(mut self) -> Self {
        self.accepting = true;
        self
    }

    /// As soon as the head of the request and some of its body are there, without waiting for the rest.
    pub fn in_body(mut self) -> Self {
        self.in_body = true;
        self
    }

    fn of(kind: Kind) -> Self {
        Self { kind, accepting: false, in_body: false }
    }
}

/// A reply, and when it is given; narrowed by its methods.
#[derive(Debug, Clone)]
pub struct Cue {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    reply: Reply,
    recipient: Option<String>,
    left: Option<usize>,
}

impl Cue {
    pub(super) fn new(reply: Reply) -> Self {
        Self { state: Arc::new(Mutex::new(State { reply, recipient: None, left: None })) }
    }

    /// Only for mail to this address.
    pub fn for_recipient(self, address: &str) -> Self {
        self.with(|state| state.recipient = Some(address.to_owned()));
        self
    }

    /// Only so many times.
    pub fn times(self, n: usize) -> Self {
        self.with(|state| state.left = Some(n));
        self
    }

    /// The reply, when it is its turn. `recipient` is none while the body has not come.
    pub(super) fn take(&self, recipient: Option<&str>) -> Option<Reply> {
        self.with(|state| {
            let at_its_time = state.reply.in_body == recipient.is_none();
            let for_them = state.recipient.is_none() || state.recipient.as_deref() == recipient;
            if !at_its_time || !for_them || state.left == Some(0) {
                return None;
            }
            state.left = state.left.map(|left| left - 1);
            Some(state.reply.clone())
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
