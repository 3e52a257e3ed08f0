use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::transport::Outcome;

/// Consecutive faults of the way out, none of them about one mail, before it is left alone.
const PATIENCE: u32 = 5;
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// Leaves a broken way out alone for a while, so that a queue does not hammer a relay that is down
/// or lock an account with a wrong password. Mail waits in the queue meanwhile, untouched.
#[derive(Debug, Default)]
pub(super) struct CoolOff {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: u32,
    rounds: u32,
    until: Option<Instant>,
}

impl CoolOff {
    /// Takes note of an outcome; how long the way out is left alone, when that begins now.
    pub(super) fn note(&self, outcome: &Outcome, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Unusable(report) if report.stage.concerns_every_mail() => state.faults = PATIENCE,
            Outcome::Retry(report, _) if report.stage.concerns_every_mail() => state.faults += 1,
            Outcome::Sent(_) => {
                *state = State::default();
                return None;
            }
            // About one mail, or about us: it says nothing of the way out.
            _ => return None,
        }
        let cooling = state.until.is_some_and(|until| until > now);
        if state.faults < PATIENCE || cooling {
            return None;
        }
        let pause = SHORTEST.saturating_mul(1 << state.rounds.min(10)).min(LONGEST);
        state.rounds += 1;
        // One more fault after the pause is enough to begin the next one.
        state.faults = PATIENCE - 1;
        state.until = Some(now + pause);
        Some(pause)
    }

    /// How much longer nothing should be tried.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Report, Stage};

    fn down() -> Outcome {
        Outcome::Retry(Report::new(Stage::Connect, "refused"), None)
    }

    #[test]
    fn a_relay_that_is_down_is_left_alone_for_longer_and_longer() {
        let (cool_off, mut now) = (CoolOff::default(), Instant::now());
        assert!((1..PATIENCE).all(|_| cool_off.note(&down(), now).is_none()));
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(cool_off.note(&down(), now), Some(pause));
            assert_eq!(cool_off.note(&down(), now), None, "in flight when it began");
            assert_eq!(cool_off.left(now), Some(pause));
            now += pause;
            assert_eq!(cool_off.left(now), None);
        }
    }

    #[test]
    fn a_wrong_password_is_enough_once_and_a_recipient_never() {
        let (cool_off, now) = (CoolOff::default(), Instant::now());
        for _ in 0..100 {
            let outcome = Outcome::Reject(Report::new(Stage::Rcpt, "no such user"));
            assert_eq!(cool_off.note(&outcome, now), None);
            let outcome = Outcome::Unusable(Report::new(Stage::Rcpt, "relaying denied"));
            assert_eq!(cool_off.note(&outcome, now), None);
        }
        let wrong = Outcome::Unusable(Report::new(Stage::Auth, "535"));
        assert_eq!(cool_off.note(&wrong, now), Some(SHORTEST));
    }

    #[test]
    fn one_mail_that_gets_through_ends_it() {
        let (cool_off, now) = (CoolOff::default(), Instant::now());
        (0..PATIENCE).for_each(|_| {
            cool_off.note(&down(), now);
        });
        assert!(cool_off.left(now).is_some());
        cool_off.note(&Outcome::Sent(Report::new(Stage::EndOfData, "ok")), now);
        assert_eq!(cool_off.left(now), None);
    }
}
