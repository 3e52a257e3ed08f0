use std::time::Duration;

use super::RetryPolicy;
use crate::outbox::{Action, ClaimedDelivery, Final, Why};
use crate::transport::Outcome;

/// What an outcome means for this delivery. The only place where that is decided.
pub(super) fn verdict(outcome: &Outcome, delivery: &ClaimedDelivery, policy: RetryPolicy) -> Action {
    let (id, attempt) = (delivery.id, delivery.attempt);
    match outcome {
        Outcome::Sent(_) => Action::Finish(Final::Sent, "accepted"),
        Outcome::Reject(_) => Action::Finish(Final::Failed, "rejected"),
        Outcome::Retry(report, wait) => {
            let after = policy.after_failure(id, attempt).max(wait.unwrap_or_default());
            // A way out that is broken for everybody says nothing of this mail: it never uses up its last attempt.
            let last = attempt >= delivery.max_attempts && report.stage.concerns_every_mail();
            let why = if last { Why::Interrupted } else { Why::Refused };
            again(delivery, after, why, "exhausted")
        }
        Outcome::Unknown(_) if delivery.hold_unknown => Action::Hold,
        Outcome::Unknown(_) => again(delivery, policy.after_unknown(id, attempt), Why::Unknown, "unknown"),
        Outcome::Unusable(report) => Action::Requeue {
            after: policy.after_unusable(id, attempt, report.stage.concerns_every_mail()),
            why: Why::Interrupted,
        },
        Outcome::Interrupted => Action::Requeue { after: Duration::ZERO, why: Why::Interrupted },
    }
}

/// What becomes of a delivery that may not be sent any more, if it is one.
pub(super) fn too_late(delivery: &ClaimedDelivery) -> Option<Action> {
    if delivery.withdrawn {
        Some(Action::Finish(Final::Cancelled, "withdrawn"))
    } else if delivery.superseded {
        Some(Action::Finish(Final::Cancelled, "superseded"))
    } else if delivery.expired {
        Some(Action::Finish(Final::Failed, "expired"))
    } else {
        None
    }
}

/// Once more, unless that was the last time or the next one would come too late.
fn again(delivery: &ClaimedDelivery, after: Duration, why: Why, exhausted: &'static str) -> Action {
    if delivery.attempt >= delivery.max_attempts && why != Why::Interrupted {
        Action::Finish(Final::Failed, exhausted)
    } else if after >= delivery.time_left {
        // Time ran out, and it may have been sent: of the two, the second is what its caller must know.
        Action::Finish(Final::Failed, if why == Why::Unknown { "unknown" } else { "expired" })
    } else {
        Action::Requeue { after, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::DeliveryId;
    use crate::transport::{Report, Stage};
    use std::time::Instant;
    use uuid::Uuid;

    fn delivery() -> ClaimedDelivery {
        ClaimedDelivery::for_tests(DeliveryId { email: Uuid::now_v7().into(), position: 0 }, Instant::now())
    }

    fn report(stage: Stage) -> Report {
        Report::new(stage, "said")
    }

    fn of(outcome: &Outcome, delivery: &ClaimedDelivery) -> Action {
        verdict(outcome, delivery, RetryPolicy)
    }

    #[test]
    fn the_ends() {
        let d = delivery();
        let sent = Outcome::Sent(report(Stage::EndOfData));
        let rejected = Outcome::Reject(report(Stage::Rcpt));
        assert_eq!(of(&sent, &d), Action::Finish(Final::Sent, "accepted"));
        assert_eq!(of(&rejected, &d), Action::Finish(Final::Failed, "rejected"));
    }

    #[test]
    fn a_retry_waits_as_long_as_the_server_asked() {
        let asked = Duration::from_secs(1_000);
        let outcome = Outcome::Retry(report(Stage::Rcpt), Some(asked));
        assert_eq!(of(&outcome, &delivery()), Action::Requeue { after: asked, why: Why::Refused });
    }

    #[test]
    fn attempts_and_time_run_out() {
        let retry = Outcome::Retry(report(Stage::Rcpt), None);
        let mut last = delivery();
        last.attempt = last.max_attempts;
        assert_eq!(of(&retry, &last), Action::Finish(Final::Failed, "exhausted"));
        assert_eq!(
            of(&Outcome::Unknown(report(Stage::EndOfData)), &last),
            Action::Finish(Final::Failed, "unknown")
        );
        let mut late = delivery();
        late.time_left = Duration::from_secs(1);
        assert_eq!(of(&retry, &late), Action::Finish(Final::Failed, "expired"));
        assert_eq!(
            of(&Outcome::Unknown(report(Stage::EndOfData)), &late),
            Action::Finish(Final::Failed, "unknown")
        );
    }

    #[test]
    fn what_was_withdrawn_superseded_or_expired_is_not_begun() {
        let mut d = delivery();
        assert_eq!(too_late(&d), None);
        d.expired = true;
        assert_eq!(too_late(&d), Some(Action::Finish(Final::Failed, "expired")));
        d.superseded = true;
        assert_eq!(too_late(&d), Some(Action::Finish(Final::Cancelled, "superseded")));
        d.withdrawn = true;
        assert_eq!(too_late(&d), Some(Action::Finish(Final::Cancelled, "withdrawn")));
    }

    #[test]
    fn a_relay_that_is_down_never_uses_a_mail_up() {
        let mut last = delivery();
        last.attempt = last.max_attempts;
        for stage in [Stage::Connect, Stage::Tls, Stage::Banner, Stage::Ehlo, Stage::Auth, Stage::Mail] {
            let action = of(&Outcome::Retry(report(stage), None), &last);
            assert!(matches!(action, Action::Requeue { why: Why::Interrupted, .. }), "{stage}: {action:?}");
        }
    }

    #[test]
    fn a_broken_way_out_never_discards_mail() {
        for stage in [Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::EndOfData] {
            let mut last = delivery();
            last.attempt = last.max_attempts;
            last.time_left = Duration::from_secs(1);
            let action = of(&Outcome::Unusable(report(stage)), &last);
            assert!(matches!(action, Action::Requeue { why: Why::Interrupted, .. }), "{stage}: {action:?}");
        }
    }

    #[test]
    fn an_interruption_is_not_an_attempt() {
        let action = of(&Outcome::Interrupted, &delivery());
        assert_eq!(action, Action::Requeue { after: Duration::ZERO, why: Why::Interrupted });
    }

    #[test]
    fn what_nobody_knows_waits_or_is_held() {
        let unknown = Outcome::Unknown(report(Stage::EndOfData));
        let waits = of(&unknown, &delivery());
        assert!(
            matches!(waits, Action::Requeue { after, why: Why::Unknown } if after >= Duration::from_secs(300))
        );
        let mut held = delivery();
        held.hold_unknown = true;
        held.attempt = held.max_attempts;
        assert_eq!(of(&unknown, &held), Action::Hold);
    }
}
