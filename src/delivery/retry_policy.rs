use std::time::Duration;

use crate::outbox::DeliveryId;

/// When an e-mail that a server did not take is tried again.
///
/// After the first attempt 10 s, then 30 s, 2 m, 5 m, 15 m, 30 m, 1 h, 2 h, and every 4 h from
/// there, each up to a fifth shorter or longer, so that mails that failed together do not come
/// back together. It ends when the mail expires (24 hours unless its caller says otherwise).
#[derive(Debug, Clone, Copy, Default)]
pub struct RetryPolicy;

const SECONDS: [u64; 8] = [10, 30, 120, 300, 900, 1_800, 3_600, 7_200];
const THEN: u64 = 14_400;

/// An outcome that nobody can know: the relay may still be delivering the first copy.
const UNKNOWN: Duration = Duration::from_secs(300);
/// The way out is broken for everybody, or for this mail's kind.
const UNUSABLE_FOR_ALL: Duration = Duration::from_secs(60);
const UNUSABLE_FOR_THIS: Duration = Duration::from_secs(900);

impl RetryPolicy {
    /// How long after attempt number `attempt` (from 1) the next one is due.
    pub fn after_failure(self, delivery: DeliveryId, attempt: i16) -> Duration {
        let index = usize::try_from(attempt - 1).unwrap_or(0);
        let base = Duration::from_secs(SECONDS.get(index).copied().unwrap_or(THEN));
        jittered(base, delivery, attempt)
    }

    /// How long after an attempt whose outcome nobody knows; never less than five minutes.
    pub fn after_unknown(self, delivery: DeliveryId, attempt: i16) -> Duration {
        self.after_failure(delivery, attempt).max(UNKNOWN)
    }

    /// How long a mail waits for a way out that cannot be used.
    pub fn after_unusable(self, delivery: DeliveryId, attempt: i16, for_every_mail: bool) -> Duration {
        let base = if for_every_mail { UNUSABLE_FOR_ALL } else { UNUSABLE_FOR_THIS };
        jittered(base, delivery, attempt)
    }
}

/// 0.8 to 1.2 times `base`, the same for the same delivery and attempt.
fn jittered(base: Duration, delivery: DeliveryId, attempt: i16) -> Duration {
    let (_, low) = delivery.email.as_uuid().as_u64_pair();
    // A multiplicative hash (Knuth, TAOCP 6.4): spreads neighbours over the whole range.
    let mixed = (low ^ (delivery.position as u64) << 32 ^ attempt as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    base.mul_f64(0.8 + 0.4 * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn delivery() -> DeliveryId {
        DeliveryId { email: Uuid::now_v7().into(), position: 0 }
    }

    #[test]
    fn the_schedule_is_the_one_that_is_documented() {
        let expected = [10, 30, 120, 300, 900, 1_800, 3_600, 7_200, 14_400, 14_400, 14_400];
        for (attempt, seconds) in (1..).zip(expected) {
            let delay = RetryPolicy.after_failure(delivery(), attempt).as_secs_f64();
            let range = seconds as f64 * 0.8..=seconds as f64 * 1.2;
            assert!(range.contains(&delay), "attempt {attempt}: {delay} s");
        }
    }

    #[test]
    fn mails_that_failed_together_come_back_apart() {
        let delays: Vec<Duration> = (0..1_000).map(|_| RetryPolicy.after_failure(delivery(), 5)).collect();
        for (from, to) in [(720, 780), (780, 840), (840, 900), (900, 960), (960, 1_020), (1_020, 1_080)] {
            let within = delays.iter().filter(|d| (from..to).contains(&d.as_secs())).count();
            assert!((100..240).contains(&within), "{within} of 1000 between {from} and {to} s");
        }
    }

    #[test]
    fn what_nobody_knows_waits_at_least_five_minutes() {
        assert!((1..=20).all(|attempt| RetryPolicy.after_unknown(delivery(), attempt) >= UNKNOWN));
    }

    #[test]
    fn sixteen_attempts_fill_a_day() {
        let total: Duration = (1..=16).map(|attempt| RetryPolicy.after_failure(delivery(), attempt)).sum();
        assert!(total > Duration::from_secs(86_400), "{total:?}");
    }
}
