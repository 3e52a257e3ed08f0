//! A reply's code, enhanced code and stage become one [`Outcome`].
//!
//! RFC 5321 §4.2 and RFC 3463; where the class of the enhanced code and the first digit of the
//! reply disagree, the reply decides whether to try again.

use std::time::Duration;

use super::super::reply::{enhanced, says_too_fast};
use super::super::{Outcome, Report, Stage};

/// How long a server may ask us to wait.
const LONGEST_WAIT: u64 = 3_600;
/// How long one that says "too fast" and no more is left alone: most count by the minute.
const TOO_FAST: u64 = 60;

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
    // Seen by the server: the content, not the envelope alone.
    let content = matches!(stage, Stage::Data | Stage::Body | Stage::EndOfData);
    match (stage, code, enhanced) {
        (_, 400..=499, _) => Class::Retry,
        // Before a mail is named, a refusal is about us and the server.
        (Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Auth | Stage::Noop, ..) => Class::Unusable,
        // TLS, credentials.
        (_, 530 | 534 | 535 | 538, _) => Class::Unusable,
        // Who may send what: RFC 3463 §3.8 and the registry behind it.
        (_, _, Some((7, detail))) => match detail {
            // No list to expand, too low a priority, an owner that has changed: about the recipient or the mail.
            2 | 15..=18 => Class::Reject,
            // "Delivery not authorized, message refused" is said of everything. In the envelope it is
            // about who we are; behind the content, about the content, unless it says otherwise.
            1 if content && !is_about_us(text) => Class::Reject,
            _ => Class::Unusable,
        },
        // A daily limit, a mail loop: the relay's.
        (_, _, Some((4, 5 | 6))) => Class::Unusable,
        // The sender's address or domain.
        (_, _, Some((1, 7 | 8))) => Class::Unusable,
        // A full mailbox empties again; one recipient too many (RFC 5321 §4.5.3.1.10) comes alone next time.
        (_, 552, Some((2, 2) | (5, 3))) | (Stage::Rcpt, 552, None) => Class::Retry,
        (_, 523 | 552, _) | (_, _, Some((3, 4))) => Class::Reject,
        (Stage::Mail, ..) => Class::Unusable,
        // The relay does not speak our dialect, unless it is the address that it cannot read.
        (_, 500 | 502..=504, _) | (Stage::Data, 501, _) => Class::Unusable,
        (_, 541 | 550 | 554, None | Some((0, _))) if is_about_us(text) => Class::Unusable,
        _ => Class::Reject,
    }
}

/// Whether a refusal that could be the mail's speaks of the sender, its address or its reputation.
fn is_about_us(text: &str) -> bool {
    const WORDS: [&str; 13] = [
        "is not verified",
        "reputation",
        "blacklist",
        "black list",
        "blocklist",
        "block list",
        "dnsbl",
        "spamhaus",
        "relay access denied",
        "relaying denied",
        "unauthenticated",
        "not authenticated",
        "dmarc",
    ];
    WORDS.iter().any(|word| text.contains(word))
}

/// How long a server wants to be left alone, at most an hour: the time that it names, or a while
/// where it says that we are too fast.
fn wait_hint(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    named_wait(&text)
        .or_else(|| slow_down(&text))
        .map(|seconds| Duration::from_secs(seconds.clamp(1, LONGEST_WAIT)))
}

/// The time that a text names, and no other: at most an hour.
#[cfg(feature = "providers")]
pub(in crate::transport) fn asked_wait(text: &str) -> Option<Duration> {
    let seconds = named_wait(&text.to_ascii_lowercase())?;
    Some(Duration::from_secs(seconds.clamp(1, LONGEST_WAIT)))
}

/// "try again in 120 seconds", "retry after 5 minutes", "please wait 30s".
fn named_wait(text: &str) -> Option<u64> {
    const HINTS: [&str; 6] =
        ["try again", "try later", "retry after", "retry in", "retry-after", "please wait"];
    let start = HINTS.iter().find_map(|hint| text.find(hint).map(|at| at + hint.len()))?;
    let words = text[start..].split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ':' | '=' | ','));
    // Not far behind: another number in the same reply is something else.
    let mut words =
        words.filter(|word| !word.is_empty()).take(6).skip_while(|word| !word.starts_with(is_digit));
    let word = words.next()?;
    let (number, unit) = word.split_at(word.find(|c| !is_digit(c)).unwrap_or(word.len()));
    let unit = if unit.chars().any(char::is_alphabetic) { unit } else { words.next().unwrap_or_default() };
    let number: u64 = number.parse().ok()?;
    match unit.trim_matches(|c: char| !c.is_ascii_alphabetic()) {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(number),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(number.saturating_mul(60)),
        "h" | "hour" | "hours" => Some(number.saturating_mul(3_600)),
        _ => None,
    }
}

/// How long one is left alone that says we are too fast, or had enough for the day.
fn slow_down(text: &str) -> Option<u64> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let daily = words.any(|word| word == "daily") && (text.contains("quota") || text.contains("limit"));
    match () {
        () if daily => Some(LONGEST_WAIT),
        () if says_too_fast(text) => Some(TOO_FAST),
        () => None,
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
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
            // Any stage: later, on a new connection.
            (Banner, "421 4.3.2 shutting down", Retry),
            (Ehlo, "421 4.4.2 timeout", Retry),
            (Mail, "421 4.7.0 too many", Retry),
            (Rcpt, "421 4.7.0 [TS01] Messages temporarily deferred", Retry),
            (EndOfData, "421 4.3.2 closing", Retry),
            // Logging in.
            (Auth, "432 4.7.12 transition", Retry),
            (Auth, "454 4.7.0 temporary", Retry),
            (Auth, "454 Throttling failure: Maximum sending rate exceeded", Retry),
            (Auth, "454 Throttling failure: Daily message quota exceeded", Retry),
            (Auth, "534 5.7.9 mechanism too weak", Unusable),
            (Auth, "535 5.7.8 bad credentials", Unusable),
            (Auth, "535 5.7.139 basic authentication is disabled", Unusable),
            (Auth, "538 5.7.11 encrypt first", Unusable),
            (Auth, "550 5.1.1 who?", Unusable),
            (StartTls, "454 4.7.0 TLS not available now", Retry),
            // 4xx.
            (Rcpt, "450 4.2.1 greylisted", Retry),
            (Rcpt, "450 4.7.1 try again later", Retry),
            (Rcpt, "450 4.2.1 receiving mail too quickly", Retry),
            (Mail, "451 4.3.0 later", Retry),
            (Rcpt, "451 4.4.1 no answer from host", Retry),
            (EndOfData, "451 4.7.1 later", Retry),
            (Mail, "452 4.3.1 disk full", Retry),
            (Rcpt, "452 4.2.2 mailbox full", Retry),
            (Rcpt, "452 4.5.3 too many recipients", Retry),
            (EndOfData, "452 4.4.5 too fast", Retry),
            (Mail, "455 not now", Retry),
            // The client does not suit the relay.
            (Ehlo, "502 what?", Unusable),
            (Mail, "501 5.5.4 syntax", Unusable),
            (Mail, "503 5.5.1 bad sequence", Unusable),
            (Rcpt, "500 5.5.2 what?", Unusable),
            (Rcpt, "503 5.5.1 MAIL first", Unusable),
            (Rcpt, "504 5.5.4 not that parameter", Unusable),
            (Data, "501 5.5.4 no argument here", Unusable),
            (Data, "503 5.5.1 bad sequence", Unusable),
            (Rcpt, "501 5.1.3 bad address", Reject),
            // A host that takes no mail: ours, or theirs.
            (Banner, "521 5.3.2 no service", Unusable),
            (Banner, "554 5.3.2 no service", Unusable),
            (Rcpt, "521 5.3.2 accepts no mail", Reject),
            (Rcpt, "556 5.1.10 accepts no mail", Reject),
            // Too large.
            (Mail, "523 5.3.4 too big", Reject),
            (Mail, "552 5.3.4 too big", Reject),
            (EndOfData, "552 5.3.4 too big", Reject),
            (EndOfData, "554 5.3.4 too big", Reject),
            // TLS or a login first.
            (Mail, "530 5.7.0 authenticate first", Unusable),
            (Mail, "530 5.7.57 client not authenticated", Unusable),
            (Rcpt, "530 5.7.1 authentication required", Unusable),
            // Content, or reputation: what it says.
            (EndOfData, "541 5.7.1 content", Reject),
            (EndOfData, "554 5.7.1 spam", Reject),
            (EndOfData, "550 5.7.1 a virus was found", Reject),
            (EndOfData, "554 5.7.1 your IP has a poor reputation", Unusable),
            (EndOfData, "550 5.7.1 [192.0.2.1] is on the Spamhaus blocklist", Unusable),
            (EndOfData, "554 Message rejected: Email address is not verified", Unusable),
            (Data, "554 5.5.1 no valid recipients", Reject),
            // The recipient.
            (Rcpt, "550 5.1.1 no such user", Reject),
            (Rcpt, "550 5.1.2 no such domain", Reject),
            (Rcpt, "550 5.1.6 moved", Reject),
            (Rcpt, "550 5.1.10 null MX", Reject),
            (Rcpt, "550 5.2.1 disabled", Reject),
            (Rcpt, "550 5.2.1 account is suspended for its reputation", Reject),
            (Rcpt, "550 5.4.1 Recipient address rejected: Access denied", Reject),
            (Rcpt, "550 5.7.17 mailbox owner has changed", Reject),
            (Rcpt, "550 no", Reject),
            (Rcpt, "551 5.1.6 moved", Reject),
            (Rcpt, "553 5.1.3 bad address", Reject),
            // Us: never the recipient's fault.
            (Rcpt, "550 5.7.1 relaying denied", Unusable),
            (Rcpt, "550 Relay access denied", Unusable),
            (Rcpt, "554 5.7.1 <a@b.test>: Relay access denied", Unusable),
            (Rcpt, "550 5.7.25 no reverse DNS", Unusable),
            (Rcpt, "550 5.7.26 unauthenticated", Unusable),
            (EndOfData, "550 5.7.26 This mail is unauthenticated", Unusable),
            (Rcpt, "550 5.7.27 null MX of the sender", Unusable),
            (EndOfData, "550 5.7.20 no passing DKIM signature", Unusable),
            (EndOfData, "550 5.7.23 SPF failed", Unusable),
            (EndOfData, "550 5.7.60 not allowed to send as this sender", Unusable),
            (Rcpt, "550 5.7.64 relay access denied", Unusable),
            (EndOfData, "550 5.7.515 authentication required for bulk", Unusable),
            (Rcpt, "550 5.7.606 banned sending IP", Unusable),
            (EndOfData, "550 5.4.5 daily limit", Unusable),
            (EndOfData, "550 5.4.6 loop", Unusable),
            (Mail, "550 no such sender", Unusable),
            (Mail, "550 5.1.8 sender domain", Unusable),
            (Rcpt, "553 5.1.7 bad sender", Unusable),
            (Rcpt, "550 5.1.8 sender domain", Unusable),
            (Mail, "553 5.7.1 sender not owned by user", Unusable),
            (Rcpt, "553 5.7.1 sender not owned by user", Unusable),
            // A full mailbox.
            (Rcpt, "552 5.2.2 mailbox full", Retry),
            (EndOfData, "552 5.2.2 mailbox full", Retry),
            (Rcpt, "552 5.5.3 too many recipients", Retry),
            // The digit of the reply decides whether, the rest of the enhanced code what about.
            (Rcpt, "450 5.1.1 no such user", Retry),
            (Rcpt, "550 4.1.1 no such user", Reject),
            (Rcpt, "550 4.7.26 unauthenticated", Unusable),
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
        assert_eq!(hint("Retry after 30s"), Some(30));
        assert_eq!(hint("please try again in a while (120 sec)"), Some(120));
        assert_eq!(hint("please wait 2 mins, then send"), Some(120));
        assert_eq!(hint("retry-after: 15 s"), Some(15));
        assert_eq!(hint("try again in 0 seconds"), Some(1));
        assert_eq!(hint("try again in 99999999999999999999999 seconds"), None);
        assert_eq!(hint("try again in 18446744073709551615 hours"), Some(3_600));
        assert_eq!(hint("try again; see https://example.test/?id=5 of 3 minutes ago and much more"), None);
        assert_eq!(hint("try again later"), None);
        assert_eq!(hint("4.3.0 busy"), None);
    }

    #[test]
    fn a_server_that_says_too_fast_is_given_a_while() {
        let hint = |text| wait_hint(text).map(|d| d.as_secs());
        for text in [
            "Throttling failure: Maximum sending rate exceeded.",
            "4.7.0 Too many connections from your host",
            "4.7.28 rate limited",
            "4.7.0 Our system has detected an unusual rate of mail",
            "4.2.1 The user is receiving mail too quickly",
            "4.2.1 Peak SMTP relay limit exceeded for customer",
            "4.7.0 too many messages, slow down",
            "4.7.0 too many",
        ] {
            assert_eq!(hint(text), Some(60), "{text}");
        }
        assert_eq!(hint("Throttling failure: Daily message quota exceeded."), Some(3_600));
        assert_eq!(hint("rate limited, try again in 5 seconds"), Some(5));
        for text in
            ["4.5.3 too many recipients", "too many hops", "greylisted", "corporate policy", "moderate"]
        {
            assert_eq!(hint(text), None, "{text}");
        }
    }
}
