//! Moments as callers write them: ISO 8601 in its notations, and a few plain words.

use time::format_description::well_known::Rfc3339;
use time::{Date, Duration, Month, OffsetDateTime, Time, UtcOffset, Weekday};

/// What is accepted; ends the sentence "… must be".
pub(super) const ACCEPTED: &str = "a moment such as 2026-08-05T11:52:01Z, 2026-08-05T11:52:01+02:00, \
     \"in 5 minutes\", \"tomorrow at 9am\" or \"Friday at 15:30\"; without a zone it is UTC";

/// A moment, as a caller wrote it.
pub(super) fn parse(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if text.len() > 64 || !text.is_ascii() {
        return None;
    }
    iso(text).or_else(|| spoken(&text.to_ascii_lowercase(), now))
}

/// For answers: `2026-08-05T11:52:01Z`.
pub(super) fn format(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

/// `2026-08-05T11:52[:01[.858]][Z|±02[:00]]`, also with a space for the T.
fn iso(text: &str) -> Option<OffsetDateTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let month = Month::try_from(number::<u8>(month)?).ok()?;
    let date = Date::from_calendar_date(number(year)?, month, number(day)?).ok()?;
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let zone = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone);
    Some(date.with_time(clock_time(clock)?).assume_offset(offset(zone)?))
}

fn clock_time(text: &str) -> Option<Time> {
    let (text, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "00"),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    if [hour, minute, second].iter().any(|part| part.len() != 2) || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let nanos = number::<u32>(fraction)? * 10_u32.pow(9 - u32::try_from(fraction.len()).ok()?);
    Time::from_hms_nano(number(hour)?, number(minute)?, number(second)?, nanos).ok()
}

fn offset(zone: &str) -> Option<UtcOffset> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(UtcOffset::UTC);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone[1..].replacen(':', "", 1);
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let minutes = number::<i8>(minutes).filter(|minutes| *minutes < 60)?;
    let hours = number::<i8>(hours).filter(|hours| *hours < 24)?;
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// Digits alone: `parse` would take a sign too.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn spoken(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["now"] => Some(now),
        ["in", "a" | "an" | "one", unit] => now.checked_add(unit_of(unit)?),
        ["in", count, unit] => now.checked_add(times(unit_of(unit)?, number(count)?)?),
        ["in", joined] => {
            let end = joined.find(|c: char| !c.is_ascii_digit())?;
            now.checked_add(times(unit_of(&joined[end..])?, number(&joined[..end])?)?)
        }
        [day, "at", ref clock @ ..] => {
            let clock = match clock {
                [clock, "utc" | "gmt" | "z"] => spoken_time(clock, "")?,
                [clock, half @ ("am" | "pm")] | [clock, half @ ("am" | "pm"), "utc" | "gmt" | "z"] => {
                    spoken_time(clock, half)?
                }
                [clock] => spoken_time(clock, "")?,
                _ => return None,
            };
            on_day(day, clock, now)
        }
        _ => None,
    }
}

fn times(unit: Duration, count: u16) -> Option<Duration> {
    unit.checked_mul(i32::from(count))
}

fn unit_of(word: &str) -> Option<Duration> {
    Some(match word {
        "s" | "sec" | "secs" | "second" | "seconds" => Duration::SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => Duration::MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => Duration::HOUR,
        "d" | "day" | "days" => Duration::DAY,
        "w" | "week" | "weeks" => Duration::WEEK,
        _ => return None,
    })
}

/// `9am`, `9:30`, `15:00`, `noon`.
fn spoken_time(text: &str, half: &str) -> Option<Time> {
    if text == "noon" && half.is_empty() {
        return Time::from_hms(12, 0, 0).ok();
    }
    let (clock, half) =
        match text.strip_suffix("am").map(|t| (t, "am")).or(text.strip_suffix("pm").map(|t| (t, "pm"))) {
            Some(_) if !half.is_empty() => return None,
            Some(found) => found,
            None => (text, half),
        };
    let (hour, minute) = match clock.split_once(':') {
        Some((hour, minute)) if minute.len() == 2 => (number::<u8>(hour)?, number::<u8>(minute)?),
        // "at 9" alone may be either half of the day.
        None if !half.is_empty() => (number::<u8>(clock)?, 0),
        _ => return None,
    };
    let hour = match half {
        "" => hour,
        _ if !(1..=12).contains(&hour) => return None,
        "am" => hour % 12,
        _ => hour % 12 + 12,
    };
    Time::from_hms(hour, minute, 0).ok()
}

/// The next such day; a weekday is never today unless its time is still to come.
fn on_day(day: &str, clock: Time, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let now = now.to_offset(UtcOffset::UTC);
    let today = now.date();
    let at = |date: Date| date.with_time(clock).assume_utc();
    match day {
        "today" => Some(at(today)),
        "tomorrow" => Some(at(today.next_day()?)),
        _ => {
            let wanted = weekday(day)?;
            let date = if today.weekday() == wanted && at(today) > now {
                today
            } else {
                today.next_occurrence(wanted)
            };
            Some(at(date))
        }
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" | "mon" => Weekday::Monday,
        "tuesday" | "tue" => Weekday::Tuesday,
        "wednesday" | "wed" => Weekday::Wednesday,
        "thursday" | "thu" => Weekday::Thursday,
        "friday" | "fri" => Weekday::Friday,
        "saturday" | "sat" => Weekday::Saturday,
        "sunday" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    /// A Wednesday.
    const NOW: OffsetDateTime = datetime!(2026-08-05 10:00 UTC);

    #[test]
    fn the_notations_of_iso_8601() {
        let noon = datetime!(2026-08-05 12:00 UTC);
        for text in [
            "2026-08-05T12:00:00Z",
            "2026-08-05T12:00:00.000Z",
            "2026-08-05T14:00:00+02:00",
            "2026-08-05T14:00:00+0200",
            "2026-08-05T08:30:00-03:30",
            "2026-08-05T12:00:00.000000",
            "2026-08-05T12:00:00",
            "2026-08-05T12:00",
            "2026-08-05 12:00:00",
            "2026-08-05 12:00:00.000000+00",
        ] {
            assert_eq!(parse(text, NOW), Some(noon), "{text}");
        }
        assert_eq!(parse("2026-08-05T12:00:00.5Z", NOW), Some(noon + Duration::milliseconds(500)));
    }

    #[test]
    fn plain_words() {
        for (text, at) in [
            ("in 1 min", datetime!(2026-08-05 10:01 UTC)),
            ("in 2 hours", datetime!(2026-08-05 12:00 UTC)),
            ("In 90 Seconds", datetime!(2026-08-05 10:01:30 UTC)),
            ("in an hour", datetime!(2026-08-05 11:00 UTC)),
            ("in 15min", datetime!(2026-08-05 10:15 UTC)),
            ("in 3 days", datetime!(2026-08-08 10:00 UTC)),
            ("tomorrow at 9am", datetime!(2026-08-06 09:00 UTC)),
            ("tomorrow at 12am", datetime!(2026-08-06 00:00 UTC)),
            ("tomorrow at 12:30 pm", datetime!(2026-08-06 12:30 UTC)),
            ("today at 15:30", datetime!(2026-08-05 15:30 UTC)),
            ("Friday at 3pm UTC", datetime!(2026-08-07 15:00 UTC)),
            ("wednesday at 9am", datetime!(2026-08-12 09:00 UTC)),
            ("wednesday at 11am", datetime!(2026-08-05 11:00 UTC)),
            ("sun at noon", datetime!(2026-08-09 12:00 UTC)),
        ] {
            assert_eq!(parse(text, NOW), Some(at), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused() {
        for text in [
            "",
            " ",
            "soon",
            "in",
            "in five",
            "in 1",
            "in -1 min",
            "in 1.5 hours",
            "in 99999999999 days",
            "tomorrow",
            "tomorrow at",
            "tomorrow at 9",
            "tomorrow at 25:00",
            "tomorrow at 13pm",
            "tomorrow at 9am pm",
            "Friday at 3pm ET",
            "2026-02-30T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-08-05",
            "2026-08-05T12",
            "2026-08-05T24:00:00Z",
            "2026-08-05T12:00:00+25:00",
            "2026-08-05T12:00:00+02:0",
            "2026-8-5T12:00:00Z",
            "2026-08-05T12:00:00é",
            "1785931200",
            "+026-08-05T12:00:00Z",
            "2026-08-05T12:00:00+2:00:0",
        ] {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
    }
}
