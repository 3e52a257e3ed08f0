use std::fmt;
use std::time::Duration;

/// What became of one attempt: every answer of every transport is exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server took the mail.
    Sent(Report),
    /// Not now: this mail, later; not before the time that the server asked for.
    Retry(Report, Option<Duration>),
    /// Never: this recipient or this message is dead.
    Reject(Report),
    /// Not this way: credentials, account, quota or identity. The mail is innocent, and its attempt does not count.
    Unusable(Report),
    /// Nobody can know: the connection was lost after the last byte. Never failed over at once.
    Unknown(Report),
    /// We stopped before the last byte, on our own account: nothing was sent, nothing counts.
    Interrupted,
}

impl Outcome {
    /// Where it ended and what was said there; none when we stopped on our own account.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Sent(report)
            | Self::Retry(report, _)
            | Self::Reject(report)
            | Self::Unusable(report)
            | Self::Unknown(report) => Some(report),
            Self::Interrupted => None,
        }
    }
}

/// Where an attempt ended and what was said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The last stage that was begun.
    pub stage: Stage,
    /// The reply code, when there was a reply.
    pub code: Option<u16>,
    /// The server's words, or what broke. Hostile text: it is stored, shown escaped, never logged.
    pub text: String,
}

/// The stages of an SMTP transaction, each named after its command or step in RFC 5321, and of a request to an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "most are the name of a command or of a step of RFC 5321")]
pub enum Stage {
    Render,
    Connect,
    Tls,
    Banner,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Body,
    EndOfData,
    Noop,
    /// Handing a request over to an API.
    Request,
    /// What an API answered about this mail.
    Response,
    /// What an API answered about itself: too many requests, not well.
    Service,
    /// What an API answered about us: key, account, sender, quota.
    Account,
}

impl Stage {
    /// Its name in logs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Render => "render",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Banner => "banner",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::EndOfData => "end-of-data",
            Self::Noop => "noop",
            Self::Request => "request",
            Self::Response => "response",
            Self::Service => "service",
            Self::Account => "account",
        }
    }

    /// Whether the fault of such a stage is the server's or the way's, whoever the mail is for.
    pub fn concerns_every_mail(self) -> bool {
        !matches!(
            self,
            Self::Render
                | Self::Rcpt
                | Self::Data
                | Self::Body
                | Self::EndOfData
                | Self::Request
                | Self::Response
        )
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Report {
    /// A report without a reply.
    pub fn new(stage: Stage, text: impl Into<String>) -> Self {
        Self { stage, code: None, text: text.into() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.text)
    }
}
