use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::counts;
use super::gate::LeaseGate;
use super::verdict::{too_late, verdict};
use super::worker::Worker;
use crate::crash::{self, Point};
use crate::email::StoredEmail;
use crate::outbox::{Action, ClaimedDelivery, Settlement, Why};
use crate::transport::{Outcome, Parcel, Report, Stage};

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
    pub(super) async fn attempt(
        &self,
        delivery: ClaimedDelivery,
        email: Option<&StoredEmail>,
        stops: &Stops,
    ) -> Ended {
        let begun = Instant::now();
        let _renewed = self.in_flight.enter(&delivery);
        if let Some(action) = too_late(&delivery) {
            return self.ended(&delivery, begun, action, None);
        }
        let _counted = counts::InFlight::begin();
        // lettre panics on some inputs; one such mail must not take its neighbours along.
        let outcome = AssertUnwindSafe(self.perform(&delivery, email, stops)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| {
            tracing::error!(email = %delivery.id, "an attempt panicked");
            Outcome::Retry(Report::new(Stage::Render, "the attempt panicked"), None)
        });
        counts::attempt(&self.transport, &outcome, begun.elapsed());
        if let Some(pause) = self.cool_off.note(&outcome, Instant::now()) {
            let stage = outcome.report().map(|r| r.stage.as_str());
            let code = outcome.report().and_then(|r| r.code);
            tracing::error!(
                transport = self.transport.name(),
                stage,
                code,
                pause_s = pause.as_secs(),
                "the way out cannot be used; mail waits, `facteur check` tells why"
            );
        }
        if matches!(outcome, Outcome::Sent(_)) {
            crash::reach(Point::AfterReply, &delivery.recipient);
        }
        let action = verdict(&outcome, &delivery, self.policy);
        self.ended(&delivery, begun, action, outcome.report())
    }

    async fn perform(
        &self,
        delivery: &ClaimedDelivery,
        email: Option<&StoredEmail>,
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
            outcome = self.transport.send(parcel, &gate) => outcome,
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
        report: Option<&Report>,
    ) -> Ended {
        let mut ended = Ended::untried(delivery, action);
        ended.took = begun.elapsed();
        if let Some(report) = report {
            ended.settlement.transport = Some(self.transport.name().to_owned());
            ended.settlement.stage = Some(report.stage.as_str());
            ended.settlement.code = report.code;
            ended.settlement.detail = Some(report.text.clone());
        }
        ended
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

    /// Claimed, and could not be read: nothing was tried.
    pub(super) fn unread(delivery: &ClaimedDelivery) -> Self {
        Self::untried(delivery, Action::Requeue { after: Duration::ZERO, why: Why::Interrupted })
    }
}

/// The one part of an address that a log may show.
fn domain(delivery: &ClaimedDelivery) -> String {
    delivery.recipient.rsplit('@').next().unwrap_or_default().to_owned()
}
