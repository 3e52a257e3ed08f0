//! A reply's code, enhanced code and stage become one [`Outcome`].
//!
//! RFC 5321 §4.2 and RFC 3463; where the class of the enhanced code and the first digit of the
//! reply disagree, the reply decides whether to try again.

use std::time::Duration;

use super::super::{Outcome, Report, Stage};

/// How long a server may ask us to wait.
const LONGEST_WAIT: u64 = 3_600;

/// What a refusal means: any reply that was not the one expected, and not a 2xx or 3xx out of place.
pub(super) fn refusal(stage: Stage, code: u16, text: String) -> Outcome {
    let wait = wait_hint(&text);
    let class = class(stage, code, enhanced(&text), &text.to_ascii_lowercase());
    let report = Report { stage, code: Some(code), text };
    match class {
        Class::Retry => Outcome::Retry(report, wait),
        Class::Reject => Outcome::Reject(report),
        Class::Unusable => Outcome::Unusable(report),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Retry,
    Reject,
    Unusable,
}

/// Subject and detail of an enhanced status code: `(1, 1)` of `5.1.1`.
type Enhanced = Option<(u16, u16)>;

fn class(stage: Stage, code: u16, enhanced: Enhanced, text: &str) -> Class {
    match (stage, code, enhanced) {
        (_, 400..=499, _) => Class::Retry,
        // Before a mail is named, a refusal is about us and the server.
        (Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Auth | Stage::Noop, ..) => Class::Unusable,
        // Credentials, TLS, identity and reputation: RFC 3463 5.7.x, Microsoft's 5.7.515.
        (_, 530 | 534 | 535 | 538, _) => Class::Unusable,
        (_, _, Some((7, 0 | 8 | 9 | 11 | 14 | 25 | 26 | 27 | 515))) => Class::Unusable,
        // A daily limit, a mail loop: the relay's.
        (_, _, Some((4, 5 | 6))) => Class::Unusable,
        // The sender's address or domain.
        (_, _, Some((1, 7 | 8))) => Class::Unusable,
        (_, 554, _) if text.contains("is not verified") => Class::Unusable,
        // A full mailbox empties again.
        (_, 552, Some((2, 2))) | (Stage::Rcpt, 552, None) => Class::Retry,
        (_, 523 | 552, _) | (_, _, Some((3, 4))) => Class::Reject,
        (Stage::Mail, ..) => Class::Unusable,
        // "Relaying denied" and its like, before any content was seen.
        (Stage::Rcpt, 550 | 554, Some((7, 1))) => Class::Unusable,
        // The relay does not speak our dialect, unless it is the address that it cannot read.
        (Stage::Data, 500..=504, _) => Class::Unusable,
        _ => Class::Reject,
    }
}

/// `5.1.1` at the beginning of a reply's text.
fn enhanced(text: &str) -> Enhanced {
    let first = text.split_whitespace().find(|word| word.contains('.'))?;
    let mut numbers = first.split('.').map(str::parse::<u16>);
    match (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()) {
        (Ok(2 | 4 | 5), Ok(subject), Ok(detail), None) => Some((subject, detail)),
        _ => None,
    }
}

/// "try again in 120 seconds", "retry after 5 minutes": the time asked for, at most an hour.
pub(in crate::transport) fn wait_hint(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let start = ["try again", "retry after", "retry in"].iter().find_map(|hint| text.find(hint))?;
    let mut words = text[start..].split_whitespace().skip(2).skip_while(|word| word.parse::<u64>().is_err());
    let number: u64 = words.next()?.parse().ok()?;
    let unit = words.next().unwrap_or_default();
    let seconds = match unit.trim_matches(|c: char| !c.is_ascii_alphabetic()) {
        "s" | "sec" | "secs" | "second" | "seconds" => number,
        "m" | "min" | "mins" | "minute" | "minutes" => number.saturating_mul(60),
        "h" | "hour" | "hours" => number.saturating_mul(3_600),
        _ => return None,
    };
    Some(Duration::from_secs(seconds.clamp(1, LONGEST_WAIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classed(stage: Stage, reply: &str) -> Class {
        let (code, text) = reply.split_once(' ').unwrap_or((reply, ""));
        match refusal(stage, code.parse().unwrap(), text.to_owned()) {
            Outcome::Retry(..) => Class::Retry,
            Outcome::Reject(_) => Class::Reject,
            Outcome::Unusable(_) => Class::Unusable,
            other => panic!("a refusal became {other:?}"),
        }
    }

    #[test]
    fn the_table() {
        use Class::*;
        use Stage::*;
        for (stage, reply, class) in [
            (Banner, "421 4.3.2 shutting down", Retry),
            (Banner, "554 5.3.2 no service", Unusable),
            (Ehlo, "502 what?", Unusable),
            (StartTls, "454 4.7.0 TLS not available now", Retry),
            (Auth, "535 5.7.8 bad credentials", Unusable),
            (Auth, "534 5.7.9 mechanism too weak", Unusable),
            (Auth, "454 4.7.0 temporary", Retry),
            (Auth, "432 4.7.12 transition", Retry),
            (Mail, "421 4.7.0 too many", Retry),
            (Mail, "451 4.3.0 later", Retry),
            (Mail, "530 5.7.0 authenticate first", Unusable),
            (Mail, "550 no such sender", Unusable),
            (Mail, "553 5.7.1 sender not owned by user", Unusable),
            (Mail, "550 5.1.8 sender domain", Unusable),
            (Mail, "552 5.3.4 too big", Reject),
            (Rcpt, "450 4.2.1 greylisted", Retry),
            (Rcpt, "452 4.5.3 too many recipients", Retry),
            (Rcpt, "550 5.1.1 no such user", Reject),
            (Rcpt, "550 5.1.10 null MX", Reject),
            (Rcpt, "550 5.2.1 disabled", Reject),
            (Rcpt, "550 no", Reject),
            (Rcpt, "501 5.1.3 bad address", Reject),
            (Rcpt, "551 5.1.6 moved", Reject),
            (Rcpt, "553 5.1.3 bad address", Reject),
            (Rcpt, "521 5.3.2 accepts no mail", Reject),
            (Rcpt, "556 5.1.10 accepts no mail", Reject),
            (Rcpt, "552 5.2.2 mailbox full", Retry),
            (Rcpt, "550 5.7.1 relaying denied", Unusable),
            (Rcpt, "530 5.7.1 authentication required", Unusable),
            (Rcpt, "550 5.7.26 unauthenticated", Unusable),
            (Data, "503 5.5.1 bad sequence", Unusable),
            (Data, "554 5.5.1 no valid recipients", Reject),
            (EndOfData, "451 4.3.0 later", Retry),
            (EndOfData, "554 5.7.1 spam", Reject),
            (EndOfData, "550 5.7.515 authentication required for bulk", Unusable),
            (EndOfData, "550 5.4.5 daily limit", Unusable),
            (EndOfData, "554 Message rejected: Email address is not verified", Unusable),
            (EndOfData, "552 5.3.4 too big", Reject),
            (EndOfData, "552 5.2.2 mailbox full", Retry),
            (EndOfData, "541 5.7.1 content", Reject),
        ] {
            assert_eq!(classed(stage, reply), class, "{stage} {reply}");
        }
    }

    #[test]
    fn every_4xx_is_tried_again_and_no_5xx_before_a_mail_is_the_mails_fault() {
        for code in 400..600 {
            for stage in [
                Stage::Banner,
                Stage::Ehlo,
                Stage::Auth,
                Stage::Mail,
                Stage::Rcpt,
                Stage::Data,
                Stage::EndOfData,
            ] {
                let class = classed(stage, &format!("{code} whatever"));
                let again = code < 500 || (stage == Stage::Rcpt && code == 552);
                assert_eq!(class == Class::Retry, again, "{stage} {code}");
                let about_us = matches!(stage, Stage::Banner | Stage::Ehlo | Stage::Auth);
                assert!(!(about_us && class == Class::Reject), "{stage} {code}");
            }
        }
    }

    #[test]
    fn the_time_asked_for_is_read_within_bounds() {
        let hint = |text| wait_hint(text).map(|d| d.as_secs());
        assert_eq!(hint("4.7.0 rate limited, try again in 120 seconds"), Some(120));
        assert_eq!(hint("Try again after 5 minutes."), Some(300));
        assert_eq!(hint("try again in 90 hours"), Some(3_600));
        assert_eq!(hint("try again later"), None);
        assert_eq!(hint("4.3.0 busy"), None);
    }
}
