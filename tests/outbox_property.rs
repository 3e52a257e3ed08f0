//! Whatever happens in whatever order, each accepted delivery is in one place, and only the newest lease
//! counts: random walks of three workers and a person through every statement of the outbox.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "what the walks saw is worth reading")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use facteur::email::{OnUnknown, Priority};
use facteur::outbox::{Action, ClaimedDelivery, DeliveryId, Final, SessionId, Settlement, Why};
use facteur::{EmailId, OutboxError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use sqlx::AssertSqlSafe;
use support::outbox::{LEASE, TestOutbox, email_to};
use time::OffsetDateTime;
use tokio::sync::Mutex;

const CASES: u32 = 64;
/// In a walk, on the average.
const STEPS: usize = 40;
const WORKERS: usize = 3;

/// One statement of somebody. A number picks among what there is at that moment, from the newest back.
#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        recipients: usize,
        key: Option<u8>,
        name: Option<u8>,
        hold: bool,
        sensitive: bool,
        scheduled: bool,
    },
    Claim {
        worker: usize,
        limit: i64,
    },
    BeginData(usize),
    /// With the token of any claim there ever was.
    Settle {
        claim: usize,
        how: How,
    },
    LoseSession(usize),
    ExpireLeases,
    Reap,
    ComeDue,
    Expire(usize),
    Cancel(usize),
    Reschedule(usize),
    Retry(usize),
    GiveUp(usize),
    Wipe,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Sent,
    Failed,
    Cancelled,
    Retry,
    Unknown,
    Release,
    Hold,
}

impl How {
    fn action(self) -> Action {
        let after = Duration::ZERO;
        match self {
            Self::Sent => Action::Finish(Final::Sent, "accepted"),
            Self::Failed => Action::Finish(Final::Failed, "rejected"),
            Self::Cancelled => Action::Finish(Final::Cancelled, "superseded"),
            Self::Retry => Action::Requeue { after, why: Why::Refused },
            Self::Unknown => Action::Requeue { after, why: Why::Unknown },
            Self::Release => Action::Requeue { after, why: Why::Interrupted },
            Self::Hold => Action::Hold,
        }
    }
}

fn how() -> impl Strategy<Value = How> {
    use How::{Cancelled, Failed, Hold, Release, Retry, Sent, Unknown};
    prop::sample::select(vec![Sent, Sent, Failed, Cancelled, Retry, Retry, Unknown, Release, Hold, Hold])
}

fn step() -> impl Strategy<Value = Step> {
    let enqueue = (
        1..=3_usize,
        prop::option::weighted(0.3, 0..3_u8),
        prop::option::weighted(0.3, 0..2_u8),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
    );
    prop_oneof![
        6 => enqueue.prop_map(|(recipients, key, name, hold, sensitive, scheduled)| {
            Step::Enqueue { recipients, key, name, hold, sensitive, scheduled }
        }),
        10 => (0..WORKERS, 1..6_i64).prop_map(|(worker, limit)| Step::Claim { worker, limit }),
        3 => (0..4_usize).prop_map(Step::BeginData),
        16 => (0..8_usize, how()).prop_map(|(claim, how)| Step::Settle { claim, how }),
        2 => (0..WORKERS).prop_map(Step::LoseSession),
        2 => Just(Step::ExpireLeases),
        3 => Just(Step::Reap),
        3 => Just(Step::ComeDue),
        1 => (0..4_usize).prop_map(Step::Expire),
        3 => (0..4_usize).prop_map(Step::Cancel),
        2 => (0..4_usize).prop_map(Step::Reschedule),
        3 => (0..4_usize).prop_map(Step::Retry),
        3 => (0..4_usize).prop_map(Step::GiveUp),
        1 => Just(Step::Wipe),
    ]
}

/// One step, or two at once.
fn walk() -> impl Strategy<Value = Vec<(Step, Option<Step>)>> {
    prop::collection::vec((step(), prop::option::weighted(0.2, step())), 1..2 * STEPS)
}

/// Where a delivery is.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    state: String,
    token: i64,
}

type Places = HashMap<DeliveryId, Place>;

/// What was done so far, as its callers know it.
struct World<'a> {
    t: &'a TestOutbox,
    seen: &'a Mutex<BTreeMap<String, usize>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    workers: HashMap<usize, SessionId>,
    emails: Vec<EmailId>,
    accepted: usize,
    claims: Vec<(SessionId, ClaimedDelivery)>,
    places: Places,
}

/// What a settlement should do and did: whether the lease was the newest, whether it held.
type Settled = Option<(ClaimedDelivery, bool)>;

impl World<'_> {
    async fn go(&self, (one, other): &(Step, Option<Step>)) -> Result<(), TestCaseError> {
        let before = self.known.lock().await.places.clone();
        let settled = match other {
            None => self.take(one).await?,
            Some(other) => {
                let (one, other) = tokio::join!(self.take(one), self.take(other));
                one.and(other)?;
                None
            }
        };
        let after = self.places().await?;
        let mut known = self.known.lock().await;
        check(&before, &after, known.accepted)?;
        if let Some((claim, held)) = settled {
            *self.seen.lock().await.entry(if held { "settled" } else { "too late" }.into()).or_default() += 1;
            check_settled(&known, &claim, held, &before, &after)?;
        }
        let mut seen = self.seen.lock().await;
        for (id, place) in after.iter().filter(|(id, place)| before.get(id) != Some(place)) {
            let from = before.get(id).map_or("-", |was| was.state.as_str());
            *seen.entry(format!("{from} -> {}", place.state)).or_default() += 1;
        }
        known.places = after;
        Ok(())
    }

    async fn take(&self, step: &Step) -> Result<Settled, TestCaseError> {
        let outbox = &self.t.outbox;
        let email = |n: usize| async move { nth(&self.known.lock().await.emails, n).copied() };
        match step {
            Step::Enqueue { .. } => self.enqueue(step).await?,
            Step::Claim { worker, limit } => self.claim(*worker, *limit).await?,
            Step::BeginData(n) => {
                let claim = nth(&self.known.lock().await.claims, *n).cloned();
                if let Some((_, claim)) = claim {
                    outbox.mark_data_started(&claim).await.map_err(fail)?;
                }
            }
            Step::Settle { claim, how } => return self.settle(*claim, *how).await,
            Step::LoseSession(worker) => {
                let session = self.known.lock().await.workers.remove(worker);
                if let Some(session) = session {
                    outbox.end_session(session).await.map_err(fail)?;
                }
            }
            Step::ExpireLeases => {
                self.run("lease_until = now() - interval '1 s'", "state = 'sending'").await?;
            }
            Step::Reap => drop(outbox.reap().await.map_err(fail)?),
            Step::ComeDue => self.run("run_at = now()", "state = 'queued'").await?,
            Step::Expire(n) => {
                if let Some(id) = email(*n).await {
                    self.run("expires_at = now()", &format!("email_id = '{id}'")).await?;
                }
            }
            Step::Cancel(n) => {
                if let Some(id) = email(*n).await {
                    let found = outbox.cancel(id).await.map_err(fail)?;
                    prop_assert!(found.is_some(), "an e-mail that was accepted is known");
                }
            }
            Step::Reschedule(n) => {
                if let Some(id) = email(*n).await {
                    let at = OffsetDateTime::now_utc() + time::Duration::seconds(*n as i64 - 1);
                    outbox.reschedule(id, at).await.map_err(fail)?;
                }
            }
            Step::Retry(n) => {
                if let Some(id) = self.one_that_is(&["failed", "cancelled", "unknown"], *n).await {
                    match outbox.retry(id, "grace").await {
                        Ok(_) | Err(OutboxError::Wiped) => {}
                        Err(error) => return Err(fail(error)),
                    }
                }
            }
            Step::GiveUp(n) => {
                if let Some(id) = self.one_that_is(&["unknown"], *n).await {
                    outbox.give_up(id, "grace").await.map_err(fail)?;
                }
            }
            Step::Wipe => drop(outbox.wipe_sensitive().await.map_err(fail)?),
        }
        Ok(None)
    }

    async fn enqueue(&self, step: &Step) -> Result<(), TestCaseError> {
        let Step::Enqueue { recipients, key, name, hold, sensitive, scheduled } = step else { return Ok(()) };
        let mut email = email_to("r0@x.test").sensitive(*sensitive);
        for i in 1..*recipients {
            email = email.to(format!("r{i}@x.test"));
        }
        if let Some(key) = key {
            email = email.idempotency_key(format!("key-{key}"));
        }
        if let Some(name) = name {
            email = email.supersedes(format!("name-{name}")).priority(Priority::Urgent);
        }
        if *hold {
            email = email.on_unknown(OnUnknown::Hold);
        }
        if *scheduled {
            email = email.scheduled_at(OffsetDateTime::now_utc() + time::Duration::HOUR);
        }
        let written = match self.t.outbox.enqueue(&email.build().unwrap()).await {
            Ok(written) => written,
            Err(OutboxError::KeyReused) if key.is_some() => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        let mut known = self.known.lock().await;
        prop_assert!(!(written.created && known.emails.contains(&written.id)), "one id for two e-mails");
        if written.created {
            known.emails.push(written.id);
            known.accepted += recipients;
        }
        Ok(())
    }

    async fn claim(&self, worker: usize, limit: i64) -> Result<(), TestCaseError> {
        let session = self.known.lock().await.workers.get(&worker).copied();
        let session = match session {
            Some(session) => session,
            None => self.t.session().await,
        };
        let claimed = self.t.outbox.claim(session, limit, LEASE, 0).await.map_err(fail)?;
        let mut known = self.known.lock().await;
        known.workers.insert(worker, session);
        known.claims.extend(claimed.into_iter().map(|delivery| (session, delivery)));
        Ok(())
    }

    async fn settle(&self, claim: usize, how: How) -> Result<Settled, TestCaseError> {
        let Some((session, claim)) = nth(&self.known.lock().await.claims, claim).cloned() else {
            return Ok(None);
        };
        // As the verdict has it: only held mail is parked.
        let how = if matches!(how, How::Hold) && !claim.hold_unknown { How::Unknown } else { how };
        let retry = matches!(how, How::Retry | How::Unknown) && claim.attempt >= claim.max_attempts;
        let settlement = Settlement {
            id: claim.id,
            token: claim.token,
            action: if retry { How::Failed.action() } else { how.action() },
            transport: None,
            stage: None,
            code: None,
            detail: None,
        };
        let lost = self.t.outbox.settle(session, &[settlement]).await.map_err(fail)?;
        Ok(Some((claim, lost.is_empty())))
    }

    /// An e-mail with a delivery in one of these states; without one, any.
    async fn one_that_is(&self, states: &[&str], n: usize) -> Option<EmailId> {
        let known = self.known.lock().await;
        let places = known.places.iter().filter(|(_, place)| states.contains(&place.state.as_str()));
        let mut emails: Vec<EmailId> = places.map(|(id, _)| id.email).collect();
        emails.sort_unstable();
        nth(&emails, n).or_else(|| nth(&known.emails, n)).copied()
    }

    /// Moves rows, not time; locked in the order that the outbox's own statements lock them in.
    async fn run(&self, change: &str, which: &str) -> Result<(), TestCaseError> {
        let sql = format!(
            "UPDATE facteur.deliveries d SET {change} FROM (
               SELECT email_id, position FROM facteur.deliveries WHERE {which}
               ORDER BY email_id, position FOR UPDATE) r
             WHERE d.email_id = r.email_id AND d.position = r.position"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&self.t.pool).await.map_err(fail)?;
        Ok(())
    }

    /// Each row of both tables; one delivery in two of them is an error.
    async fn places(&self) -> Result<Places, TestCaseError> {
        let rows: Vec<(uuid::Uuid, i16, String, i64, bool)> = sqlx::query_as(
            "SELECT l.*, e.wiped_at IS NOT NULL FROM (
               SELECT email_id, position, state::text, lease_token FROM facteur.deliveries
               UNION ALL
               -- Of all that is called cancelled it is certain that it never left.
               SELECT email_id, position,
                      CASE WHEN final = 'cancelled' AND may_have_left THEN 'a lie' ELSE final::text END, lease_token
               FROM facteur.outcomes) l JOIN facteur.emails e ON e.id = l.email_id",
        )
        .fetch_all(&self.t.pool)
        .await
        .map_err(fail)?;
        let mut places = Places::new();
        for (email, position, state, token, wiped) in rows {
            let id = DeliveryId { email: email.into(), position };
            let ended = ["sent", "failed", "cancelled"].contains(&state.as_str());
            prop_assert!(ended || !wiped, "{id} is {state}, and its content is wiped");
            let twice = places.insert(id, Place { state, token });
            prop_assert!(twice.is_none(), "{id} is in two places");
        }
        Ok(places)
    }
}

/// After each step: every accepted delivery in one place, in a state, under a token that never shrinks.
fn check(before: &Places, after: &Places, accepted: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        after.len(),
        accepted,
        "accepted is not queued + sending + unknown + sent + failed + cancelled"
    );
    for (id, place) in after {
        let states = ["queued", "sending", "unknown", "sent", "failed", "cancelled"];
        prop_assert!(states.contains(&place.state.as_str()), "{} is {}", id, place.state);
        let Some(was) = before.get(id) else { continue };
        prop_assert!(place.token >= was.token, "{}: the token fell, {:?} to {:?}", id, was, place);
        prop_assert!(was.state != "sent" || was == place, "{} was sent, and is {:?}", id, place);
        let begun = place.state == "sending" && was.state != "sending";
        prop_assert!(!begun || place.token > was.token, "{}: an old token was given again: {:?}", id, place);
    }
    Ok(())
}

/// The newest lease of what is being sent ends it; any other touches nothing.
fn check_settled(
    known: &Known,
    claim: &ClaimedDelivery,
    held: bool,
    before: &Places,
    after: &Places,
) -> Result<(), TestCaseError> {
    let newest =
        known.claims.iter().rfind(|(_, c)| c.id == claim.id).is_some_and(|(_, c)| c.token == claim.token);
    let right = newest && before[&claim.id].state == "sending";
    // What its own worker wrote before is found to be written, and changes nothing.
    prop_assert!(held || !right, "{}: the settlement of {:?} was lost", claim.id, claim.token);
    if right {
        prop_assert!(after[&claim.id].state != "sending", "{} is still being sent", claim.id);
    } else {
        prop_assert!(before == after, "an old lease wrote");
    }
    Ok(())
}

/// The n-th from the newest back, and round again.
fn nth<T>(all: &[T], n: usize) -> Option<&T> {
    all.iter().rev().cycle().nth(n)
}

fn fail(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

const EMPTY: &str = "WITH a AS (DELETE FROM facteur.deliveries), b AS (DELETE FROM facteur.outcomes),
  c AS (DELETE FROM facteur.newest), d AS (DELETE FROM facteur.to_wipe), e AS (DELETE FROM facteur.idempotency),
  f AS (DELETE FROM facteur.events), g AS (DELETE FROM facteur.attachments),
  h AS (DELETE FROM facteur.worker_sessions) DELETE FROM facteur.emails";

#[test]
fn whatever_happens_each_delivery_is_in_one_place_under_one_lease() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let t = runtime.block_on(TestOutbox::new());
    let seen = Mutex::default();
    let config =
        Config { cases: CASES, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&walk(), |steps| {
        runtime.block_on(async {
            t.execute(EMPTY).await;
            let world = World { t: &t, seen: &seen, known: Mutex::default() };
            for step in &steps {
                world.go(step).await?;
            }
            Ok(())
        })
    });
    if let Err(TestError::Fail(why, steps)) = &result {
        let steps: Vec<String> = steps
            .iter()
            .map(|(one, other)| match other {
                None => format!("{one:?}"),
                Some(other) => format!("{one:?} and at once {other:?}"),
            })
            .collect();
        panic!("{why}, after:\n  {}", steps.join("\n  "));
    }
    result.unwrap();
    let seen = seen.into_inner();
    println!("{seen:?}");
    // Far from everything that is seen, but none of these can be missing by chance.
    for way in [
        "too late",
        "settled",
        "sending -> sent",
        "sending -> failed",
        "sending -> cancelled",
        "sending -> unknown",
        "sending -> queued",
        "queued -> cancelled",
        "cancelled -> queued",
    ] {
        assert!(seen.contains_key(way), "no walk went {way}: {seen:?}");
    }
}

/// Eight at once, each on a walk of its own: no statement waits for another in a circle, and at the end
/// every delivery is in one place.
#[test]
fn walking_at_once_ends_in_no_deadlock_and_loses_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let t = runtime.block_on(TestOutbox::new());
    let config = Config { cases: 6, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let walks = prop::collection::vec(prop::collection::vec(step(), STEPS), 8);
    let result = TestRunner::new(config).run(&walks, |walks| {
        runtime.block_on(async {
            t.execute(EMPTY).await;
            let seen = Mutex::default();
            let world = World { t: &t, seen: &seen, known: Mutex::default() };
            let walkers = walks.iter().map(async |walk| {
                for step in walk {
                    world.take(step).await?;
                    let places = world.places().await?;
                    world.known.lock().await.places = places;
                }
                Ok::<_, TestCaseError>(())
            });
            futures_util::future::try_join_all(walkers).await?;
            let accepted = world.known.lock().await.accepted;
            check(&Places::new(), &world.places().await?, accepted)
        })
    });
    result.map_err(|error| error.to_string()).unwrap();
}
