use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Mutex;

use super::RetryPolicy;
use super::attempt::{Ended, Stops};
use super::cool_off::CoolOff;
use super::held::Held;
use super::in_flight::InFlight;
use super::pulse::Pulse;
use crate::crash::{self, Point};
use crate::outbox::{ClaimedDelivery, Cursor, Outbox, OutboxError, Payloads, SessionId};
use crate::settings;
use crate::transport::Transport;

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
    pub(super) transport: Transport,
    pub(super) policy: RetryPolicy,
    pub(super) session: SessionId,
    pub(super) pulse: Pulse,
    pub(super) cool_off: CoolOff,
    pub(super) in_flight: InFlight,
    pub(super) held: Held,
    /// Outcomes that are known and not yet in the database.
    pub(super) unwritten: AtomicUsize,
    pub(super) settings: settings::Worker,
    host: String,
    turn: AtomicU64,
    /// Where the last claim ended; claims of one worker follow each other.
    cursor: Mutex<Cursor>,
}

impl Worker {
    /// A worker over an outbox and one way out. `host` is the name that its session is shown under.
    pub fn new(
        outbox: Outbox,
        transport: Transport,
        settings: settings::Worker,
        host: impl Into<String>,
    ) -> Self {
        Self {
            outbox,
            transport,
            policy: RetryPolicy,
            session: SessionId::new(),
            pulse: Pulse::new(settings.session_expiry, settings.lease),
            cool_off: CoolOff::default(),
            in_flight: InFlight::default(),
            held: Held::default(),
            unwritten: AtomicUsize::new(0),
            settings,
            host: host.into(),
            turn: AtomicU64::new(0),
            cursor: Mutex::default(),
        }
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
        let (claimed, payloads) = self.claim(self.settings.concurrency).await?;
        if claimed.is_empty() {
            return Ok(Tick::Idle);
        }
        let stops = Stops::default();
        let attempts = claimed.into_iter().map(|delivery| {
            let email = payloads.get(&delivery.id.email).cloned();
            let stops = &stops;
            async move { self.attempt(delivery, email.as_deref(), stops).await }
        });
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

    /// Leases what is due and reads it. What cannot be read now goes back, its attempt with it.
    pub(super) async fn claim(&self, limit: usize) -> Result<(Vec<ClaimedDelivery>, Payloads), OutboxError> {
        if self.held.is_in_doubt() {
            self.outbox.release_others(self.session, &self.held.all()).await?;
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Until the answer is here, also when this future is dropped.
        self.held.doubt(true);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut cursor = self.cursor.lock().await;
        let claimed =
            self.outbox.claim_on(&mut cursor, self.session, limit, self.settings.lease, turn).await?;
        drop(cursor);
        self.held.take(&claimed);
        self.held.doubt(false);
        let mut ids: Vec<_> = claimed.iter().map(|delivery| delivery.id.email).collect();
        ids.sort_unstable();
        ids.dedup();
        for delivery in &claimed {
            crash::reach(Point::AfterClaim, &delivery.recipient);
        }
        tracing::trace!(limit, claimed = claimed.len(), emails = ids.len(), "claimed");
        if ids.is_empty() {
            return Ok((claimed, Payloads::new()));
        }
        match self.outbox.load(&ids).await {
            Ok(payloads) => Ok((claimed, payloads)),
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

    pub(super) async fn beat(&self) -> Result<(), OutboxError> {
        let begun = Instant::now();
        let settings::Worker { session_expiry, lease, .. } = self.settings;
        let sending = self.in_flight.older_than(begun, lease / 3);
        self.outbox.heartbeat(self.session, &self.host, session_expiry, lease, &sending).await?;
        self.pulse.beat(begun);
        Ok(())
    }
}
