//! The ways out in their order, and which of them a mail may take now.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lane::{Lane, Room, Seat};
use super::{counts, order};
use crate::outbox::{DeliveryId, Outbox, OutboxError, TransportState};
use crate::settings::Way;
use crate::transport::{OpenError, Transport};

/// The ways out, in order of preference.
#[derive(Debug)]
pub struct Route {
    pub(super) lanes: Vec<Lane>,
    /// The preferred ways whose mail last left through another.
    avoided: Mutex<Vec<bool>>,
}

/// Whether a mail may go now.
#[derive(Debug)]
pub(super) enum Pass {
    /// By this way.
    Go(Seat),
    /// By none: not before this time, or until a person acts.
    Wait(Option<Duration>),
    /// By none that there is.
    Nowhere,
    /// Its domain has had enough for now.
    Crowded,
}

impl From<Transport> for Route {
    /// One way, without limits, under the transport's own name.
    fn from(transport: Transport) -> Self {
        Self::of(vec![Lane::new(None, transport)])
    }
}

impl Route {
    /// Opens the ways of the settings; nothing is connected yet.
    ///
    /// # Errors
    /// TLS cannot be set up, or a provider is not built in.
    pub fn open(ways: &[Way]) -> Result<Self, OpenError> {
        let lanes =
            ways.iter().map(|way| Transport::open(way).map(|transport| Lane::new(Some(way), transport)));
        Ok(Self::of(lanes.collect::<Result<_, _>>()?))
    }

    /// These ways, each over a transport that is open already; what its [`Way::kind`] says is not looked at.
    pub fn over(ways: Vec<(Way, Transport)>) -> Self {
        Self::of(ways.into_iter().map(|(way, transport)| Lane::new(Some(&way), transport)).collect())
    }

    fn of(lanes: Vec<Lane>) -> Self {
        let avoided = Mutex::new(vec![false; lanes.len()]);
        Self { lanes, avoided }
    }

    /// The ways that this mail may take, the preferred one first.
    pub(super) fn order(&self, id: DeliveryId, sender_domain: &str) -> Vec<usize> {
        let may = self.lanes.iter().enumerate().filter(|(_, lane)| lane.carries(sender_domain));
        order::order(&may.map(|(index, lane)| (index, lane.weight)).collect::<Vec<_>>(), id)
    }

    /// Reads what is to be known before anything is claimed.
    pub(super) async fn look_before(&self, outbox: &Outbox) -> Result<(), OutboxError> {
        let now = Instant::now();
        self.look(outbox, |lane| lane.is_unsure(now)).await
    }

    /// Reads what is to be known before what was claimed is sent.
    pub(super) async fn look_again(&self, outbox: &Outbox) -> Result<(), OutboxError> {
        let now = Instant::now();
        self.look(outbox, |lane| lane.is_stale(now)).await
    }

    async fn look(&self, outbox: &Outbox, wanted: impl Fn(&Lane) -> bool) -> Result<(), OutboxError> {
        if !self.lanes.iter().any(wanted) {
            return Ok(());
        }
        let names: Vec<String> = self.lanes.iter().map(|lane| lane.name.clone()).collect();
        let asked = Instant::now();
        let mut rows = outbox.transports(Some(&names)).await?;
        for lane in &self.lanes {
            let found = rows.iter().position(|row| row.name == lane.name);
            lane.learn(found.map_or_else(TransportState::default, |at| rows.swap_remove(at)), asked);
        }
        Ok(())
    }

    /// How many mails may go, all ways together; if none, when to ask again.
    pub(super) fn room(&self) -> Room {
        let now = Instant::now();
        let (mut room, mut wait) = (0_usize, None::<Duration>);
        for lane in &self.lanes {
            match lane.room(now) {
                Room::For(n) => room = room.saturating_add(n),
                Room::After(Some(after)) => wait = Some(wait.map_or(after, |wait| wait.min(after))),
                Room::After(None) => {}
            }
        }
        if room > 0 { Room::For(room) } else { Room::After(wait) }
    }

    /// A seat for each mail, on the first way of its order that has one: few statements for many mails.
    pub(super) async fn seat_all(
        &self,
        outbox: &Outbox,
        orders: &[Vec<usize>],
    ) -> Result<Vec<Pass>, OutboxError> {
        let mut passes: Vec<Option<Pass>> = orders.iter().map(|_| None).collect();
        let mut waits: Vec<Vec<(usize, Option<Duration>)>> = vec![Vec::new(); orders.len()];
        for place in 0..self.lanes.len() {
            for (index, lane) in self.lanes.iter().enumerate() {
                let here = |at: &usize| passes[*at].is_none() && orders[*at].get(place) == Some(&index);
                let here: Vec<usize> = (0..orders.len()).filter(here).collect();
                if here.is_empty() {
                    continue;
                }
                let (free, probe, wait) = lane.reserve(outbox, here.len()).await?;
                for (n, at) in here.into_iter().enumerate() {
                    if n < free {
                        passes[at] = Some(Pass::Go(lane.seat(index, probe)));
                    } else {
                        waits[at].push((index, wait));
                    }
                }
            }
        }
        let unseated = |waits: Vec<(usize, Option<Duration>)>| {
            // By the way that has room first.
            let soonest = waits.iter().min_by_key(|(_, wait)| wait.unwrap_or(Duration::MAX));
            soonest.map_or(Pass::Nowhere, |(lane, wait)| Pass::Wait(self.lanes[*lane].promise(*wait)))
        };
        Ok(passes
            .into_iter()
            .zip(waits)
            .map(|(pass, waits)| pass.unwrap_or_else(|| unseated(waits)))
            .collect())
    }

    /// A seat for one mail.
    pub(super) async fn seat_one(&self, outbox: &Outbox, order: &[usize]) -> Pass {
        match self.seat_all(outbox, &[order.to_vec()]).await {
            Ok(mut passes) => passes.pop().unwrap_or(Pass::Nowhere),
            Err(error) => {
                tracing::warn!(%error, "no other way out could be reserved");
                Pass::Nowhere
            }
        }
    }

    /// A mail left by a way: says so the moment mail begins to leave by another than the preferred one, and when that is over.
    pub(super) fn left_by(&self, preferred: usize, taken: usize) {
        let fallback = preferred != taken;
        counts::left_by(&self.lanes[taken].name, fallback);
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        if avoided[preferred] == fallback {
            return;
        }
        avoided[preferred] = fallback;
        let (preferred, taken) = (&self.lanes[preferred].name, &self.lanes[taken].name);
        if fallback {
            tracing::warn!(preferred, transport = taken, "mail leaves through a fallback");
        } else {
            tracing::info!(transport = taken, "mail leaves through the preferred way again");
        }
    }

    pub(super) async fn close_idle(&self) {
        for lane in &self.lanes {
            lane.transport.close_idle().await;
        }
    }
}
