use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What this process knows, on its own monotonic clock, of whether its leases still hold.
///
/// The database decides; this errs on the side of silence. A process that was frozen or cut off
/// for longer than its session lasts has lost its leases, however well it feels afterwards.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    expiry: Duration,
    lease: Duration,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the last heartbeat that reached the database was begun.
    last: Option<Instant>,
    /// Since when no heartbeat came too late.
    unbroken_since: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(expiry: Duration, lease: Duration) -> Self {
        Self { state: Mutex::new(State { last: None, unbroken_since: None }), expiry, lease }
    }

    /// A heartbeat that was begun at `at` reached the database.
    pub(super) fn beat(&self, at: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = state.last.is_some_and(|last| at.saturating_duration_since(last) < self.expiry);
        if !in_time {
            state.unbroken_since = Some(at);
        }
        state.last = Some(at);
    }

    /// Whether the next heartbeat is due.
    pub(super) fn is_due(&self, every: Duration, now: Instant) -> bool {
        self.get().last.is_none_or(|last| now.saturating_duration_since(last) >= every)
    }

    /// Whether the session is certain to be alive: only then may anything be claimed.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.get().last.is_some_and(|last| now.saturating_duration_since(last) < self.expiry * 2 / 3)
    }

    /// Whether a lease that was asked for at `claimed_at` certainly still holds.
    pub(super) fn covers(&self, claimed_at: Instant, now: Instant) -> bool {
        let State { last: Some(last), unbroken_since: Some(unbroken) } = self.get() else { return false };
        let renewed = last.max(claimed_at);
        let margin = (self.lease / 4).min(Duration::from_secs(15));
        self.is_fresh(now)
            && claimed_at >= unbroken
            && now.saturating_duration_since(renewed) < self.lease - margin
    }

    fn get(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn pulse() -> (Pulse, Instant) {
        let start = Instant::now();
        let pulse = Pulse::new(S(30), S(120));
        pulse.beat(start);
        (pulse, start)
    }

    #[test]
    fn nothing_holds_before_the_first_beat() {
        let pulse = Pulse::new(S(30), S(120));
        let now = Instant::now();
        assert!(!pulse.is_fresh(now) && !pulse.covers(now, now) && pulse.is_due(S(5), now));
    }

    #[test]
    fn a_lease_holds_while_the_heart_beats_in_time() {
        let (pulse, start) = pulse();
        for seconds in (5..600).step_by(5) {
            assert!(pulse.covers(start, start + S(seconds)), "after {seconds} s");
            pulse.beat(start + S(seconds));
        }
    }

    #[test]
    fn silence_for_two_thirds_of_the_session_is_enough_to_stop() {
        let (pulse, start) = pulse();
        assert!(pulse.covers(start, start + S(19)));
        assert!(!pulse.covers(start, start + S(20)));
    }

    #[test]
    fn a_frozen_process_that_wakes_has_lost_what_it_held_before() {
        let (pulse, start) = pulse();
        pulse.beat(start + S(150));
        let now = start + S(151);
        assert!(!pulse.covers(start + S(1), now), "claimed before the freeze");
        assert!(pulse.covers(start + S(150), now), "claimed after it");
    }

    #[test]
    fn a_short_lease_ends_on_its_own() {
        let start = Instant::now();
        let pulse = Pulse::new(S(30), S(4));
        pulse.beat(start);
        assert!(pulse.covers(start, start + S(2)));
        assert!(!pulse.covers(start, start + S(3)));
    }
}
