//! The way around a broken way out: A is preferred and goes wrong, B gets exactly what it should.
//!
//! A real worker, two scripted SMTP servers, a database for each test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::delivery::{Route, Shutdown, Tick, Worker};
use facteur::settings::{Credentials, Pace, Relay, Way};
use facteur::testing::{Fault, Script, SmtpServer, Stage, TcpProxy};
use facteur::transport::Transport;
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use rustls::RootCertStore;
use support::outbox::{TestOutbox, email_to, pace};

const DAY: Duration = Duration::from_secs(86_400);

/// A way to this relay whose every stage has 300 ms.
fn way(name: &str, relay: Relay) -> (Way, Transport) {
    let each = Duration::from_millis(300);
    let deadlines = Deadlines {
        connect: each,
        banner: each,
        ehlo: each,
        auth: each,
        command: each,
        body: each,
        end_of_data: each,
        noop: each,
        quit: each,
        ..Deadlines::default()
    };
    let smtp = SmtpTransport::with_roots(&relay, RootCertStore::empty(), deadlines).unwrap();
    (Way { name: name.into(), ..Way::of_relay(relay) }, Transport::Smtp(smtp))
}

fn worker(t: &TestOutbox, ways: Vec<(Way, Transport)>) -> Arc<Worker> {
    Arc::new(Worker::new(t.outbox.clone(), Route::over(ways), pace(), "test"))
}

/// Over A and B, A first.
fn over(t: &TestOutbox, a: &SmtpServer, b: &SmtpServer) -> Arc<Worker> {
    worker(t, vec![way("a", a.relay()), way("b", b.relay())])
}

async fn queue(t: &TestOutbox, mails: usize) {
    for i in 0..mails {
        t.enqueue(email_to(&format!("m{i:03}@x.test"))).await;
    }
}

/// Who got what, each once.
fn recipients(server: &SmtpServer) -> BTreeSet<String> {
    let accepted = server.accepted();
    let all: BTreeSet<String> = accepted.iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!(all.len(), accepted.len(), "no mail twice");
    all
}

/// Drains within the two seconds that a failover may take.
async fn drain_in_time(worker: &Worker) -> usize {
    let begun = Instant::now();
    let sent = worker.drain().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    sent
}

async fn breaker(t: &TestOutbox, name: &str) -> String {
    t.text(&format!(
        "SELECT coalesce((SELECT state || coalesce(' because ' || reason, '') FROM facteur.transports WHERE name = '{name}'), 'closed')"
    ))
    .await
}

async fn hops(t: &TestOutbox) -> i64 {
    t.number("SELECT count(*) FROM facteur.events WHERE kind = 'failover'").await
}

#[tokio::test]
async fn when_a_refuses_logins_b_sends_everything_at_once() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new().login("user", "right")).await.unwrap();
    let b = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, 40).await;
    let wrong = Credentials { username: "user".to_owned().into(), password: "wrong".to_owned().into() };
    let wrong = Relay { credentials: Some(wrong), ..a.relay() };
    let worker = worker(&t, vec![way("a", wrong), way("b", b.relay())]);
    assert_eq!(drain_in_time(&worker).await, 40);
    assert_eq!((a.accepted().len(), recipients(&b).len()), (0, 40));
    assert!(breaker(&t, "a").await.starts_with("open because auth: 535"), "{}", breaker(&t, "a").await);
    assert_eq!(t.states().await, "sent 40");
    let burnt = hops(&t).await;
    assert!((1..=16).contains(&burnt), "those of the first batch: {burnt}");
    assert_eq!(
        t.text("SELECT string_agg(DISTINCT transport || attempts, ',') FROM facteur.outcomes").await,
        "b1"
    );
    let hop =
        "SELECT DISTINCT concat_ws(' ', transport, stage, code) FROM facteur.events WHERE kind = 'failover'";
    assert_eq!(t.text(hop).await, "a auth 535");
}

#[tokio::test]
async fn when_a_stalls_b_sends_everything_within_its_deadline() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new().at(Stage::Rcpt, Fault::stall())).await.unwrap();
    let b = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, 30).await;
    assert_eq!(drain_in_time(&over(&t, &a, &b)).await, 30);
    assert_eq!((a.accepted().len(), recipients(&b).len()), (0, 30));
    assert_eq!(breaker(&t, "a").await, "open because rcpt: no answer in time");
}

#[tokio::test]
async fn when_a_says_later_b_sends_everything_and_a_is_left_alone() {
    for (stage, most) in [(Stage::Mail, 16), (Stage::EndOfData, 32)] {
        let t = TestOutbox::new().await;
        let later = Script::new().at(stage, Fault::reply(451, "4.3.0 later"));
        let (a, b) =
            (SmtpServer::start(later).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
        queue(&t, 36).await;
        assert_eq!(drain_in_time(&over(&t, &a, &b)).await, 36);
        assert_eq!((a.accepted().len(), recipients(&b).len()), (0, 36));
        assert!(breaker(&t, "a").await.contains("451 4.3.0 later"), "{}", breaker(&t, "a").await);
        // A batch of 16 that was under way when it opened; in proportion it takes twenty.
        assert!(hops(&t).await <= most, "{stage:?}: {}", hops(&t).await);
    }
}

#[tokio::test]
async fn what_is_over_the_quota_of_a_goes_by_b_and_a_is_not_to_blame() {
    let t = TestOutbox::new().await;
    let (a, b) =
        (SmtpServer::start(Script::new()).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 10).await;
    let (limited, transport) = way("a", a.relay());
    let limited = Way { quota: Some(Pace { mails: 3, per: DAY }), ..limited };
    let worker = worker(&t, vec![(limited, transport), way("b", b.relay())]);
    assert_eq!(drain_in_time(&worker).await, 10);
    assert_eq!((recipients(&a).len(), recipients(&b).len()), (3, 7));
    assert_eq!((breaker(&t, "a").await.as_str(), hops(&t).await), ("closed", 0));
    assert_eq!(t.number("SELECT used FROM facteur.transports WHERE name = 'a'").await, 3);
}

#[tokio::test]
async fn an_address_that_does_not_exist_is_not_tried_through_b() {
    let t = TestOutbox::new().await;
    let nobody = Fault::reply(550, "5.1.1 no such user");
    let a = Script::new().at(Stage::Rcpt, nobody).for_recipient("m003@x.test");
    let (a, b) = (SmtpServer::start(a).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 10).await;
    assert_eq!(drain_in_time(&over(&t, &a, &b)).await, 10);
    assert_eq!((recipients(&a).len(), b.counters().mails), (9, 0));
    assert_eq!((t.states().await.as_str(), breaker(&t, "a").await.as_str()), ("failed 1, sent 9", "closed"));
}

#[tokio::test]
async fn a_thousand_typos_leave_the_breaker_closed_and_the_connections_open() {
    let t = TestOutbox::new().await;
    let a = Script::new().at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user"));
    let (a, b) = (SmtpServer::start(a).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 200).await;
    assert_eq!(over(&t, &a, &b).drain().await.unwrap(), 200);
    assert_eq!((breaker(&t, "a").await.as_str(), b.counters().opened), ("closed", 0));
    assert!(a.counters().opened <= 8, "{:?}", a.counters());
}

#[tokio::test]
async fn what_a_may_have_taken_is_not_sent_through_b() {
    let t = TestOutbox::new().await;
    let a = Script::new().at(Stage::EndOfData, Fault::reset().accepting());
    let (a, b) = (SmtpServer::start(a).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 3).await;
    assert_eq!(drain_in_time(&over(&t, &a, &b)).await, 3);
    assert_eq!((a.accepted().len(), b.counters().mails), (3, 0));
    let wait =
        t.number("SELECT min(extract(epoch FROM run_at - now()))::bigint FROM facteur.deliveries").await;
    assert!(wait >= 290, "not before five minutes: {wait} s");
}

#[tokio::test]
async fn a_mail_tries_each_way_once_and_the_last_one_decides() {
    let t = TestOutbox::new().await;
    let later = |text| Script::new().at(Stage::EndOfData, Fault::reply(451, text));
    let (a, b) = (
        SmtpServer::start(later("4.3.0 a")).await.unwrap(),
        SmtpServer::start(later("4.3.0 b")).await.unwrap(),
    );
    queue(&t, 1).await;
    let worker = over(&t, &a, &b);
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(1));
    assert_eq!((a.counters().mails, b.counters().mails), (1, 1));
    let last = "SELECT concat_ws(' ', transport, attempt, detail) FROM facteur.events WHERE kind = 'retry'";
    assert_eq!(t.text(last).await, "b 1 4.3.0 b");
    let wait = t.number("SELECT extract(epoch FROM run_at - now())::bigint FROM facteur.deliveries").await;
    assert!((7..=12).contains(&wait), "by the retry policy: {wait}");
}

#[tokio::test]
async fn a_sender_goes_only_by_the_ways_that_may_carry_it() {
    let t = TestOutbox::new().await;
    let (a, b) =
        (SmtpServer::start(Script::new()).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    let from = |sender: &str, to: &str| facteur::Email::builder(sender, to, "Hello", "Good day.");
    t.enqueue(from("me@one.test", "one@x.test")).await;
    t.enqueue(from("me@two.test", "two@x.test")).await;
    t.enqueue(from("me@three.test", "three@x.test")).await;
    let only = |(way, transport), domain: &str| (Way { domains: vec![domain.into()], ..way }, transport);
    let ways = vec![only(way("a", a.relay()), "one.test"), only(way("b", b.relay()), "two.test")];
    worker(&t, ways).drain().await.unwrap();
    assert_eq!(recipients(&a), BTreeSet::from(["one@x.test".to_owned()]));
    assert_eq!(recipients(&b), BTreeSet::from(["two@x.test".to_owned()]));
    let left = "SELECT recipient || ' ' || attempt FROM facteur.deliveries";
    assert_eq!(t.text(left).await, "three@x.test 0", "it waits for better settings");
}

#[tokio::test]
async fn of_two_workers_with_a_hundred_mails_one_sends_the_one_probe() {
    let t = TestOutbox::new().await;
    let slow = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(250)));
    let (a, b) = (SmtpServer::start(slow).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 100).await;
    t.execute(
        "INSERT INTO facteur.transports (name, state, held_until, rounds) VALUES ('a', 'open', now(), 1)",
    )
    .await;
    let (one, two) = (over(&t, &a, &b), over(&t, &a, &b));
    let (x, y) = tokio::join!(one.tick(), two.tick());
    assert_eq!((x.unwrap(), y.unwrap()), (Tick::Worked(16), Tick::Worked(16)));
    assert_eq!((a.accepted().len(), recipients(&b).len()), (1, 31));
    assert_eq!(breaker(&t, "a").await, "closed");
    // Who did not send the probe sees it within a second.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let (x, y) = tokio::join!(one.drain(), two.drain());
    assert_eq!((x.unwrap() + y.unwrap(), a.accepted().len()), (68, 69), "the rest goes by A again");
}

#[tokio::test]
async fn a_probe_that_fails_costs_its_mail_nothing_and_opens_for_longer() {
    let t = TestOutbox::new().await;
    let a = Script::new().at(Stage::Banner, Fault::hang_up());
    let (a, b) = (SmtpServer::start(a).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 20).await;
    t.execute(
        "INSERT INTO facteur.transports (name, state, held_until, rounds) VALUES ('a', 'open', now(), 3)",
    )
    .await;
    assert_eq!(drain_in_time(&over(&t, &a, &b)).await, 20);
    assert_eq!((a.counters().opened, recipients(&b).len(), hops(&t).await), (1, 20, 1));
    let held =
        "SELECT extract(epoch FROM held_until - since)::bigint FROM facteur.transports WHERE name = 'a'";
    let held = t.number(held).await;
    assert!((64..=96).contains(&held), "80 s, a fifth more or less: {held}");
    assert_eq!(t.number("SELECT rounds::bigint FROM facteur.transports WHERE name = 'a'").await, 4);
}

#[tokio::test]
async fn while_every_way_is_closed_mail_waits_unburnt_and_expires_in_time() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, 3).await;
    t.outbox.trip("a", None, "ada").await.unwrap();
    t.execute(
        "UPDATE facteur.deliveries SET expires_at = now() - interval '1 s' WHERE recipient LIKE 'm001@%'",
    )
    .await;
    let worker = worker(&t, vec![way("a", a.relay())]);
    assert_eq!(worker.drain().await.unwrap(), 0);
    assert_eq!((t.states().await.as_str(), a.counters().opened), ("failed 1, queued 2", 0));
    assert_eq!(t.text("SELECT reason FROM facteur.outcomes").await, "expired");
    assert_eq!(t.number("SELECT max(attempt)::bigint FROM facteur.deliveries").await, 0);
    t.outbox.reset("a", "ada").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(worker.drain().await.unwrap(), 2, "a second later at the latest it is seen");
    assert_eq!(t.states().await, "failed 1, sent 2");
}

#[tokio::test]
async fn both_down_then_up_is_no_stampede() {
    let t = TestOutbox::new().await;
    let (a, b) =
        (SmtpServer::start(Script::new()).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    let (to_a, to_b) = (TcpProxy::start(a.addr()).await.unwrap(), TcpProxy::start(b.addr()).await.unwrap());
    to_a.cut();
    to_b.cut();
    queue(&t, 100).await;
    let through =
        |server: &SmtpServer, proxy: &TcpProxy| Relay { port: proxy.addr().port(), ..server.relay() };
    let ways = || vec![way("a", through(&a, &to_a)), way("b", through(&b, &to_b))];
    let (one, two) = (worker(&t, ways()), worker(&t, ways()));
    let (x, y) = tokio::join!(one.drain(), two.drain());
    assert!(x.unwrap() + y.unwrap() <= 64, "the rest was not even claimed");
    assert!(breaker(&t, "a").await.starts_with("open") && breaker(&t, "b").await.starts_with("open"));
    let burnt = t.number("SELECT max(attempt)::bigint FROM facteur.deliveries").await;
    assert!(burnt <= 1, "{burnt}");
    let while_down = to_a.opened() + to_b.opened();
    to_a.resume();
    to_b.resume();
    t.execute("UPDATE facteur.transports SET held_until = now()").await;
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let mut left = 100;
    while left > 0 {
        let (x, y) = tokio::join!(one.drain(), two.drain());
        let sent = x.unwrap() + y.unwrap();
        left = t.number("SELECT count(*) FROM facteur.deliveries").await;
        assert!(sent > 0 || left == 0, "{left} left");
        t.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    }
    assert_eq!(a.accepted().len() + b.accepted().len(), 100);
    // Two processes with a pool of four to each.
    let at_recovery = to_a.opened() + to_b.opened() - while_down;
    assert!(at_recovery <= 2 * 2 * 4, "{at_recovery} connections");
    assert!(a.counters().most_open <= 8 && b.counters().most_open <= 8);
}

#[tokio::test]
async fn a_server_that_asks_everybody_to_wait_is_left_alone_so_long() {
    let t = TestOutbox::new().await;
    let a = Script::new().at(Stage::Mail, Fault::reply(421, "4.7.0 try again in 120 seconds"));
    let (a, b) = (SmtpServer::start(a).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 1).await;
    assert_eq!(drain_in_time(&over(&t, &a, &b)).await, 1);
    assert_eq!(recipients(&b).len(), 1);
    let held =
        "SELECT extract(epoch FROM held_until - since)::bigint FROM facteur.transports WHERE name = 'a'";
    assert_eq!(t.number(held).await, 120);
}

#[tokio::test]
async fn a_server_that_asks_for_less_gets_half() {
    let t = TestOutbox::new().await;
    let a = Script::new().at(Stage::Rcpt, Fault::reply(450, "4.2.1 receiving mail too quickly")).on_mail(1);
    let a = a.at(Stage::EndOfData, Fault::delay(Duration::from_millis(30)));
    let a = SmtpServer::start(a).await.unwrap();
    queue(&t, 1).await;
    let worker = worker(&t, vec![way("a", a.relay())]);
    worker.tick().await.unwrap();
    let left =
        "SELECT extract(epoch FROM slow_until - now())::bigint FROM facteur.transports WHERE name = 'a'";
    assert!((55..=60).contains(&t.number(left).await));
    queue(&t, 20).await;
    assert_eq!(worker.drain().await.unwrap(), 20);
    assert_eq!(a.counters().most_open, 2, "of four connections");
    assert_eq!(breaker(&t, "a").await, "closed");
}

#[tokio::test]
async fn two_workers_share_a_quota_and_a_third_does_not_start_anew() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, 40).await;
    let limited = || {
        let (one, transport) = way("a", a.relay());
        worker(&t, vec![(Way { quota: Some(Pace { mails: 10, per: DAY }), ..one }, transport)])
    };
    let (one, two) = (limited(), limited());
    let (x, y) = tokio::join!(one.drain(), two.drain());
    x.and(y).unwrap();
    assert_eq!(a.accepted().len(), 10);
    limited().drain().await.unwrap();
    assert_eq!(a.accepted().len(), 10, "after a restart, too");
    assert_eq!(t.number("SELECT max(attempt)::bigint FROM facteur.deliveries").await, 0);
    // Another day.
    t.execute("UPDATE facteur.transports SET window_start = window_start - interval '1 day'").await;
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    limited().drain().await.unwrap();
    assert_eq!(a.accepted().len(), 20);
    assert_eq!(t.states().await, "queued 20, sent 20");
}

#[tokio::test]
async fn two_workers_keep_a_rate_together() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, 80).await;
    let limited = || {
        let (one, transport) = way("a", a.relay());
        let rate = Some(Pace { mails: 10, per: Duration::from_secs(1) });
        worker(&t, vec![(Way { rate, ..one }, transport)])
    };
    let shutdown = Shutdown::default();
    let begun = Instant::now();
    let running = [limited(), limited()].map(|worker| tokio::spawn(worker.run(shutdown.clone())));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (sent, took) = (a.accepted().len(), begun.elapsed().as_secs_f64());
    shutdown.begin.cancel();
    for one in running {
        one.await.unwrap();
    }
    let most = 10.0 + took * 10.0;
    assert!(sent as f64 <= most && sent >= 22, "{sent} in {took} s");
}

#[tokio::test]
async fn what_a_rate_keeps_back_comes_back_each_at_a_time_of_its_own() {
    let t = TestOutbox::new().await;
    let (a, b) =
        (SmtpServer::start(Script::new()).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    for i in 0..32 {
        t.enqueue(facteur::Email::builder("me@one.test", format!("m{i}@x.test"), "Hello", "Good day.")).await;
    }
    let (limited, transport) = way("a", a.relay());
    let rate = Some(Pace { mails: 60, per: Duration::from_secs(60) });
    let (other, to_b) = way("b", b.relay());
    // B has room, and may not carry them: they are claimed all the same.
    let other = Way { domains: vec!["two.test".into()], ..other };
    let worker = worker(&t, vec![(Way { rate, ..limited }, transport), (other, to_b)]);
    worker.tick().await.unwrap();
    worker.tick().await.unwrap();
    assert_eq!(a.accepted().len(), 1);
    let spread = t
        .number("SELECT extract(epoch FROM max(run_at) - min(run_at))::bigint FROM facteur.deliveries")
        .await;
    assert!((28..=31).contains(&spread), "31 mails, one a second: {spread} s");
    assert_eq!(t.number("SELECT max(attempt)::bigint FROM facteur.deliveries").await, 0);
}

#[tokio::test]
async fn a_mail_that_was_never_begun_gives_its_quota_back() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, 2).await;
    t.execute("UPDATE facteur.deliveries SET expires_at = now() - interval '1 s'").await;
    let (one, transport) = way("a", a.relay());
    let worker = worker(&t, vec![(Way { quota: Some(Pace { mails: 10, per: DAY }), ..one }, transport)]);
    assert_eq!(worker.drain().await.unwrap(), 2);
    assert_eq!(t.number("SELECT used FROM facteur.transports WHERE name = 'a'").await, 0);
}

#[tokio::test]
async fn a_closed_way_without_limits_costs_no_statement_for_each_mail() {
    let t = TestOutbox::new().await;
    let a = SmtpServer::start(Script::new()).await.unwrap();
    let worker = worker(&t, vec![way("a", a.relay())]);
    queue(&t, 32).await;
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(16));
    // Within the second for which its state is known, nothing reads or writes the table.
    t.execute("ALTER TABLE facteur.transports RENAME TO gone").await;
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(16));
    assert_eq!(t.states().await, "sent 32");
}

#[tokio::test]
async fn mail_that_leaves_through_a_fallback_is_counted_and_seen() {
    let (recorder, metrics) = facteur::telemetry::recorder();
    let _counting = metrics::set_default_local_recorder(Box::leak(Box::new(recorder)));
    let t = TestOutbox::new().await;
    let a = Script::new().at(Stage::Banner, Fault::hang_up()).times(5);
    let (a, b) = (SmtpServer::start(a).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, 5).await;
    let worker = over(&t, &a, &b);
    assert_eq!(worker.drain().await.unwrap(), 5);
    let shown = metrics.text(|| {});
    assert!(shown.contains("facteur_fallback_total{transport=\"b\"} 5"), "{shown}");
    assert!(shown.contains("facteur_transport_open{transport=\"a\"} 1"), "{shown}");
    t.execute("UPDATE facteur.transports SET held_until = now() WHERE name = 'a'").await;
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    queue(&t, 1).await;
    worker.drain().await.unwrap();
    queue(&t, 1).await;
    worker.drain().await.unwrap();
    let shown = metrics.text(|| {});
    assert!(shown.contains("facteur_fallback_total{transport=\"b\"} 5"), "{shown}");
    assert!(shown.contains("facteur_transport_open{transport=\"a\"} 0"), "{shown}");
    assert_eq!((a.accepted().len(), b.accepted().len()), (2, 5));
}
