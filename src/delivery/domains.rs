//! How much may go to each recipients' domain: whose mail waits, and when to look again.
//!
//! What is granted is the database's to say, for the whole fleet. Here is only what this process knows: that mail for a
//! domain waits for its limit. Such mail is claimed apart, as much as there is room for, and is in nobody's way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::counts;
use super::lane::spread;
use super::verdict::too_late;
use crate::outbox::{ClaimedDelivery, DomainRoom, DomainRule, Outbox, OutboxError, SessionId};
use crate::settings::{DomainLimit, DomainLimits, Pace};

/// A place that another process frees is noticed after so long, at most.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// No domain is looked at more often.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
/// Domains that are looked at together, those that have waited longest for it first.
const MOST_LOOKS: usize = 16;

/// The limits, and the domains that mail waits for.
#[derive(Debug, Default)]
pub(super) struct Domains {
    limits: DomainLimits,
    /// Each with when to look whether it has room.
    crowded: Mutex<BTreeMap<String, Instant>>,
}

/// What was claimed for crowded domains.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) claimed: Vec<ClaimedDelivery>,
    /// Domains whose other mail is not to be claimed now.
    pub(super) crowded: Vec<String>,
    /// Whether nothing is left that they have room for.
    pub(super) is_all: bool,
}

impl Default for Taken {
    fn default() -> Self {
        Self { claimed: Vec::new(), crowded: Vec::new(), is_all: true }
    }
}

impl Domains {
    pub(super) fn new(limits: DomainLimits) -> Self {
        Self { limits, crowded: Mutex::default() }
    }

    pub(super) fn has_limits(&self) -> bool {
        !self.limits.is_empty()
    }

    /// When to look next, from now; none while no mail waits.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let soonest = self.lock().values().min().copied();
        soonest.map(|at| at.saturating_duration_since(Instant::now()).max(SHORTEST_LOOK))
    }

    /// Claims of the mail that waits for its domain as much as there is room for, and `most` at most.
    pub(super) async fn take(
        &self,
        outbox: &Outbox,
        session: SessionId,
        most: usize,
        lease: Duration,
    ) -> Result<Taken, OutboxError> {
        let ready = self.ready(Instant::now());
        let (mut claimed, mut is_all) = (Vec::new(), true);
        if !ready.is_empty() && most > 0 {
            let rooms = outbox.domain_room(&self.rules(ready.iter())).await?;
            let wanted = share(&rooms, most);
            self.note(&rooms);
            is_all = rooms.iter().map(|room| room.now as usize).fold(0, usize::saturating_add) <= most;
            if !wanted.is_empty() {
                claimed = outbox.claim_for(session, &wanted, lease).await?;
                self.drop_empty(&wanted, &claimed);
            }
        }
        Ok(Taken { claimed, crowded: self.lock().keys().cloned().collect(), is_all })
    }

    /// For each delivery whether its domain lets it go now; of those that may not, the domain is crowded from here on.
    pub(super) async fn admit(
        &self,
        outbox: &Outbox,
        claimed: &[ClaimedDelivery],
    ) -> Result<Vec<bool>, OutboxError> {
        let mut wanted: Vec<(usize, String)> = (0..claimed.len())
            .filter(|at| too_late(&claimed[*at]).is_none())
            .map(|at| (at, domain_of(&claimed[at])))
            .filter(|(_, domain)| self.limits.of(domain).is_some())
            .collect();
        let mut may_go = vec![true; claimed.len()];
        if wanted.is_empty() {
            return Ok(may_go);
        }
        wanted.sort_by_key(|(at, _)| (claimed[*at].priority, claimed[*at].run_at, claimed[*at].id));
        let names: BTreeSet<&String> = wanted.iter().map(|(_, domain)| domain).collect();
        let asked: Vec<_> = wanted.iter().map(|(at, domain)| (domain.as_str(), &claimed[*at])).collect();
        let rooms = outbox.admit(&self.rules(names), &asked).await?;
        let mut left: BTreeMap<&str, u32> = rooms.iter().map(|r| (r.domain.as_str(), r.now)).collect();
        let mut turned_away = BTreeSet::new();
        for (at, domain) in &wanted {
            let left = left.entry(domain).or_default();
            if *left == 0 {
                may_go[*at] = false;
                turned_away.insert(domain.as_str());
            }
            *left = left.saturating_sub(1);
        }
        self.crowd(&turned_away, &rooms);
        Ok(may_go)
    }

    /// Mail to these domains has ended: they may have room again. Whether somebody waits for that.
    pub(super) fn freed<'a>(&self, domains: impl Iterator<Item = &'a str>) -> bool {
        let mut crowded = self.lock();
        if crowded.is_empty() {
            return false;
        }
        let mut waited = false;
        for domain in domains.map(str::to_ascii_lowercase) {
            let has_places = self.limits.of(&domain).is_some_and(|limit| limit.at_once.is_some());
            if let Some(look_at) = crowded.get_mut(&domain).filter(|_| has_places) {
                *look_at = Instant::now();
                waited = true;
            }
        }
        waited
    }

    /// The crowded domains that may have room, at most so many.
    fn ready(&self, now: Instant) -> Vec<String> {
        let crowded = self.lock();
        let mut due: Vec<_> = crowded.iter().filter(|(_, at)| **at <= now).collect();
        due.sort_by_key(|(_, at)| **at);
        due.into_iter().take(MOST_LOOKS).map(|(domain, _)| domain.clone()).collect()
    }

    /// When to look at those again that have no room.
    fn note(&self, rooms: &[DomainRoom]) {
        let mut crowded = self.lock();
        for room in rooms.iter().filter(|room| room.now == 0) {
            if let Some(look_at) = crowded.get_mut(&room.domain) {
                *look_at = next(room);
            }
        }
    }

    /// Those of which less was found than there was room for: nothing waits for them any more.
    fn drop_empty(&self, wanted: &[(String, i64)], claimed: &[ClaimedDelivery]) {
        let mut crowded = self.lock();
        for (domain, number) in wanted {
            let found = claimed.iter().filter(|delivery| domain_of(delivery) == *domain).count();
            if i64::try_from(found).is_ok_and(|found| found < *number) && crowded.remove(domain).is_some() {
                tracing::info!(domain, "no mail waits for this domain's limit any more");
            }
        }
        counts::crowded(crowded.len());
    }

    /// When to look at each again; mail for some was turned away.
    fn crowd(&self, turned_away: &BTreeSet<&str>, rooms: &[DomainRoom]) {
        let mut crowded = self.lock();
        for room in rooms {
            let turned_away = turned_away.contains(room.domain.as_str());
            let known = crowded.contains_key(&room.domain);
            if known || turned_away {
                // Another process was sooner: not at the same moment with it again.
                let aside = if turned_away { room.wait.mul_f64(spread() / 2.0) } else { Duration::ZERO };
                crowded.insert(room.domain.clone(), next(room) + aside);
            }
            if !known && turned_away {
                tracing::info!(domain = room.domain, "mail waits for this domain's limit");
            }
        }
        counts::crowded(crowded.len());
    }

    fn rules<'a>(&self, domains: impl IntoIterator<Item = &'a String>) -> Vec<DomainRule> {
        let limited = domains.into_iter().filter_map(|name| Some((name, self.limits.of(name)?)));
        limited.map(|(name, limit)| rule(name, limit)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        // A map is whole after each insert and remove.
        self.crowded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As recipients are kept, but for rows that somebody wrote by hand.
fn domain_of(delivery: &ClaimedDelivery) -> String {
    delivery.recipient.rsplit('@').next().unwrap_or_default().to_ascii_lowercase()
}

/// When to look at a domain again: at once while it has room, else when its rate has, or when a place may have been freed
/// elsewhere.
fn next(room: &DomainRoom) -> Instant {
    let wait = match (room.spare, room.wait) {
        (1.., _) => Duration::ZERO,
        (0, Duration::ZERO) => LOOK_AGAIN,
        (0, wait) => wait.max(SHORTEST_LOOK),
    };
    Instant::now() + wait
}

/// To each domain as much as it has room for, all together `most`.
fn share(rooms: &[DomainRoom], most: usize) -> Vec<(String, i64)> {
    let mut left = i64::try_from(most).unwrap_or(i64::MAX);
    let mut wanted = Vec::new();
    for room in rooms {
        let number = i64::from(room.now).min(left);
        left -= number;
        if number > 0 {
            wanted.push((room.domain.clone(), number));
        }
    }
    wanted
}

/// What a limit is for the database. What a tenth of a second brings may go at once, or every look that comes late would
/// cost something; and so much less comes at the even pace, that no second, minute, hour or day has more than it may.
fn rule(domain: &str, limit: DomainLimit) -> DomainRule {
    let burst = limit.rate.map_or(1, |Pace { mails, per }| {
        let in_a_tenth = (f64::from(mails) / per.as_secs_f64() / 10.0).ceil() as u32;
        1 + in_a_tenth.min(mails / 20)
    });
    // In whole microseconds, as the database reckons, and rather one too many.
    let every = limit.rate.map(|Pace { mails, per }| {
        let microseconds = per.as_secs_f64() * 1e6 / f64::from(mails - burst + 1);
        Duration::from_micros(microseconds.ceil() as u64)
    });
    DomainRule { domain: domain.to_owned(), every, burst, at_once: limit.at_once }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_has_more_than_the_rate_though_some_go_at_once() {
        for (mails, seconds) in
            [(1, 1), (20, 1), (100, 1), (1_000, 1), (100, 60), (7_200, 60), (1_000, 3_600)]
        {
            let per = Duration::from_secs(seconds);
            let limit = DomainLimit { rate: Some(Pace { mails, per }), at_once: None };
            let DomainRule { every, burst, .. } = rule("a.test", limit);
            let every = every.expect("a rate").as_secs_f64();
            // As many as may go at once, and one more each time the pace brings one before the window ends.
            let most = f64::from(burst) + ((seconds as f64 - 1e-6) / every).floor();
            assert!(most <= f64::from(mails), "{mails} in {seconds} s: {most}");
            assert!(most >= 0.94 * f64::from(mails), "{mails} in {seconds} s: {most}");
        }
    }

    #[test]
    fn each_domain_gets_what_it_has_room_for_and_all_together_no_more_than_there_are_slots() {
        let room =
            |domain: &str, now| DomainRoom { domain: domain.to_owned(), now, spare: 0, wait: Duration::ZERO };
        let rooms = [room("a.test", 3), room("b.test", 0), room("c.test", 9)];
        assert_eq!(share(&rooms, 8), [("a.test".to_owned(), 3), ("c.test".to_owned(), 5)]);
        assert_eq!(share(&rooms, 100), [("a.test".to_owned(), 3), ("c.test".to_owned(), 9)]);
    }
}
