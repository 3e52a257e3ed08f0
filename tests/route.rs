//! What the fleet shares of its ways out: each statement against a real Postgres, many asking at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use facteur::OutboxError;
use facteur::outbox::{BreakerState, Limits, Probe, ProbeEnd};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use support::outbox::TestOutbox;

const S: fn(u64) -> Duration = Duration::from_secs;

fn quota(mails: u32, window: Duration) -> Limits {
    Limits { quota: Some(mails), window, ..Limits::default() }
}

#[tokio::test]
async fn a_quota_is_exact_however_many_ask_at_once() {
    let t = TestOutbox::new().await;
    let limits = quota(100, S(86_400));
    let asking = (0..40).map(|n| {
        let (outbox, limits) = (t.outbox.clone(), limits);
        tokio::spawn(async move { outbox.reserve("a", &limits, n % 5 + 1, false).await.unwrap().now })
    });
    let granted: u32 = futures_util::future::join_all(asking).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(granted, 100);
    let denied = t.outbox.reserve("a", &limits, 1, false).await.unwrap();
    let to_midnight =
        "SELECT extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '1 day' - now())::bigint";
    let (wait, to_midnight) = (denied.wait.unwrap().as_secs(), t.number(to_midnight).await.unsigned_abs());
    assert!(
        denied.now == 0 && wait.abs_diff(to_midnight) <= 1,
        "until midnight (UTC): {wait} s of {to_midnight}"
    );
    t.outbox.give_back("a", &limits, 3).await.unwrap();
    assert_eq!(t.outbox.reserve("a", &limits, 5, false).await.unwrap().now, 3, "what was given back");
}

#[tokio::test]
async fn a_rate_lets_its_burst_go_at_once_and_then_keeps_its_pace() {
    let t = TestOutbox::new().await;
    // As 10/s, a hundred times slower: what passes between two statements is then nothing.
    let limits = Limits { every: Some(S(10)), burst: 10, ..Limits::default() };
    assert_eq!(t.outbox.reserve("a", &limits, 50, false).await.unwrap().now, 10);
    let denied = t.outbox.reserve("a", &limits, 50, false).await.unwrap();
    assert!(denied.now == 0 && denied.wait.unwrap() <= S(10), "{denied:?}");
    // Half of its time later.
    t.execute("UPDATE facteur.transports SET next_at = next_at - interval '50 s'").await;
    assert_eq!(t.outbox.reserve("a", &limits, 50, false).await.unwrap().now, 5);
    // An hour later it is no more than its burst.
    t.execute("UPDATE facteur.transports SET next_at = next_at - interval '1 h'").await;
    assert_eq!(t.outbox.reserve("a", &limits, 50, false).await.unwrap().now, 10);
    // Slowed down, half of it.
    t.outbox.slow_down("a", S(60)).await.unwrap();
    t.execute("UPDATE facteur.transports SET next_at = now()").await;
    assert_eq!(t.outbox.reserve("a", &limits, 50, false).await.unwrap().now, 10);
    t.execute("UPDATE facteur.transports SET next_at = next_at - interval '100 s'").await;
    assert_eq!(t.outbox.reserve("a", &limits, 50, false).await.unwrap().now, 5);
}

#[tokio::test]
async fn a_slow_rate_lets_one_go_and_then_waits_its_time() {
    let t = TestOutbox::new().await;
    let limits = Limits { every: Some(S(36)), burst: 1, ..Limits::default() };
    assert_eq!(t.outbox.reserve("a", &limits, 5, false).await.unwrap().now, 1);
    let denied = t.outbox.reserve("a", &limits, 5, false).await.unwrap();
    assert!(denied.now == 0 && (35..=36).contains(&denied.wait.unwrap().as_secs()), "{denied:?}");
}

#[tokio::test]
async fn many_ask_for_the_probe_and_one_gets_it() {
    let t = TestOutbox::new().await;
    assert!(t.outbox.open_breaker("a", 0, S(60), "535 no").await.unwrap());
    let held = t.outbox.reserve("a", &Limits::default(), 5, false).await.unwrap();
    assert!(held.now == 0 && held.state == BreakerState::Open && held.wait.unwrap() > S(58), "{held:?}");
    t.execute("UPDATE facteur.transports SET held_until = now()").await;
    let asking = (0..40).map(|_| {
        let outbox = t.outbox.clone();
        tokio::spawn(async move { outbox.reserve("a", &Limits::default(), 5, false).await.unwrap() })
    });
    let granted: Vec<_> =
        futures_util::future::join_all(asking).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(granted.iter().map(|g| g.now).sum::<u32>(), 1);
    assert_eq!(granted.iter().filter(|g| g.probe.is_some()).count(), 1);
    assert!(granted.iter().all(|g| g.state == BreakerState::HalfOpen));
}

#[tokio::test]
async fn a_probe_that_is_lost_is_replaced_and_its_late_word_counts_for_nothing() {
    let t = TestOutbox::new().await;
    t.outbox.open_breaker("a", 0, Duration::ZERO, "down").await.unwrap();
    let probe = |t: &TestOutbox| {
        let outbox = t.outbox.clone();
        async move { outbox.reserve("a", &Limits::default(), 1, false).await.unwrap().probe }
    };
    let lost = probe(&t).await.unwrap();
    assert_eq!(probe(&t).await, None);
    t.execute("UPDATE facteur.transports SET probe_until = now()").await;
    let next = probe(&t).await.unwrap();
    assert!(!t.outbox.end_probe("a", lost, ProbeEnd::Good).await.unwrap());
    assert_eq!(t.text("SELECT state::text FROM facteur.transports").await, "half_open");
    assert!(t.outbox.end_probe("a", next, ProbeEnd::Good).await.unwrap());
    assert_eq!(t.text("SELECT state || rounds::text FROM facteur.transports").await, "closed0");
}

#[tokio::test]
async fn evidence_from_before_the_last_change_opens_nothing() {
    let t = TestOutbox::new().await;
    assert!(t.outbox.open_breaker("a", 0, Duration::ZERO, "down").await.unwrap());
    assert!(!t.outbox.open_breaker("a", 0, S(60), "another process, at once").await.unwrap());
    let probe = t.outbox.reserve("a", &Limits::default(), 1, false).await.unwrap().probe.unwrap();
    t.outbox.end_probe("a", probe, ProbeEnd::Good).await.unwrap();
    assert!(!t.outbox.open_breaker("a", 0, S(60), "what was seen before").await.unwrap());
    let version = t.number("SELECT version FROM facteur.transports").await;
    assert!(t.outbox.open_breaker("a", version, S(60), "what is seen now").await.unwrap());
}

#[tokio::test]
async fn a_process_that_starts_may_probe_before_its_time_but_not_against_a_person() {
    let t = TestOutbox::new().await;
    t.outbox.open_breaker("a", 0, S(300), "535 no").await.unwrap();
    let granted = t.outbox.reserve("a", &Limits::default(), 9, true).await.unwrap();
    assert_eq!((granted.now, granted.probe.is_some()), (1, true));
    assert_eq!(t.outbox.reserve("a", &Limits::default(), 9, true).await.unwrap().now, 0, "one at a time");
    t.outbox.trip("a", None, "ada").await.unwrap();
    let tripped = t.outbox.reserve("a", &Limits::default(), 9, true).await.unwrap();
    assert_eq!((tripped.now, tripped.wait), (0, None));
    assert!(
        !t.outbox.end_probe("a", granted.probe.unwrap(), ProbeEnd::Good).await.unwrap(),
        "the person's word stands"
    );
    t.outbox.trip("a", Some(S(3_600)), "ada").await.unwrap();
    let held = t.outbox.reserve("a", &Limits::default(), 9, true).await.unwrap();
    assert!(held.now == 0 && held.wait.unwrap() > S(3_590));
}

#[tokio::test]
async fn by_hand_it_is_opened_and_closed_with_who_it_was() {
    let t = TestOutbox::new().await;
    t.outbox.trip("a", Some(S(60)), "ada@host").await.unwrap();
    let shown = &t.outbox.transports(None).await.unwrap()[0];
    assert_eq!((shown.state, shown.tripped_by.as_deref()), (BreakerState::Open, Some("ada@host")));
    assert!(t.outbox.reset("a", "bob@host").await.unwrap());
    let shown = &t.outbox.transports(None).await.unwrap()[0];
    assert_eq!((shown.state, shown.tripped_by.as_deref()), (BreakerState::Closed, None));
    assert_eq!((shown.reset_by.as_deref(), shown.reason.as_deref()), (Some("bob@host"), None));
    assert!(!t.outbox.reset("b", "bob@host").await.unwrap());
    assert!(matches!(t.outbox.trip("a", None, "").await, Err(OutboxError::Actor)));
}

/// One step of somebody in the fleet.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many processes ask at once.
    Ask(usize),
    /// The oldest probe that somebody still holds ends.
    End(bool),
    Unused,
    /// Evidence, from the state as it is or as it was.
    Open(bool),
    Trip,
    Reset,
    /// So many seconds pass.
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1usize..5).prop_map(Step::Ask),
        3 => any::<bool>().prop_map(Step::End),
        1 => Just(Step::Unused),
        3 => any::<bool>().prop_map(Step::Open),
        1 => Just(Step::Trip),
        1 => Just(Step::Reset),
        4 => (1u32..200).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Walks; at no time are there two probes of which each would count.
async fn walk(t: &TestOutbox, steps: Vec<Step>) -> Result<(), TestCaseError> {
    t.execute("DELETE FROM facteur.transports").await;
    let mut held: Vec<Probe> = Vec::new();
    for step in steps {
        match step {
            Step::Ask(processes) => {
                let unlimited = Limits::default();
                let asking = (0..processes).map(|_| t.outbox.reserve("a", &unlimited, 3, false));
                let granted = futures_util::future::join_all(asking).await;
                let probes: Vec<Probe> = granted.into_iter().filter_map(|g| g.unwrap().probe).collect();
                prop_assert!(probes.len() <= 1, "two probes at once");
                held.extend(probes);
            }
            Step::End(good) if !held.is_empty() => {
                let newest = held.len() == 1;
                let end = if good { ProbeEnd::Good } else { ProbeEnd::Bad(S(10), "down") };
                let counted = t.outbox.end_probe("a", held.remove(0), end).await.unwrap();
                prop_assert!(!counted || newest, "an older probe counted");
            }
            Step::Unused => {
                if let Some(probe) = held.pop() {
                    t.outbox.end_probe("a", probe, ProbeEnd::Unused).await.unwrap();
                }
            }
            Step::Open(now) => {
                let version = t.number("SELECT coalesce(max(version), 0) FROM facteur.transports").await;
                let before =
                    t.text("SELECT coalesce(max(state)::text, 'closed') FROM facteur.transports").await;
                let seen = if now { version } else { version - 1 };
                let opened = t.outbox.open_breaker("a", seen, S(10), "down").await.unwrap();
                prop_assert!(!opened || before == "closed" && (now || version == 0));
            }
            Step::Trip => t.outbox.trip("a", Some(S(10)), "ada").await.unwrap(),
            Step::Reset => drop(t.outbox.reset("a", "ada").await.unwrap()),
            Step::Pass(seconds) => {
                let sql = format!(
                    "UPDATE facteur.transports SET held_until = held_until - interval '{seconds} s', probe_until = probe_until - interval '{seconds} s'"
                );
                t.execute(&sql).await;
            }
            Step::End(_) => {}
        }
        let live = t.number("SELECT count(*) FROM facteur.transports WHERE probe_until > now()").await;
        prop_assert!(live <= 1);
    }
    Ok(())
}

#[test]
fn whatever_happens_there_is_one_probe_at_most() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let t = runtime.block_on(TestOutbox::new());
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let result = runner.run(&steps(), |steps| runtime.block_on(walk(&t, steps)));
    let _in = runtime.enter();
    drop(t);
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("{why}\n{steps:#?}"),
        Err(other) => panic!("{other}"),
    }
}
