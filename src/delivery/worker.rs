use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::attempt::{Ended, Stops};
use super::domains::{Domains, Taken};
use super::held::Held;
use super::in_flight::InFlight;
use super::lane::Room;
use super::pulse::Pulse;
use super::route::{Pass, Route};
use super::{RetryPolicy, counts};
use crate::crash::{self, Point};
use crate::email::StoredEmail;
use crate::outbox::{ClaimedDelivery, Cursor, Outbox, OutboxError, Payloads, SessionId, Traceparents};
use crate::settings;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing was due.
    Idle,
    /// So many deliveries were attempted and settled.
    Worked(usize),
}

/// Takes due deliveries, sends them, writes down what became of them.
#[derive(Debug)]
pub struct Worker {
    pub(super) outbox: Outbox,
    pub(super) route: Route,
    pub(super) domains: Domains,
    pub(super) policy: RetryPolicy,
    pub(super) session: SessionId,
    pub(super) pulse: Pulse,
    pub(super) in_flight: InFlight,
    pub(super) held: Held,
    /// Outcomes that are known and not yet in the database.
    pub(super) unwritten: AtomicUsize,
    pub(super) settings: settings::Worker,
    host: String,
    turn: AtomicU64,
    /// Where the last claim ended; claims of one worker follow each other.
    cursor: Mutex<Cursor>,
    /// When what expires while nothing can be claimed was last looked for.
    expired: Mutex<Option<Instant>>,
    /// What was accepted before is parked when it comes back from a dead worker.
    pub(super) hold_before: Option<OffsetDateTime>,
}

/// A claimed delivery, ready to be attempted.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) delivery: ClaimedDelivery,
    /// None when what is stored cannot be read.
    pub(super) email: Option<Arc<StoredEmail>>,
    /// The ways out that it may take, the preferred one first.
    pub(super) order: Vec<usize>,
    pub(super) pass: Pass,
    /// The trace that it belongs to.
    pub(super) traceparent: Option<String>,
}

/// Of one claimed delivery: its e-mail, the ways that it may take, and whether it may go now.
type Prepared = (Option<Arc<StoredEmail>>, Vec<usize>, Pass);

/// What a claim took.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) work: Vec<Work>,
    /// Whether there was no more.
    pub(super) is_all: bool,
    /// When no way out has room: until when, if that is known.
    pub(super) blocked: Option<Option<Duration>>,
}

/// What expires while every way out is closed is looked for so often.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

impl Worker {
    /// A worker over an outbox and the ways out, or one [`Transport`](crate::transport::Transport). `host` is the name that its session is shown under.
    pub fn new(
        outbox: Outbox,
        route: impl Into<Route>,
        settings: settings::Worker,
        host: impl Into<String>,
    ) -> Self {
        Self {
            outbox,
            route: route.into(),
            domains: Domains::default(),
            policy: RetryPolicy,
            session: SessionId::new(),
            pulse: Pulse::new(settings.session_expiry, settings.lease),
            in_flight: InFlight::default(),
            held: Held::default(),
            unwritten: AtomicUsize::new(0),
            settings,
            host: host.into(),
            turn: AtomicU64::new(0),
            cursor: Mutex::default(),
            expired: Mutex::default(),
            hold_before: None,
        }
    }

    /// After a restore from a backup: what was accepted before `since` and was being sent at the time of the backup is
    /// parked for a person as its lease ends, instead of being sent again. What is queued,
    /// [`Outbox::hold_queue`] parks.
    pub fn holding(self, since: OffsetDateTime) -> Self {
        Self { hold_before: Some(since), ..self }
    }

    /// The same, and to no recipients' domain more than these limits allow it: for all processes that are given the same limits.
    #[must_use]
    pub fn limiting(self, limits: settings::DomainLimits) -> Self {
        Self { domains: Domains::new(limits), ..self }
    }

    /// The outbox that it works on, over the worker's own pool.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// One step: takes what is due, as much as may be sent at once, sends it, settles it.
    ///
    /// # Errors
    /// The database cannot be reached. What was claimed comes back by the reaper.
    pub async fn tick(&self) -> Result<Tick, OutboxError> {
        if self.pulse.is_due(self.settings.heartbeat, Instant::now()) {
            self.beat().await?;
        }
        let batch = self.claim(self.settings.concurrency).await?;
        if batch.work.is_empty() {
            return Ok(Tick::Idle);
        }
        let stops = Stops::default();
        let attempts = batch.work.into_iter().map(|work| self.attempt(work, &stops));
        let ended = futures_util::future::join_all(attempts).await;
        self.settle_once(&ended).await?;
        Ok(Tick::Worked(ended.len()))
    }

    /// Steps until nothing is due; how many deliveries were attempted.
    ///
    /// # Errors
    /// As [`tick`](Self::tick).
    pub async fn drain(&self) -> Result<usize, OutboxError> {
        let mut all = 0;
        while let Tick::Worked(n) = self.tick().await? {
            all += n;
        }
        Ok(all)
    }

    /// Leases what is due, as much as the ways out have room for, and reads it. What cannot be read now goes back,
    /// its attempt with it.
    pub(super) async fn claim(&self, limit: usize) -> Result<Batch, OutboxError> {
        if self.held.is_in_doubt() {
            self.outbox.release_others(self.session, &self.held.all()).await?;
        }
        self.route.look_before(&self.outbox).await?;
        let limit = match self.route.room() {
            Room::For(room) => limit.min(room),
            Room::After(wait) => {
                self.expire_meanwhile().await?;
                return Ok(Batch { blocked: Some(wait), ..Batch::default() });
            }
        };
        if self.domains.next_look().is_some() {
            self.expire_meanwhile().await?;
        }
        // Until the answer is here, also when this future is dropped.
        self.held.doubt(true);
        let (claimed, is_all) = self.lease(limit).await?;
        self.held.take(&claimed);
        self.held.doubt(false);
        for delivery in &claimed {
            crash::reach(Point::AfterClaim, &delivery.recipient);
        }
        tracing::trace!(limit, claimed = claimed.len(), "claimed");
        if claimed.is_empty() {
            return Ok(Batch { is_all, ..Batch::default() });
        }
        match self.prepare(&claimed).await {
            Ok((prepared, traces)) => {
                let work = claimed.into_iter().zip(prepared).map(|(delivery, (email, order, pass))| {
                    let traceparent = traces.get(&delivery.id.email).cloned();
                    Work { delivery, email, order, pass, traceparent }
                });
                Ok(Batch { work: work.collect(), is_all, blocked: None })
            }
            Err(error) => {
                let release = claimed.iter().map(Ended::unread).collect::<Vec<_>>();
                if self.settle_once(&release).await.is_err() {
                    // They go back with the next claim; should there be none, their leases end by themselves.
                    claimed.iter().for_each(|delivery| self.held.give_up(delivery.id, delivery.token));
                    self.held.doubt(true);
                }
                Err(error)
            }
        }
    }

    /// What is due, and whether that is all. Mail that waits for its domain may take half of the room: the rest has its turn
    /// whatever waits there.
    async fn lease(&self, limit: usize) -> Result<(Vec<ClaimedDelivery>, bool), OutboxError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let lease = self.settings.lease;
        let mut taken = Taken::default();
        if self.domains.has_limits() {
            let half = if limit > 1 { limit / 2 } else { usize::from(turn.is_multiple_of(2)) };
            taken = self.domains.take(&self.outbox, self.session, half, lease).await?;
        }
        let Taken { mut claimed, crowded, is_all } = taken;
        let left = limit - claimed.len();
        if left == 0 {
            return Ok((claimed, false));
        }
        let mut cursor = self.cursor.lock().await;
        let asked = i64::try_from(left).unwrap_or(i64::MAX);
        let begun = Instant::now();
        let others =
            self.outbox.claim_around(&mut cursor, self.session, asked, lease, turn, &crowded).await?;
        counts::claim(begun.elapsed());
        let is_all = is_all && others.len() < left;
        claimed.extend(others);
        Ok((claimed, is_all))
    }

    /// For each delivery its e-mail, the ways that it may take, and a seat.
    async fn prepare(
        &self,
        claimed: &[ClaimedDelivery],
    ) -> Result<(Vec<Prepared>, Traceparents), OutboxError> {
        let mut ids: Vec<_> = claimed.iter().map(|delivery| delivery.id.email).collect();
        ids.sort_unstable();
        ids.dedup();
        let (payloads, traces): (Payloads, _) = self.outbox.load_traced(&ids).await?;
        self.route.look_again(&self.outbox).await?;
        let emails: Vec<_> =
            claimed.iter().map(|delivery| payloads.get(&delivery.id.email).cloned()).collect();
        let admitted = self.domains.admit(&self.outbox, claimed).await?;
        let orders: Vec<Vec<usize>> = claimed
            .iter()
            .zip(&emails)
            .zip(&admitted)
            .map(|((delivery, email), admitted)| {
                let from = email.as_ref().map_or("", |email| email.from.address.as_str());
                let order = || self.route.order(delivery.id, from.rsplit('@').next().unwrap_or_default());
                // Without a seat that another could have.
                if *admitted { order() } else { Vec::new() }
            })
            .collect();
        let passes = self.route.seat_all(&self.outbox, &orders).await?;
        let passes = passes.into_iter().zip(admitted);
        let passes = passes.map(|(pass, admitted)| if admitted { pass } else { Pass::Crowded });
        let prepared = emails.into_iter().zip(orders).zip(passes);
        Ok((prepared.map(|((email, order), pass)| (email, order, pass)).collect(), traces))
    }

    /// Something is not claimed, and a claim is what otherwise finds what expired.
    async fn expire_meanwhile(&self) -> Result<(), OutboxError> {
        let mut last = self.expired.lock().await;
        if last.is_none_or(|at| at.elapsed() >= EXPIRE_EVERY) {
            *last = Some(Instant::now());
            self.outbox.expire_due().await?;
        }
        Ok(())
    }

    pub(super) async fn beat(&self) -> Result<(), OutboxError> {
        self.outbox.count_connections("worker");
        let begun = Instant::now();
        let settings::Worker { session_expiry, lease, .. } = self.settings;
        let sending = self.in_flight.older_than(begun, lease / 3);
        self.outbox.heartbeat(self.session, &self.host, session_expiry, lease, &sending).await?;
        self.pulse.beat(begun);
        Ok(())
    }
}
