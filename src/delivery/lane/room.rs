//! How much may go a way by its rate and quota, as far as this process knows. No I/O, no clock.

use std::time::Duration;

use crate::outbox::{Limits, TransportState};
use crate::settings::{Pace, Way};

/// How many mails may go, as far as is known; if none, until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delivery) enum Room {
    For(usize),
    /// None: until a person acts.
    After(Option<Duration>),
}

/// What the settings say, as a reservation asks it.
pub(super) fn limits(way: &Way) -> Limits {
    let every = way.rate.map(|Pace { mails, per }| per.div_f64(f64::from(mails.max(1))));
    // What a second brings may go at once.
    let burst = every.map_or(1, |every| (1.0 / every.as_secs_f64() + 1e-9).floor().max(1.0) as u32);
    let window = way.quota.map_or(Duration::from_secs(1), |quota| quota.per);
    Limits { every, burst, quota: way.quota.map(|quota| quota.mails), window }
}

/// The same reckoning as the reservation's, `age` after the row was read: a bound for the next claim.
pub(super) fn room_in(limits: &Limits, state: &TransportState, age: Duration) -> Room {
    let mut room = usize::MAX;
    if let Some(every) = limits.every {
        let every = if state.slow_for.is_some_and(|left| left > age) { every * 2 } else { every };
        let ahead = state.ahead.saturating_sub(age);
        let by_rate = f64::from(limits.burst) - ahead.as_secs_f64() / every.as_secs_f64() + 1e-6;
        if by_rate < 1.0 {
            return Room::After(Some(ahead.saturating_sub(every * (limits.burst - 1))));
        }
        room = by_rate as usize;
    }
    if let (Some(quota), Some(now)) = (limits.quota, state.now) {
        let now = now + age;
        let left_of_window = state.window_start.map(|start| (start + limits.window) - now);
        let used = if left_of_window.is_some_and(time::Duration::is_positive) { state.used } else { 0 };
        let left = i64::from(quota).saturating_sub(used);
        if left <= 0 {
            return Room::After(left_of_window.and_then(|left| Duration::try_from(left).ok()));
        }
        room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
    }
    Room::For(room)
}

/// What a quota still allows, by a row that was just read.
pub(super) fn left_of_quota(limits: &Limits, state: &TransportState) -> u32 {
    let quota = limits.quota.unwrap_or_default();
    let is_current =
        state.window_start.zip(state.now).is_some_and(|(start, now)| start + limits.window > now);
    let used = if is_current { u32::try_from(state.used).unwrap_or(u32::MAX) } else { 0 };
    quota.saturating_sub(used)
}
