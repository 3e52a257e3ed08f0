//! What an answer means, as far as it is the same for all providers.

use super::answer::{Answer, one_line};
use crate::transport::{Outcome, Report, Stage};

/// What an answer says, and of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It is theirs now.
    Sent,
    /// Not now, this mail.
    Again,
    /// Not now, any mail: too many requests, not well.
    Busy,
    /// Never: this message or this recipient.
    Message,
    /// Not for us: key, account, sender, quota, address of the API.
    Account,
    /// It does not say.
    Unclear,
}

impl Class {
    /// What a status means where the provider says no more. A gateway that timed out (504) had handed
    /// the mail on; a 4xx that nobody expected is tried again, and uses up attempts.
    pub(super) fn of(status: u16) -> Self {
        match status {
            400 | 413 | 422 => Self::Message,
            429 | 502 | 503 => Self::Busy,
            300..=399 | 401..=407 | 410 | 415 | 426 | 451 => Self::Account,
            400..=499 => Self::Again,
            504 => Self::Unclear,
            500..=599 => Self::Again,
            _ => Self::Unclear,
        }
    }

    /// With the provider's words, or its name for the mail.
    pub(super) fn outcome(self, answer: &Answer, text: &str) -> Outcome {
        let wait = answer.wait(text);
        let text = if text.is_empty() { answer.text() } else { one_line(text) };
        let report = |stage| Report { stage, code: code(answer.status), text };
        match self {
            Self::Sent => Outcome::Sent(report(Stage::Response)),
            Self::Again => Outcome::Retry(report(Stage::Response), wait),
            Self::Busy => Outcome::Retry(report(Stage::Service), wait),
            Self::Message => Outcome::Reject(report(Stage::Response)),
            Self::Account => Outcome::Unusable(report(Stage::Account)),
            Self::Unclear => Outcome::Unknown(report(Stage::Response)),
        }
    }
}

/// HTTP lets a server invent 999; the outbox keeps codes that exist.
fn code(status: u16) -> Option<u16> {
    (100..=599).contains(&status).then_some(status)
}
