//! One way out, with what this process knows of its breaker, rate and quota.

mod note;
mod room;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::breaker::Evidence;
use super::counts;
use crate::outbox::{BreakerState, Granted, Limits, Outbox, OutboxError, Probe, ProbeEnd, TransportState};
use crate::settings::Way;
use crate::transport::Transport;
use room::{left_of_quota, limits, room_in};

pub(super) use room::Room;

/// The state of a way that is closed and without limits is read so often at most, and only while mail is sent.
const STATE_LIVES: Duration = Duration::from_secs(1);
/// How long mail waits for a probe of somebody else's.
const PROBE_ENDS_IN: Duration = Duration::from_secs(2);

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

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known may be old at any time; a panic makes it no worse.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From 0 to 1, another each time: the random part of a fresh UUID.
pub(super) fn spread() -> f64 {
    let (_, low) = Uuid::now_v7().as_u64_pair();
    (low & 0xFFFF_FFFF) as f64 / f64::from(u32::MAX)
}
