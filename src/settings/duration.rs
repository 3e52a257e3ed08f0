//! Durations as people write them.

use std::time::Duration;

/// `500ms`, `10s`, `2m`, `1h`, `30d`; none for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(24 * 3600).map(Duration::from_secs),
        _ => None,
    }
}

/// The way [`parse`] reads it.
pub(super) fn shown(duration: Duration) -> String {
    match (duration.subsec_millis(), duration.as_secs()) {
        (0, 0) => "0s".to_owned(),
        (0, seconds) if seconds % (24 * 3600) == 0 => format!("{}d", seconds / (24 * 3600)),
        (0, seconds) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (0, seconds) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        let cases = [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("2m", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("30d", 30 * 86_400_000, "30d"),
            ("24h", 86_400_000, "1d"),
            ("90s", 90_000, "90s"),
            ("1500ms", 1_500, "1500ms"),
            ("0s", 0, "0s"),
        ];
        for (text, milliseconds, again) in cases {
            let duration = parse(text).expect("a duration");
            assert_eq!(duration, Duration::from_millis(milliseconds));
            assert_eq!(shown(duration), again);
        }
    }

    #[test]
    fn refuses_everything_else() {
        let cases = ["", "10", "s", "1.5s", "-1s", "+1s", "10 s", "10S", "1w", "1D", "1h30m"];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("18446744073709551615h"), None);
        assert_eq!(parse("18446744073709551615d"), None);
        assert_eq!(parse("99999999999999999999s"), None);
    }
}
