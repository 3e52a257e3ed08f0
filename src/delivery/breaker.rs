//! When a way out is given up for a while, and for how long. No I/O, no clock: evidence in, a decision out.
//!
//! Each process gathers its own evidence; what it decides holds for the fleet, in `facteur.transports`.

use std::collections::VecDeque;
use std::time::Duration;

use super::blame::Blame;

/// Faults of the way in a row that are enough.
const IN_A_ROW: u32 = 5;
/// Outcomes that are looked at together, of which half are enough.
const RING: usize = 20;

const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// What this process saw of one way out since its breaker last changed.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Of the breaker's state; evidence of an older one is worth nothing.
    version: i64,
    in_a_row: u32,
    /// The last outcomes, true where it was a fault.
    ring: VecDeque<bool>,
}

impl Evidence {
    /// Takes note of an outcome met under this version of the state; true when it is enough to open. That is said
    /// once: what is counted begins anew.
    pub(super) fn weigh(&mut self, blame: Blame, version: i64) -> bool {
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        match blame {
            Blame::Nothing => return false,
            Blame::Cleared | Blame::Partly => self.in_a_row = 0,
            Blame::Way => self.in_a_row += 1,
            Blame::Account => self.in_a_row = IN_A_ROW,
        }
        self.ring.push_back(blame != Blame::Cleared);
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
        let faults = self.ring.iter().filter(|fault| **fault).count();
        let enough = self.in_a_row >= IN_A_ROW || self.ring.len() == RING && faults * 2 >= RING;
        if enough {
            *self = Self { version, ..Self::default() };
        }
        enough
    }
}

/// How long a breaker stays open that has been opened `rounds` times before, without a success between: 10 s, twice
/// as long each time, 5 min at most. `spread`, from 0 to 1, makes it up to a fifth shorter or longer.
pub(super) fn hold(rounds: u16, spread: f64) -> Duration {
    let base = SHORTEST.saturating_mul(1 << rounds.min(10)).min(LONGEST);
    base.mul_f64(0.8 + 0.4 * spread.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::Blame::{Account, Cleared, Nothing, Partly, Way};
    use super::*;
    use crate::transport::{Outcome, Report, Stage};
    use proptest::prelude::*;

    /// After how many of these, again and again, it opens.
    fn opens_after(pattern: &[Blame]) -> Option<usize> {
        let mut evidence = Evidence::default();
        (1..=200).find(|n| evidence.weigh(pattern[(n - 1) % pattern.len()], 1))
    }

    #[test]
    fn the_table() {
        for (pattern, expected) in [
            (&[Way][..], Some(5)),
            (&[Account], Some(1)),
            (&[Cleared], None),
            (&[Nothing], None),
            (&[Nothing, Way], Some(10)),
            (&[Partly], Some(20)),
            (&[Partly, Cleared], Some(20)),
            (&[Way, Cleared], Some(20)),
            (&[Way, Way, Way, Way, Partly], Some(20)),
            (&[Cleared, Cleared, Way], None),
            (&[Cleared, Cleared, Cleared, Way, Way], None),
            (&[Cleared, Way, Way, Way, Way, Way], Some(6)),
        ] {
            assert_eq!(opens_after(pattern), expected, "{pattern:?}");
        }
    }

    #[test]
    fn a_wrong_password_is_enough_once_and_a_recipient_never() {
        let mut evidence = Evidence::default();
        let mut weigh = |outcome| evidence.weigh(Blame::of(&outcome), 1);
        for _ in 0..100 {
            assert!(!weigh(Outcome::Reject(Report::new(Stage::Rcpt, "no such user"))));
            assert!(!weigh(Outcome::Unusable(Report::new(Stage::Rcpt, "relaying denied"))));
        }
        assert!(weigh(Outcome::Unusable(Report::new(Stage::Auth, "535"))));
    }

    #[test]
    fn evidence_of_an_older_state_is_worth_nothing() {
        let mut evidence = Evidence::default();
        assert!((0..4).all(|_| !evidence.weigh(Way, 1)));
        assert!((0..4).all(|_| !evidence.weigh(Way, 2)));
        assert!(evidence.weigh(Way, 2));
    }

    #[test]
    fn it_is_left_alone_for_longer_and_longer() {
        let seconds = [10, 20, 40, 80, 160, 300, 300, 300];
        for (rounds, seconds) in (0..).zip(seconds) {
            assert_eq!(hold(rounds, 0.5).as_secs_f64().round(), f64::from(seconds));
        }
        assert_eq!((hold(0, 0.0).as_secs_f64(), hold(0, 1.0).as_secs_f64()), (8.0, 12.0));
        assert_eq!(hold(u16::MAX, 1.0).as_secs_f64(), 360.0);
    }

    proptest! {
        #[test]
        fn fewer_than_half_with_no_five_in_a_row_never_open(outcomes in proptest::collection::vec(0u8..3, 0..300)) {
            let mut evidence = Evidence::default();
            for outcome in outcomes {
                // Each possible fault is followed by two that are none.
                let fault = [Nothing, Partly, Way][usize::from(outcome)];
                prop_assert!(![fault, Cleared, Cleared].into_iter().any(|blame| evidence.weigh(blame, 1)));
            }
        }
    }
}
