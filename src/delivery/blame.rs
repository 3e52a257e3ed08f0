//! Whose fault an outcome was: the way's, the account's, this mail's, or nobody's.

use std::time::Duration;

use crate::transport::{Outcome, Report, Stage, enhanced, says_too_fast};

/// What an outcome says of the way that it was met on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The way works: it took the mail, or said something of this recipient.
    Cleared,
    /// It says nothing of the way.
    Nothing,
    /// A fault among many: it counts in proportion, and not in a row.
    Partly,
    /// The way's own fault: nobody's mail would have got through.
    Way,
    /// Nobody's mail will: wrong credentials, a suspended account, the day's quota.
    Account,
}

/// A pause shorter than this is about one moment, and not worth closing a way for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Blame {
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Sent(_) => Self::Cleared,
            Outcome::Reject(report) if report.stage == Stage::Render => Self::Nothing,
            Outcome::Reject(_) => Self::Cleared,
            // The reply to the last byte never came.
            Outcome::Unknown(_) => Self::Way,
            Outcome::Interrupted => Self::Nothing,
            Outcome::Retry(report, _) => Self::of_retry(report),
            Outcome::Unusable(report) => Self::of_unusable(report),
        }
    }

    fn of_retry(report: &Report) -> Self {
        match report.code {
            _ if report.stage == Stage::Render => Self::Nothing,
            None => Self::Way,
            Some(421) => Self::Way,
            Some(_) if report.stage.concerns_every_mail() => Self::Way,
            Some(_) if is_about_the_recipient(report) => Self::Cleared,
            Some(_) => Self::Partly,
        }
    }

    fn of_unusable(report: &Report) -> Self {
        let text = report.text.to_ascii_lowercase();
        let suspended = ["suspend", "disabled", "paused", "terminated", "deactivated"];
        if enhanced(&report.text) == Some((4, 5))
            || text.contains("account") && suspended.iter().any(|word| text.contains(word))
        {
            return Self::Account;
        }
        match report.stage {
            // An account may send as many; one that it may not use is one sender's mistake.
            Stage::Mail if !matches!(report.code, None | Some(530..=538)) => Self::Partly,
            stage if stage.concerns_every_mail() => Self::Account,
            _ => Self::Nothing,
        }
    }
}

/// Whether another way may be tried at once: this one certainly did not take the mail, and another may.
pub(super) fn goes_on(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Retry(report, _) => match Blame::of_retry(report) {
            Blame::Way | Blame::Account | Blame::Partly => true,
            Blame::Cleared | Blame::Nothing => false,
        },
        Outcome::Unusable(_) => true,
        Outcome::Sent(_) | Outcome::Reject(_) | Outcome::Unknown(_) | Outcome::Interrupted => false,
    }
}

/// Whether the way asks for less mail, in so many words.
pub(super) fn asks_for_less(outcome: &Outcome) -> bool {
    let Outcome::Retry(report, _) = outcome else { return false };
    let text = report.text.to_ascii_lowercase();
    matches!(report.code, Some(421 | 429))
        || report.code.is_some() && (says_too_fast(&text) || text.contains("temporarily deferred"))
}

/// For how long the way asked to be left alone by everybody.
pub(super) fn pause_for_all(outcome: &Outcome) -> Option<Duration> {
    let Outcome::Retry(report, Some(wait)) = outcome else { return None };
    let for_all = matches!(report.code, Some(421 | 429)) || report.stage.concerns_every_mail();
    (for_all && *wait >= SHORTEST_PAUSE).then_some(*wait)
}

/// A full mailbox, a greylist, an address that is busy: another way would meet the same.
fn is_about_the_recipient(report: &Report) -> bool {
    match (enhanced(&report.text), report.code) {
        (Some((1 | 2 | 7, _)), _) => true,
        (Some(_), _) => false,
        (None, Some(450 | 452 | 552)) => report.stage == Stage::Rcpt,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(stage: Stage, code: Option<u16>, text: &str) -> Outcome {
        Outcome::Retry(Report { stage, code, text: text.into() }, None)
    }

    fn unusable(stage: Stage, code: u16, text: &str) -> Outcome {
        Outcome::Unusable(Report { stage, code: Some(code), text: text.into() })
    }

    #[test]
    fn the_table() {
        use Blame::*;
        use Stage::{Auth, Banner, Connect, Data, EndOfData, Mail, Rcpt, Render};
        let said = |stage| Report::new(stage, "said");
        for (outcome, blame, on) in [
            (Outcome::Sent(said(EndOfData)), Cleared, false),
            (Outcome::Reject(said(Rcpt)), Cleared, false),
            (Outcome::Reject(said(Render)), Nothing, false),
            (Outcome::Unknown(said(EndOfData)), Way, false),
            (Outcome::Interrupted, Nothing, false),
            (retry(Render, None, "panicked"), Nothing, false),
            (retry(Connect, None, "refused"), Way, true),
            (retry(Banner, Some(421), "4.3.2 shutting down"), Way, true),
            (retry(Auth, Some(454), "4.7.0 later"), Way, true),
            (retry(Mail, Some(451), "4.3.0 later"), Way, true),
            (retry(Rcpt, None, "no answer in time"), Way, true),
            (retry(EndOfData, Some(421), "4.7.0 too many"), Way, true),
            (retry(Rcpt, Some(451), "4.3.0 queue file"), Partly, true),
            (retry(EndOfData, Some(451), "4.3.0 later"), Partly, true),
            (retry(Data, Some(451), "later"), Partly, true),
            (retry(Rcpt, Some(450), "4.2.0 greylisted"), Cleared, false),
            (retry(Rcpt, Some(451), "4.7.1 greylisted"), Cleared, false),
            (retry(Rcpt, Some(450), "busy"), Cleared, false),
            (retry(Rcpt, Some(552), "5.2.2 mailbox full"), Cleared, false),
            (retry(EndOfData, Some(452), "4.2.2 mailbox full"), Cleared, false),
            (unusable(Auth, 535, "5.7.8 bad credentials"), Account, true),
            (unusable(Mail, 530, "5.7.0 authenticate first"), Account, true),
            (unusable(Mail, 553, "5.7.1 sender not owned"), Partly, true),
            (unusable(Mail, 550, "5.7.1 your account is suspended"), Account, true),
            (unusable(Rcpt, 550, "5.7.1 relaying denied"), Nothing, true),
            (unusable(EndOfData, 550, "5.4.5 daily limit"), Account, true),
            (unusable(EndOfData, 554, "Email address is not verified"), Nothing, true),
        ] {
            assert_eq!((Blame::of(&outcome), goes_on(&outcome)), (blame, on), "{outcome:?}");
        }
    }

    #[test]
    fn less_is_asked_for_by_code_or_in_words() {
        assert!(asks_for_less(&retry(Stage::Mail, Some(421), "")));
        assert!(asks_for_less(&retry(Stage::Rcpt, Some(450), "4.2.1 receiving mail too quickly")));
        assert!(asks_for_less(&retry(Stage::EndOfData, Some(451), "Temporarily deferred due to complaints")));
        assert!(!asks_for_less(&retry(Stage::Rcpt, Some(450), "4.2.0 greylisted")));
        assert!(!asks_for_less(&retry(Stage::Rcpt, Some(452), "4.5.3 too many recipients")), "one at a time");
        assert!(!asks_for_less(&retry(Stage::Connect, None, "too many open files")), "ours");
    }

    #[test]
    fn a_pause_for_all_is_not_one_mails_greylist() {
        let asked = |stage, code| {
            let report = Report { stage, code: Some(code), text: String::new() };
            pause_for_all(&Outcome::Retry(report, Some(Duration::from_secs(60))))
        };
        assert!(asked(Stage::Rcpt, 450).is_none() && asked(Stage::EndOfData, 451).is_none());
        assert!(asked(Stage::Rcpt, 421).is_some() && asked(Stage::Mail, 451).is_some());
        assert!(asked(Stage::EndOfData, 429).is_some());
    }
}
