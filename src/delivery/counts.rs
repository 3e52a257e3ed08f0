//! What is counted of deliveries, apart from where it happens.

use std::time::Duration;

use metrics::{Gauge, counter, gauge, histogram};

use super::attempt::Ended;
use crate::outbox::{Action, Final, Reaped, Why};
use crate::telemetry::families::{
    ATTEMPTS, CLAIM_SECONDS, CROWDED_DOMAINS, DUPLICATES_POSSIBLE, FALLBACK, IN_FLIGHT, LEASE_LOST,
    QUOTA_LIMIT, QUOTA_REMAINING, REAPED, SEND_SECONDS, SETTLED, TRANSPORT_OPEN, UNWRITTEN,
};
use crate::transport::Outcome;

/// The way out of what never got as far as one.
const NONE: &str = "none";

/// Counts a delivery as in flight for as long as it lives.
pub(super) struct InFlight(Gauge);

impl InFlight {
    pub(super) fn begin() -> Self {
        let gauge = gauge!(IN_FLIGHT);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// One more outcome that waits for the database.
pub(super) fn unwritten() {
    gauge!(UNWRITTEN).increment(1.0);
}

/// So many of them wait no longer.
pub(super) fn written(outcomes: usize) {
    gauge!(UNWRITTEN).decrement(outcomes as f64);
}

/// A worker begins, with this way out: what may come is seen as 0 before the first time.
pub(super) fn begin(transport: &str) {
    for state in ["sent", "failed", "cancelled", "retry", "released", "unknown", "held"] {
        for transport in [transport, NONE] {
            counter!(SETTLED, "state" => state, "transport" => transport.to_owned()).increment(0);
        }
    }
    left_by(transport, false);
}

/// A claim was answered.
pub(super) fn claim(took: Duration) {
    histogram!(CLAIM_SECONDS).record(took);
}

/// What a way's quota allows in a whole window, and what is left of it.
pub(super) fn quota(transport: &str, limit: u32, left: u32) {
    gauge!(QUOTA_LIMIT, "transport" => transport.to_owned()).set(f64::from(limit));
    gauge!(QUOTA_REMAINING, "transport" => transport.to_owned()).set(f64::from(left));
}

/// A mail left by this way, which is another than the one it prefers or not: seen as 0 before the first time.
pub(super) fn left_by(transport: &str, fallback: bool) {
    counter!(FALLBACK, "transport" => transport.to_owned()).increment(u64::from(fallback));
}

/// Whether a way's breaker is open, or half open.
pub(super) fn open(transport: &str, open: bool) {
    gauge!(TRANSPORT_OPEN, "transport" => transport.to_owned()).set(if open { 1.0 } else { 0.0 });
}

/// So many domains are crowded: mail waits for their limits.
pub(super) fn crowded(domains: usize) {
    gauge!(CROWDED_DOMAINS).set(domains as f64);
}

/// An attempt ended, or went on to the next way.
pub(super) fn attempt(transport: &str, outcome: &Outcome, took: Duration) {
    let name = transport.to_owned();
    histogram!(SEND_SECONDS, "transport" => name.clone()).record(took);
    let code = family(outcome.report().and_then(|report| report.code));
    counter!(ATTEMPTS, "transport" => name, "class" => class(outcome), "code" => code).increment(1);
}

fn class(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent(_) => "sent",
        Outcome::Retry(..) => "retry",
        Outcome::Reject(_) => "reject",
        Outcome::Unusable(_) => "unusable",
        Outcome::Unknown(_) => "unknown",
        Outcome::Interrupted => "interrupted",
    }
}

fn family(code: Option<u16>) -> &'static str {
    match code.map(|code| code / 100) {
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    }
}

/// The reaper took deliveries back.
pub(super) fn reaped(reaped: &Reaped) {
    let Reaped { requeued, parked, failed, cancelled } = *reaped;
    let results = [("requeued", requeued), ("parked", parked), ("failed", failed), ("cancelled", cancelled)];
    for (result, n) in results {
        counter!(REAPED, "result" => result).increment(n.unsigned_abs());
    }
}

impl Ended {
    /// The outcome was written, or came too late.
    pub(super) fn count(&self, lease_lost: bool) {
        let action = &self.settlement.action;
        if lease_lost {
            let had_250 = matches!(action, Action::Finish(Final::Sent, _));
            counter!(LEASE_LOST, "had_250" => if had_250 { "true" } else { "false" }).increment(1);
        } else {
            let transport = self.settlement.transport.clone().unwrap_or_else(|| NONE.to_owned());
            counter!(SETTLED, "state" => action.kind(), "transport" => transport).increment(1);
        }
        self.count_copy(lease_lost);
    }

    /// The outcome can never be written: the reaper will take the delivery back.
    pub(super) fn count_never_written(&self) {
        self.count_copy(true);
    }

    fn count_copy(&self, out_of_hand: bool) {
        if may_be_doubled(&self.settlement.action, out_of_hand) {
            counter!(DUPLICATES_POSSIBLE).increment(1);
        }
    }
}

/// Whether the delivery is tried again although a server may have taken it. With the lease lost, or the
/// outcome never written, somebody else will try it.
fn may_be_doubled(action: &Action, out_of_hand: bool) -> bool {
    match action {
        Action::Requeue { why: Why::Unknown, .. } => true,
        Action::Finish(Final::Sent, _) | Action::Finish(Final::Failed, "unknown") => out_of_hand,
        // What is held and had begun its content is parked by the reaper, not tried again.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_possible_only_where_a_second_attempt_is() {
        let requeue = |why| Action::Requeue { after: Duration::ZERO, why };
        let (sent, failed) =
            (Action::Finish(Final::Sent, "accepted"), |why| Action::Finish(Final::Failed, why));
        for (action, in_hand, lost) in [
            (sent, false, true),
            (failed("unknown"), false, true),
            (failed("rejected"), false, false),
            (requeue(Why::Unknown), true, true),
            (requeue(Why::Refused), false, false),
            (requeue(Why::Interrupted), false, false),
            (Action::Hold, false, false),
        ] {
            let found = (may_be_doubled(&action, false), may_be_doubled(&action, true));
            assert_eq!(found, (in_hand, lost), "{action:?}");
        }
    }

    #[test]
    fn codes_are_counted_by_family() {
        let codes = [Some(250), Some(354), Some(421), Some(550), Some(999), None];
        assert_eq!(codes.map(family), ["2xx", "3xx", "4xx", "5xx", "none", "none"]);
    }
}
