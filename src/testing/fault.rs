use std::time::Duration;

/// What the server does instead of answering as it should.
#[derive(Debug, Clone)]
#[must_use = "a fault does nothing until a script has it"]
pub struct Fault {
    pub(super) act: Act,
    /// At the end of the data: the mail is taken all the same.
    pub(super) accepting: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Reply { code: u16, bytes: Vec<u8> },
    Raw(Vec<u8>),
    Stall,
    Delay(Duration),
    Drip(Duration),
    HangUp,
    Reset,
    FollowedBy(Vec<u8>),
    Twice,
    BareLf,
}

impl Fault {
    /// This reply. Each line of the text becomes a line of the reply. As RFC 5321 wants it, the
    /// connection is closed behind a 421.
    pub fn reply(code: u16, text: &str) -> Self {
        let mut lines: Vec<&str> = text.lines().collect();
        let last = lines.pop().unwrap_or_default();
        let mut reply: String = lines.iter().map(|line| format!("{code}-{line}\r\n")).collect();
        reply.push_str(&format!("{code} {last}\r\n"));
        Self::of(Act::Reply { code, bytes: reply.into_bytes() })
    }

    /// These bytes, whatever they are; after them the server behaves as if it had said yes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Act::Raw(bytes.into()))
    }

    /// A line that is no reply at all.
    pub fn garbage() -> Self {
        Self::raw(&b"\x00\xff\x1b[2J is this SMTP?\r\n"[..])
    }

    /// One reply line of so many bytes.
    pub fn huge(code: u16, bytes: usize) -> Self {
        Self::raw(format!("{code} {}\r\n", "x".repeat(bytes)))
    }

    /// Silence, for ever. At [`Stage::Body`](super::Stage::Body) the server stops reading, too.
    pub fn stall() -> Self {
        Self::of(Act::Stall)
    }

    /// The right reply, late.
    pub fn delay(by: Duration) -> Self {
        Self::of(Act::Delay(by))
    }

    /// The right reply, one byte at a time. At [`Stage::Body`](super::Stage::Body) the content is read so.
    pub fn drip(every: Duration) -> Self {
        Self::of(Act::Drip(every))
    }

    /// The connection is closed in order (FIN).
    pub fn hang_up() -> Self {
        Self::of(Act::HangUp)
    }

    /// The connection is torn down (RST).
    pub fn reset() -> Self {
        Self::of(Act::Reset)
    }

    /// The right reply, with these bytes behind it in the same segment. At
    /// [`Stage::StartTls`](super::Stage::StartTls) this is response injection, at
    /// [`Stage::Data`](super::Stage::Data) an answer to a mail that has not been sent yet.
    pub fn followed_by(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Act::FollowedBy(bytes.into()))
    }

    /// The right reply, twice.
    pub fn twice() -> Self {
        Self::of(Act::Twice)
    }

    /// The right reply, its lines ended by a bare LF.
    pub fn bare_lf() -> Self {
        Self::of(Act::BareLf)
    }

    /// At [`Stage::EndOfData`](super::Stage::EndOfData): the mail is taken before the fault shows, so
    /// that the client cannot know it.
    pub fn accepting(mut self) -> Self {
        self.accepting = true;
        self
    }

    fn of(act: Act) -> Self {
        Self { act, accepting: false }
    }

    /// Whether a client that gets this at the end of the data has handed over its mail.
    pub(super) fn takes_the_mail(&self) -> bool {
        let says_yes = match &self.act {
            Act::Reply { code, .. } => *code < 400,
            Act::Delay(_) | Act::Drip(_) | Act::FollowedBy(_) | Act::Twice | Act::BareLf => true,
            Act::Raw(_) | Act::Stall | Act::HangUp | Act::Reset => false,
        };
        says_yes || self.accepting
    }
}
