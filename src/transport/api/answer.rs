use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How long a provider may ask us to wait, in seconds.
const LONGEST_WAIT: i64 = 3_600;
/// Characters of an answer that are kept.
const MOST_TEXT: usize = 500;
/// Numbers above are moments (seconds since 1970), numbers below are durations.
const FIRST_MOMENT: i64 = 1_000_000_000;

/// What a provider answered, up to 64 KiB of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body, `null` when it is no JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body in one line of printable text.
    pub(super) fn text(&self) -> String {
        one_line(&String::from_utf8_lossy(&self.body))
    }

    /// How long the provider wants to be left alone: `Retry-After`, its own reset headers, or "try again
    /// after 120 seconds"; at most an hour. A moment is measured on the provider's own clock, its `Date`.
    pub(super) fn wait(&self, text: &str) -> Option<Duration> {
        let names = ["retry-after", "x-ratelimit-reset", "x-sib-ratelimit-reset", "ratelimit-reset"];
        let asked = names.iter().find_map(|name| self.seconds(self.header(name)?.trim()));
        match asked {
            Some(seconds) => Some(Duration::from_secs(seconds.clamp(1, LONGEST_WAIT).unsigned_abs())),
            None => crate::transport::smtp::asked_wait(text),
        }
    }

    fn seconds(&self, value: &str) -> Option<i64> {
        if let Ok(moment) = OffsetDateTime::parse(value, &Rfc2822) {
            return Some(moment.unix_timestamp().saturating_sub(self.date()?));
        }
        // Some write "1.5".
        match value.split('.').next()?.parse::<i64>().ok()? {
            negative if negative < 0 => None,
            seconds if seconds < FIRST_MOMENT => Some(seconds),
            moment if moment < FIRST_MOMENT * 1_000 => Some(moment.saturating_sub(self.date()?)),
            moment => Some((moment / 1_000).saturating_sub(self.date()?)),
        }
    }

    fn date(&self) -> Option<i64> {
        let date = OffsetDateTime::parse(self.header("date")?.trim(), &Rfc2822).ok()?;
        Some(date.unix_timestamp())
    }
}

/// Printable, and not too long for a row of the database.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(MOST_TEXT).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&'static str, &'static str)]) -> Answer {
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        Answer { status: 429, headers, body: vec![] }
    }

    #[test]
    fn the_time_asked_for_is_read_in_each_of_its_forms_and_bounded() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (headers, text, seconds) in [
            (vec![("retry-after", "120")], "", Some(120)),
            (vec![("retry-after", "0")], "", Some(1)),
            (vec![("retry-after", "1.7")], "", Some(1)),
            (vec![("retry-after", "999999")], "", Some(3_600)),
            (vec![("retry-after", "-5")], "", None),
            (vec![("retry-after", "soon")], "", None),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT"), date], "", Some(120)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:40:37 GMT"), date], "", Some(1)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT")], "", None),
            (
                vec![("x-ratelimit-reset", "1790000060"), ("date", "Mon, 21 Sep 2026 14:13:20 GMT")],
                "",
                Some(60),
            ),
            (
                vec![("x-ratelimit-reset", "1790000060000"), ("date", "Mon, 21 Sep 2026 14:13:20 GMT")],
                "",
                Some(60),
            ),
            (vec![("x-sib-ratelimit-reset", "7")], "", Some(7)),
            (vec![("retry-after", "9"), ("x-ratelimit-reset", "7")], "", Some(9)),
            (vec![], "limit exceeded, try again after 120 seconds", Some(120)),
            (vec![], "limit exceeded", None),
        ] {
            let waited = answer(&headers).wait(text).map(|wait| wait.as_secs());
            assert_eq!(waited, seconds, "{headers:?} {text}");
        }
    }

    #[test]
    fn hostile_text_becomes_one_short_line() {
        let body = format!("a\r\n\0b{}", "x".repeat(2_000)).into_bytes();
        let text = Answer { body, ..Answer::default() }.text();
        assert!(text.starts_with("a   b") && text.chars().count() == MOST_TEXT, "{text}");
    }
}
