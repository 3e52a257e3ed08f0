//! `facteur transports`: the ways out, as the fleet sees them, and a person's hand on their breakers.

use std::io::Write;
use std::time::Duration;

use time::OffsetDateTime;

use super::{AppError, pool};
use crate::outbox::{BreakerState, Outbox, TransportState};
use crate::settings::{Pace, Way, WorkerSettings};

const HEADER: [&str; 9] =
    ["NAME", "STATE", "SINCE", "UNTIL", "RATE", "QUOTA", "LAST SUCCESS", "BY HAND", "WHY"];

/// What a person wants of the ways out.
#[derive(Debug, Clone, Copy)]
pub enum ByHand<'a> {
    /// To see them.
    Show,
    /// Nothing sent that way any more: for so long, or until it is reset.
    Trip(&'a str, Option<Duration>),
    /// Mail sent that way again, at once.
    Reset(&'a str),
}

/// Shows the ways out, or opens or closes one of them by hand.
///
/// # Errors
/// The database is away, or no way out has that name.
pub async fn transports(
    settings: &WorkerSettings,
    what: ByHand<'_>,
    out: &mut impl Write,
) -> Result<(), AppError> {
    let outbox = Outbox::new(pool(&settings.database, 1)?).with_deadline(settings.database.access.timeout);
    let (ByHand::Trip(name, _) | ByHand::Reset(name)) = what else {
        return show(settings, &outbox, out).await;
    };
    if !settings.ways.iter().any(|way| way.name == name) {
        return Err(AppError::no_such_transport(Some(name), &settings.ways));
    }
    let actor = actor();
    let text = match what {
        ByHand::Trip(_, Some(length)) => {
            outbox.trip(name, Some(length), &actor).await?;
            format!("{name}: open for {}, by {actor}", shown(length))
        }
        ByHand::Trip(_, None) => {
            outbox.trip(name, None, &actor).await?;
            format!("{name}: open until `facteur transports reset {name}`, by {actor}")
        }
        ByHand::Reset(_) | ByHand::Show => {
            // Without a row it was never anything but closed.
            outbox.reset(name, &actor).await?;
            format!("{name}: closed, by {actor}")
        }
    };
    // A closed pipe does not undo it.
    let _ = writeln!(out, "{text}");
    Ok(())
}

async fn show(settings: &WorkerSettings, outbox: &Outbox, out: &mut impl Write) -> Result<(), AppError> {
    let ways = &settings.ways;
    let names: Vec<String> = ways.iter().map(|way| way.name.clone()).collect();
    let rows = outbox.transports(Some(&names)).await?;
    let mut lines = vec![HEADER.map(str::to_owned)];
    for way in ways {
        let state = rows.iter().find(|row| row.name == way.name).cloned().unwrap_or_default();
        lines.push(line(way, &state));
    }
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect();
    for line in lines {
        let padded = line.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        // A closed pipe is no failure.
        let _ = writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    Ok(())
}

fn line(way: &Way, state: &TransportState) -> [String; 9] {
    let open = state.state != BreakerState::Closed;
    let dash = || "-".to_owned();
    let until = match (open, state.held_for, state.now) {
        (false, ..) => dash(),
        (true, Some(held), Some(now)) => time(now + held),
        (true, ..) => "reset".to_owned(),
    };
    let slow = if state.slow_for.is_some() { " (half)" } else { "" };
    let by = match (&state.tripped_by, &state.reset_by) {
        (Some(by), _) => format!("tripped by {}", by.escape_debug()),
        (None, Some(by)) => format!("reset by {}", by.escape_debug()),
        (None, None) => dash(),
    };
    [
        way.name.clone(),
        state.state.as_str().to_owned(),
        state.since.filter(|_| open).map_or_else(dash, time),
        until,
        way.rate.map_or_else(dash, |rate| format!("{}{slow}", pace(rate))),
        way.quota.map_or_else(dash, |quota| used(quota, state)),
        state.last_success.map_or_else(dash, time),
        by,
        state.reason.as_ref().map_or_else(dash, |why| why.escape_debug().take(200).collect()),
    ]
}

/// `120 of 50000/d`.
fn used(quota: Pace, state: &TransportState) -> String {
    let current = state.window_start.zip(state.now).is_some_and(|(start, now)| start + quota.per > now);
    format!("{} of {}", if current { state.used } else { 0 }, pace(quota))
}

fn pace(pace: Pace) -> String {
    let unit = match pace.per.as_secs() {
        1 => "s",
        60 => "m",
        3_600 => "h",
        _ => "d",
    };
    format!("{}/{unit}", pace.mails)
}

/// To the second, in UTC: `2026-11-22T18:35:49Z`.
pub(super) fn time(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (date, (hour, minute, second)) = (at.date(), at.to_hms());
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

fn shown(length: Duration) -> String {
    match length.as_secs() {
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Who runs this: the user of the operating system, and the machine.
pub(super) fn actor() -> String {
    let user = whoami();
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let actor: String = format!("{user}@{host}").chars().filter(|c| !c.is_control()).take(128).collect();
    actor.trim_matches('@').to_owned()
}

fn whoami() -> String {
    crate::settings::os_user().unwrap_or_else(|| "somebody".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Kind, Relay};

    #[test]
    fn a_hostile_reason_stays_on_its_line() {
        let relay = Relay::new("h", 25);
        let way = Way { kind: Kind::Smtp(relay.clone()), ..Way::of_relay(relay) };
        let state = TransportState { reason: Some("a\r\nb\u{1b}[2J".into()), ..TransportState::default() };
        assert_eq!(line(&way, &state)[8], "a\\r\\nb\\u{1b}[2J");
    }

    #[test]
    fn a_quota_of_another_day_is_unused() {
        let quota = Pace { mails: 10, per: Duration::from_secs(86_400) };
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(9);
        let of = |start| TransportState {
            used: 4,
            now: Some(now),
            window_start: Some(start),
            ..Default::default()
        };
        assert_eq!(used(quota, &of(now - time::Duration::hours(1))), "4 of 10/d");
        assert_eq!(used(quota, &of(now - time::Duration::days(1))), "0 of 10/d");
    }
}
