use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;

use super::gate::LeaseGate;
use super::lane::Seat;
use super::route::Pass;
use super::verdict::{too_late, verdict};
use super::worker::{Work, Worker};
use super::{blame, counts};
use crate::crash::{self, Point};
use crate::email::StoredEmail;
use crate::outbox::{Action, ClaimedDelivery, Hop, Settlement, Why};
use crate::telemetry::{TRACE, continues};
use crate::transport::{Outcome, Parcel, Report, Stage, Transport};

/// How long writing down a hop may keep the mail.
const NOTE_WITHIN: Duration = Duration::from_secs(1);
/// Mail that waits for a way out looks again after so long, though the quota may be for a day: a person may have
/// given it more.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// One attempt, over, with what its log line says.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) settlement: Settlement,
    pub(super) attempt: i16,
    pub(super) domain: String,
    pub(super) took: Duration,
}

/// The two moments at which mail in flight is given up.
#[derive(Debug, Clone, Default)]
pub(super) struct Stops {
    /// What has not come to its last byte stops.
    pub(super) hurry: CancellationToken,
    /// What awaits the reply to its last byte stops too: nobody will know.
    pub(super) abandon: CancellationToken,
}

impl Worker {
    /// Start, perform, decide: one claimed delivery becomes one settlement, whatever happens.
    pub(super) async fn attempt(&self, work: Work, stops: &Stops) -> Ended {
        let span = tracing::info_span!(
            target: TRACE,
            "attempt",
            otel.kind = "consumer",
            email = %work.delivery.id.email,
            delivery = work.delivery.id.position,
            attempt = work.delivery.attempt,
            state = Empty,
        );
        continues(&span, work.traceparent.as_deref());
        let ended = self.try_ways(work, stops).instrument(span.clone()).await;
        span.record("state", ended.settlement.action.kind());
        ended
    }

    async fn try_ways(&self, work: Work, stops: &Stops) -> Ended {
        let begun = Instant::now();
        let Work { delivery, email, order, pass, .. } = work;
        let _renewed = self.in_flight.enter(&delivery);
        let mut seat = match pass {
            Pass::Go(seat) => seat,
            Pass::Wait(wait) => return Ended::waits(&delivery, wait),
            Pass::Nowhere => return self.goes_nowhere(&delivery),
            Pass::Crowded => return Ended::turned_away(&delivery),
        };
        if let Some(action) = too_late(&delivery) {
            self.route.lanes[seat.lane].give_back(&self.outbox, seat).await;
            return Ended::untried(&delivery, action);
        }
        let _counted = counts::InFlight::begin();
        let mut left: Vec<usize> = order.clone();
        loop {
            left.retain(|lane| *lane != seat.lane);
            let outcome = self.try_lane(&delivery, email.as_deref(), seat, stops).await;
            let mut action = verdict(&outcome, &delivery, self.policy);
            if blame::goes_on(&outcome) && !stops.hurry.is_cancelled() {
                match self.route.seat_one(&self.outbox, &left).await {
                    Pass::Go(next) => {
                        self.hop(&delivery, &outcome, seat, next).await;
                        seat = next;
                        continue;
                    }
                    Pass::Wait(Some(wait)) => action = sooner(action, wait),
                    Pass::Wait(None) | Pass::Nowhere | Pass::Crowded => {}
                }
            }
            if let (Outcome::Sent(_), Some(preferred)) = (&outcome, order.first()) {
                self.route.left_by(*preferred, seat.lane);
            }
            return self.ended(&delivery, begun, action, seat, outcome.report());
        }
    }

    /// One mail by one way, and what that tells of the way.
    async fn try_lane(
        &self,
        delivery: &ClaimedDelivery,
        email: Option<&StoredEmail>,
        seat: Seat,
        stops: &Stops,
    ) -> Outcome {
        let lane = &self.route.lanes[seat.lane];
        let begun = Instant::now();
        let _turn = lane.slow_turn().await;
        // lettre panics on some inputs; one such mail must not take its neighbours along.
        let span = tracing::info_span!(
            target: TRACE,
            "send",
            otel.kind = "client",
            otel.status_code = Empty,
            transport = lane.name,
            stage = Empty,
            code = Empty,
        );
        let performing = self.perform(delivery, email, &lane.transport, stops).instrument(span.clone());
        let outcome = AssertUnwindSafe(performing).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| {
            tracing::error!(email = %delivery.id, "an attempt panicked");
            Outcome::Retry(Report::new(Stage::Render, "the attempt panicked"), None)
        });
        if let Some(report) = outcome.report() {
            span.record("stage", report.stage.as_str());
            span.record("code", report.code.map(i64::from));
        }
        if !matches!(outcome, Outcome::Sent(_)) {
            span.record("otel.status_code", "ERROR");
        }
        drop(span);
        if matches!(outcome, Outcome::Sent(_)) {
            crash::reach(Point::AfterReply, &delivery.recipient);
        }
        counts::attempt(&lane.name, &outcome, begun.elapsed());
        let never_begun = outcome.report().is_none_or(|report| report.stage == Stage::Render);
        if never_begun {
            lane.give_back(&self.outbox, seat).await;
        } else {
            lane.note(&self.outbox, &outcome, seat).await;
        }
        outcome
    }

    /// Says that the mail goes on to the next way, within the same attempt.
    async fn hop(&self, delivery: &ClaimedDelivery, outcome: &Outcome, from: Seat, to: Seat) {
        let Some(report) = outcome.report() else { return };
        let (from, to) = (&self.route.lanes[from.lane].name, &self.route.lanes[to.lane].name);
        tracing::warn!(
            email = %delivery.id.email,
            delivery = delivery.id.position,
            attempt = delivery.attempt,
            transport = from,
            next = to,
            stage = report.stage.as_str(),
            code = report.code,
            "failover"
        );
        let hop =
            Hop { transport: from, stage: report.stage.as_str(), code: report.code, detail: &report.text };
        // The mail waits for this, but not for a database that does not answer.
        match timeout(NOTE_WITHIN, self.outbox.note_hop(delivery, hop)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a failover could not be written down"),
            Err(_) => tracing::warn!("a failover could not be written down in time"),
        }
    }

    async fn perform(
        &self,
        delivery: &ClaimedDelivery,
        email: Option<&StoredEmail>,
        transport: &Transport,
        stops: &Stops,
    ) -> Outcome {
        let unrenderable = |why: String| Outcome::Reject(Report::new(Stage::Render, why));
        crash::reach(Point::BeforeRender, &delivery.recipient);
        let Some(email) = email else { return unrenderable("the stored e-mail cannot be read".into()) };
        let message = match email.render() {
            Ok(message) => message,
            Err(error) => return unrenderable(error.to_string()),
        };
        let from = email.from.address.as_str();
        let parcel = Parcel { from, to: &delivery.recipient, message: &message, email };
        let gate = LeaseGate { outbox: &self.outbox, delivery, pulse: &self.pulse, hurry: &stops.hurry };
        tokio::select! {
            biased;
            outcome = transport.send(parcel, &gate) => outcome,
            () = stops.abandon.cancelled() => {
                Outcome::Unknown(Report::new(Stage::EndOfData, "stopped while the reply was awaited"))
            }
        }
    }

    fn ended(
        &self,
        delivery: &ClaimedDelivery,
        begun: Instant,
        action: Action,
        seat: Seat,
        report: Option<&Report>,
    ) -> Ended {
        let mut ended = Ended::untried(delivery, action);
        ended.took = begun.elapsed();
        if let Some(report) = report {
            ended.settlement.transport = Some(self.route.lanes[seat.lane].name.clone());
            ended.settlement.stage = Some(report.stage.as_str());
            ended.settlement.code = report.code;
            ended.settlement.detail = Some(report.text.clone());
        }
        ended
    }

    /// No way out may carry mail from its sender: a fault of the settings, and not of the mail.
    fn goes_nowhere(&self, delivery: &ClaimedDelivery) -> Ended {
        if let Some(action) = too_late(delivery) {
            return Ended::untried(delivery, action);
        }
        let text = "no transport may carry mail from this sender's domain";
        tracing::error!(email = %delivery.id.email, "{text}; see domains= in MAIL_TRANSPORTS");
        let after = self.policy.after_unusable(delivery.id, delivery.attempt, false);
        let mut ended = Ended::untried(delivery, Action::Requeue { after, why: Why::Interrupted });
        ended.settlement.detail = Some(text.to_owned());
        ended
    }
}

/// Another way has room before this one would be tried again: until then nothing counts.
fn sooner(action: Action, wait: Duration) -> Action {
    match action {
        Action::Requeue { after, .. } if wait < after => {
            Action::Requeue { after: wait, why: Why::Interrupted }
        }
        action => action,
    }
}

impl Ended {
    /// Ended without a transport having been asked.
    fn untried(delivery: &ClaimedDelivery, action: Action) -> Self {
        Self {
            settlement: Settlement {
                id: delivery.id,
                token: delivery.token,
                action,
                transport: None,
                stage: None,
                code: None,
                detail: None,
            },
            attempt: delivery.attempt,
            domain: domain(delivery),
            took: Duration::ZERO,
        }
    }

    /// Every way out is closed, or has had enough for now.
    fn waits(delivery: &ClaimedDelivery, wait: Option<Duration>) -> Self {
        if let Some(action) = too_late(delivery) {
            return Self::untried(delivery, action);
        }
        let after = wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let mut ended = Self::untried(delivery, Action::Requeue { after, why: Why::Interrupted });
        ended.settlement.detail = Some("no way out is free".to_owned());
        ended
    }

    /// Its domain has had enough for now: it keeps its place, and is not claimed again before there is room.
    fn turned_away(delivery: &ClaimedDelivery) -> Self {
        let mut ended = Self::unread(delivery);
        ended.settlement.detail = Some("the limit of its domain is reached".to_owned());
        ended
    }

    /// Claimed, and could not be read: nothing was tried.
    pub(super) fn unread(delivery: &ClaimedDelivery) -> Self {
        Self::untried(delivery, Action::Requeue { after: Duration::ZERO, why: Why::Interrupted })
    }
}

/// The one part of an address that a log may show.
fn domain(delivery: &ClaimedDelivery) -> String {
    delivery.recipient.rsplit('@').next().unwrap_or_default().to_owned()
}
