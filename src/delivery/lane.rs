//! One way out, with what this process knows of its breaker, rate and quota.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::blame::{self, Blame};
use super::breaker::{self, Evidence};
use super::counts;
use crate::outbox::{BreakerState, Granted, Limits, Outbox, OutboxError, Probe, ProbeEnd, TransportState};
use crate::settings::{Pace, Way};
use crate::transport::{Outcome, Transport};

/// The state of a way that is closed and without limits is read so often at most, and only while mail is sent.
const STATE_LIVES: Duration = Duration::from_secs(1);
/// How long the pace stays halved after the way asked for less.
const SLOW_FOR: Duration = Duration::from_secs(60);
/// How long mail waits for a probe of somebody else's.
const PROBE_ENDS_IN: Duration = Duration::from_secs(2);
const SUCCESS_EVERY: Duration = Duration::from_secs(30);

/// One way out.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) transport: Transport,
    pub(super) weight: Option<u32>,
    domains: Vec<String>,
    limits: Limits,
    known: Mutex<Known>,
    evidence: Mutex<Evidence>,
    /// Half of its connections, for while it asks for less and has no rate to halve.
    narrow: Semaphore,
    /// This process has just started, and may have better settings than those that opened the breaker.
    eager: AtomicBool,
}

/// What was last read or heard of the row.
#[derive(Debug, Default)]
struct Known {
    state: TransportState,
    read_at: Option<Instant>,
    /// It was asked and had nothing: it is not asked again before.
    denied_until: Option<Instant>,
    success_noted: Option<Instant>,
    /// Until when the rate is promised to mail that was told to come back.
    promised_until: Option<Instant>,
    /// Whether the log said last that it is open.
    shown_open: bool,
}

/// The right to send one mail this way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) lane: usize,
    pub(super) probe: Option<Probe>,
    /// Counted against a rate or a quota.
    pub(super) reserved: bool,
}

/// How many mails may go, as far as is known; if none, until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    For(usize),
    /// None: until a person acts.
    After(Option<Duration>),
}

impl Lane {
    pub(super) fn new(way: Option<&Way>, transport: Transport) -> Self {
        let connections = way.map_or(8, |way| way.connections);
        Self {
            name: way.map_or_else(|| transport.name().to_owned(), |way| way.name.clone()),
            transport,
            weight: way.and_then(|way| way.weight),
            domains: way.map(|way| way.domains.clone()).unwrap_or_default(),
            limits: way.map(limits).unwrap_or_default(),
            known: Mutex::default(),
            evidence: Mutex::default(),
            narrow: Semaphore::new((connections / 2).max(1)),
            eager: AtomicBool::new(true),
        }
    }

    /// Whether it may carry mail from this domain.
    pub(super) fn carries(&self, sender_domain: &str) -> bool {
        self.domains.is_empty()
            || self.domains.iter().any(|domain| domain.eq_ignore_ascii_case(sender_domain))
    }

    fn is_limited(&self) -> bool {
        self.limits.every.is_some() || self.limits.quota.is_some()
    }

    /// Whether its row is to be read before anything is claimed: it has limits, is not closed, or was never read.
    pub(super) fn is_unsure(&self, now: Instant) -> bool {
        let known = self.known();
        let Some(read_at) = known.read_at else { return true };
        let old = now.saturating_duration_since(read_at) >= STATE_LIVES;
        self.is_limited() || known.state.state != BreakerState::Closed && old
    }

    /// Whether its row is to be read before what was claimed is sent.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.known().read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) >= STATE_LIVES)
    }

    /// Its row was read, or it has none yet.
    pub(super) fn learn(&self, state: TransportState, now: Instant) {
        let mut known = self.known();
        let open = state.state != BreakerState::Closed;
        if !open {
            self.eager.store(false, Ordering::Relaxed);
        }
        if open != known.shown_open {
            known.shown_open = open;
            if open {
                let left_s = state.held_for.map(|left| left.as_secs());
                tracing::warn!(
                    transport = self.name,
                    left_s,
                    by_hand = state.tripped_by,
                    "the way out is closed for now"
                );
            } else {
                tracing::info!(transport = self.name, "the way out is open again");
            }
        }
        counts::open(&self.name, open);
        if let Some(quota) = self.limits.quota {
            counts::quota(&self.name, quota, left_of_quota(&self.limits, &state));
        }
        known.state = state;
        known.read_at = Some(now);
    }

    /// How many mails may go now, by what was last read.
    pub(super) fn room(&self, now: Instant) -> Room {
        let known = self.known();
        if let Some(left) = known.denied_until.and_then(|until| until.checked_duration_since(now))
            && !left.is_zero()
        {
            return Room::After(Some(left));
        }
        let age = known.read_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let state = &known.state;
        let eager = self.eager.load(Ordering::Relaxed) && state.tripped_by.is_none();
        match (state.state, state.held_for) {
            (BreakerState::Closed, _) => room_in(&self.limits, state, age),
            (BreakerState::Open, _) if eager => Room::For(1),
            (_, None) => Room::After(None),
            (_, Some(held)) if held > age => Room::After(Some(held - age)),
            _ => Room::For(1),
        }
    }

    /// Asks for up to `wanted` seats: how many there are, whether the one is a probe, or until when there is none.
    pub(super) async fn reserve(
        &self,
        outbox: &Outbox,
        wanted: usize,
    ) -> Result<(usize, Option<Probe>, Option<Duration>), OutboxError> {
        let room = self.room(Instant::now());
        let closed = self.known().state.state == BreakerState::Closed;
        match room {
            Room::After(wait) => return Ok((0, None, self.patience(wait))),
            Room::For(_) if closed && !self.is_limited() => return Ok((wanted, None, None)),
            Room::For(_) => {}
        }
        let eager = self.eager.swap(false, Ordering::Relaxed);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let granted = outbox.reserve(&self.name, &self.limits, wanted, eager).await?;
        {
            let mut known = self.known();
            self.heed(&mut known, &granted);
        }
        Ok((granted.now as usize, granted.probe, self.patience(granted.wait)))
    }

    /// What a reservation tells of the row.
    fn heed(&self, known: &mut Known, granted: &Granted) {
        if granted.state != known.state.state || granted.probe.is_some() {
            // Another state than was read: its version is to be read too.
            known.read_at = None;
            known.state.state = granted.state;
            known.state.held_for = if granted.probe.is_some() { Some(STATE_LIVES) } else { granted.wait };
        }
        if granted.now == 0 {
            let short = granted.wait.unwrap_or(STATE_LIVES).min(STATE_LIVES);
            known.denied_until = Some(Instant::now() + short);
        }
    }

    /// While somebody else's probe is under way, its end is near, though its last moment is not.
    fn patience(&self, wait: Option<Duration>) -> Option<Duration> {
        let probing = self.known().state.state == BreakerState::HalfOpen;
        if probing { Some(wait.unwrap_or(PROBE_ENDS_IN).min(PROBE_ENDS_IN)) } else { wait }
    }

    /// When a mail that this way has no room for should come back: each at a time of its own, or all of a long queue
    /// would be claimed again and again for the one place that each moment brings.
    pub(super) fn promise(&self, wait: Option<Duration>) -> Option<Duration> {
        let (Some(every), Some(wait)) = (self.limits.every, wait) else { return wait };
        let now = Instant::now();
        let mut known = self.known();
        let at = known.promised_until.map_or(now + wait, |until| until.max(now + wait));
        known.promised_until = Some(at + every);
        Some(at - now)
    }

    pub(super) fn seat(&self, lane: usize, probe: Option<Probe>) -> Seat {
        Seat { lane, probe, reserved: self.is_limited() }
    }

    /// A seat whose mail was never begun.
    pub(super) async fn give_back(&self, outbox: &Outbox, seat: Seat) {
        let mut result = Ok(());
        if seat.reserved {
            result = outbox.give_back(&self.name, &self.limits, 1).await;
        }
        if let Some(probe) = seat.probe {
            self.known().read_at = None;
            result = result.and(outbox.end_probe(&self.name, probe, ProbeEnd::Unused).await.map(drop));
        }
        if let Err(error) = result {
            tracing::warn!(transport = self.name, %error, "an unused reservation could not be given back");
        }
    }

    /// Waits for its turn while the way asks for less and has no rate that could be halved.
    pub(super) async fn slow_turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let slow = {
            let known = self.known();
            let age = known.read_at.map_or(Duration::ZERO, |at| at.elapsed());
            known.state.slow_for.is_some_and(|left| left > age)
        };
        if slow && self.limits.every.is_none() { self.narrow.acquire().await.ok() } else { None }
    }

    /// What an outcome means for the way, written down for the fleet.
    pub(super) async fn note(&self, outbox: &Outbox, outcome: &Outcome, seat: Seat) {
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

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known may be old at any time; a panic makes it no worse.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_evidence(&self) -> MutexGuard<'_, Evidence> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the settings say, as a reservation asks it.
fn limits(way: &Way) -> Limits {
    let every = way.rate.map(|Pace { mails, per }| per.div_f64(f64::from(mails.max(1))));
    // What a second brings may go at once.
    let burst = every.map_or(1, |every| (1.0 / every.as_secs_f64() + 1e-9).floor().max(1.0) as u32);
    let window = way.quota.map_or(Duration::from_secs(1), |quota| quota.per);
    Limits { every, burst, quota: way.quota.map(|quota| quota.mails), window }
}

/// The same reckoning as the reservation's, `age` after the row was read: a bound for the next claim.
fn room_in(limits: &Limits, state: &TransportState, age: Duration) -> Room {
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
fn left_of_quota(limits: &Limits, state: &TransportState) -> u32 {
    let quota = limits.quota.unwrap_or_default();
    let is_current =
        state.window_start.zip(state.now).is_some_and(|(start, now)| start + limits.window > now);
    let used = if is_current { u32::try_from(state.used).unwrap_or(u32::MAX) } else { 0 };
    quota.saturating_sub(used)
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

/// From 0 to 1, another each time: the random part of a fresh UUID.
pub(super) fn spread() -> f64 {
    let (_, low) = Uuid::now_v7().as_u64_pair();
    (low & 0xFFFF_FFFF) as f64 / f64::from(u32::MAX)
}
