//! What an outcome means for the way that it was met on.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::blame::{self, Blame};
use super::super::breaker::{self, Evidence};
use super::super::counts;
use super::{Lane, Seat, spread};
use crate::outbox::{BreakerState, Outbox, OutboxError, Probe, ProbeEnd};
use crate::transport::Outcome;

/// How long the pace stays halved after the way asked for less.
const SLOW_FOR: Duration = Duration::from_secs(60);
const SUCCESS_EVERY: Duration = Duration::from_secs(30);

impl Lane {
    /// What an outcome means for the way, written down for the fleet.
    pub(in crate::delivery) async fn note(&self, outbox: &Outbox, outcome: &Outcome, seat: Seat) {
        let result = match seat.probe {
            Some(probe) => self.note_probe(outbox, outcome, probe).await,
            None => self.note_plain(outbox, outcome).await,
        };
        if let Err(error) = result {
            tracing::warn!(transport = self.name, %error, "what became of a way out could not be written down");
        }
    }

    async fn note_probe(&self, outbox: &Outbox, outcome: &Outcome, probe: Probe) -> Result<(), OutboxError> {
        let reason = reason(outcome);
        let end = match Blame::of(outcome) {
            Blame::Cleared => ProbeEnd::Good,
            Blame::Nothing if !matches!(outcome, Outcome::Unusable(_)) => ProbeEnd::Unused,
            _ => {
                let hold = breaker::hold(probe.rounds, spread());
                ProbeEnd::Bad(blame::pause_for_all(outcome).unwrap_or_default().max(hold), &reason)
            }
        };
        let counted = outbox.end_probe(&self.name, probe, end).await?;
        self.known().read_at = None;
        if let (true, ProbeEnd::Bad(hold, _)) = (counted, end) {
            self.say_open(outcome, hold);
        }
        Ok(())
    }

    async fn note_plain(&self, outbox: &Outbox, outcome: &Outcome) -> Result<(), OutboxError> {
        let (version, rounds, closed) = {
            let known = self.known();
            (known.state.version, known.state.rounds, known.state.state == BreakerState::Closed)
        };
        // In flight when it opened: that evidence was heard already.
        if !closed {
            return Ok(());
        }
        let enough = self.lock_evidence().weigh(Blame::of(outcome), version);
        let hold = match blame::pause_for_all(outcome) {
            Some(pause) => Some(pause),
            None => enough.then(|| breaker::hold(rounds, spread())),
        };
        if let Some(hold) = hold {
            if outbox.open_breaker(&self.name, version, hold, &reason(outcome)).await? {
                self.say_open(outcome, hold);
            }
            self.expect_open(hold);
        } else if blame::asks_for_less(outcome) && self.begins_slow() {
            tracing::warn!(transport = self.name, "the way out asks for less; it gets half for a minute");
            outbox.slow_down(&self.name, SLOW_FOR).await?;
        } else if matches!(outcome, Outcome::Sent(_)) && self.success_is_due() {
            outbox.note_success(&self.name).await?;
        }
        Ok(())
    }

    fn say_open(&self, outcome: &Outcome, hold: Duration) {
        let stage = outcome.report().map(|r| r.stage.as_str());
        let code = outcome.report().and_then(|r| r.code);
        tracing::error!(
            transport = self.name,
            stage,
            code,
            pause_s = hold.as_secs(),
            "the way out cannot be used; `facteur transports` tells since when, `facteur check` why"
        );
        self.known().shown_open = true;
        counts::open(&self.name, true);
    }

    /// What the row says is read before the next claim; until then it is taken for open.
    fn expect_open(&self, hold: Duration) {
        let mut known = self.known();
        known.state.state = BreakerState::Open;
        known.state.held_for = Some(hold);
        known.read_at = None;
    }

    /// True once: the pace is halved from here on.
    fn begins_slow(&self) -> bool {
        let mut known = self.known();
        let age = known.read_at.map_or(Duration::ZERO, |at| at.elapsed());
        let slow = known.state.slow_for.is_some_and(|left| left > age);
        if !slow {
            known.state.slow_for = Some(SLOW_FOR);
        }
        !slow
    }

    fn success_is_due(&self) -> bool {
        let mut known = self.known();
        let due = known.success_noted.is_none_or(|at| at.elapsed() >= SUCCESS_EVERY);
        if due {
            known.success_noted = Some(Instant::now());
        }
        due
    }

    fn lock_evidence(&self) -> MutexGuard<'_, Evidence> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reason(outcome: &Outcome) -> String {
    match outcome.report() {
        Some(report) => match report.code {
            Some(code) => format!("{}: {code} {}", report.stage, report.text),
            None => report.to_string(),
        },
        None => String::new(),
    }
}
