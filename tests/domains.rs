//! Limits of recipients' domains: exact for the whole fleet, and in nobody else's way.
//!
//! Real workers over a scripted SMTP server, a database for each test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::Outbox;
use facteur::delivery::{Route, Shutdown, Tick, Worker};
use facteur::outbox::{BreakerState, DomainRule};
use facteur::settings::{self, DomainLimits, Pace, Way};
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::Transport;
use facteur::transport::smtp::SmtpTransport;
use sqlx::PgPool;
use support::outbox::{TestOutbox, email_to, pace};

fn limits(text: &str) -> DomainLimits {
    DomainLimits::parse(text).unwrap()
}

fn worker(t: &TestOutbox, server: &SmtpServer, limited: &str) -> Arc<Worker> {
    worker_at(t.outbox.clone(), server, limited)
}

fn worker_at(outbox: Outbox, server: &SmtpServer, limited: &str) -> Arc<Worker> {
    let smtp = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
    let pace = settings::Worker { poll: Duration::from_secs(1), ..pace() };
    Arc::new(Worker::new(outbox, Route::from(smtp), pace, "test").limiting(limits(limited)))
}

/// With a pool and a bell of its own, as another process has it.
async fn elsewhere(t: &TestOutbox) -> Outbox {
    Outbox::new(PgPool::connect(t.url()).await.unwrap())
}

async fn queue(t: &TestOutbox, domain: &str, mails: usize) {
    for i in 0..mails {
        t.enqueue(email_to(&format!("m{i:03}@{domain}"))).await;
    }
}

/// So many copies of the one delivery that is there, each an e-mail of its own, all due since.
async fn multiply(t: &TestOutbox, copies: usize) {
    let copy = |table: &str| {
        format!(
            "DO $$ DECLARE columns text; BEGIN
               SELECT string_agg(quote_ident(attname::text), ', ') INTO columns FROM pg_attribute
               WHERE attrelid = 'facteur.{table}'::regclass AND attnum > 0 AND NOT attisdropped
                 AND attname NOT IN ('id', 'email_id', 'message_id');
               EXECUTE format('INSERT INTO facteur.{table} ({id}, %1$s) SELECT c.id, %1$s FROM facteur.{table}, copies c', columns);
             END $$",
            id = if table == "emails" { "message_id, id" } else { "email_id" },
        )
        .replace("SELECT c.id, %1$s", if table == "emails" { "SELECT c.id::text, c.id, %1$s" } else { "SELECT c.id, %1$s" })
    };
    let ids = format!(
        "CREATE TABLE copies AS SELECT (substr(facteur.uuid_from(now())::text, 1, 24) || lpad(to_hex(n), 12, '0'))::uuid AS id
         FROM generate_series(1, {copies}) n"
    );
    t.execute(&ids).await;
    t.execute(&copy("emails")).await;
    t.execute(&copy("deliveries")).await;
    t.execute("ANALYZE facteur.deliveries").await;
}

/// Keeps what the database grants, with its clock, from here on.
async fn keep_grants(t: &TestOutbox, every: Duration) {
    t.execute("CREATE TABLE granted (at timestamptz, mails bigint)").await;
    let keep = format!(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO granted SELECT NEW.used_at,
             round(extract(epoch FROM NEW.next_at - greatest(OLD.next_at, NEW.used_at))::float8 / {});
           RETURN NULL;
         END $$",
        every.as_secs_f64()
    );
    t.execute(&keep).await;
    t.execute("CREATE TRIGGER keep AFTER UPDATE ON facteur.domains FOR EACH ROW EXECUTE FUNCTION keep()")
        .await;
}

/// The most that was granted within any such time.
async fn most_in(t: &TestOutbox, seconds: f64) -> i64 {
    t.number(&format!(
        "SELECT coalesce(max(n), 0)::bigint FROM (
           SELECT (SELECT sum(mails) FROM granted g WHERE g.at >= w.at AND g.at < w.at + interval '{seconds} s') AS n
           FROM granted w) windows"
    ))
    .await
}

async fn until(what: &str, within: Duration, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs until the queue is empty.
async fn run_until_empty(t: &TestOutbox, workers: &[Arc<Worker>], within: Duration) -> Duration {
    let begun = Instant::now();
    let shutdown = Shutdown::default();
    let running: Vec<_> =
        workers.iter().map(|worker| tokio::spawn(Arc::clone(worker).run(shutdown.clone()))).collect();
    let left = || t.number("SELECT count(*) FROM facteur.deliveries");
    until("the queue is empty", within, async || left().await == 0).await;
    let took = begun.elapsed();
    shutdown.begin.cancel();
    futures_util::future::join_all(running).await;
    took
}

async fn burnt(t: &TestOutbox) -> i64 {
    let ended = t.number("SELECT coalesce(sum(attempts - 1), 0)::bigint FROM facteur.outcomes").await;
    ended + t.number("SELECT coalesce(sum(attempt), 0)::bigint FROM facteur.deliveries").await
}

async fn released(t: &TestOutbox) -> i64 {
    t.number("SELECT count(*) FROM facteur.events WHERE kind = 'released'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_together_never_exceed_a_rate_on_the_databases_clock() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 60).await;
    // Two may go at once, so that the pace is 19.
    keep_grants(&t, Duration::from_secs(1) / 19).await;
    let workers =
        [worker(&t, &server, "slow.test=20/s"), worker_at(elsewhere(&t).await, &server, "slow.test=20/s")];
    let took = run_until_empty(&t, &workers, Duration::from_secs(20)).await;
    assert_eq!(server.accepted().len(), 60);
    assert_eq!(t.number("SELECT sum(mails)::bigint FROM granted").await, 60, "one grant a mail");
    let most = most_in(&t, 1.0).await;
    assert!(most <= 20, "{most} in one second");
    assert!(took >= Duration::from_millis(2_950), "{took:?}");
    assert_eq!(burnt(&t).await, 0);
    assert!(released(&t).await <= 90, "no mail is claimed again and again: {}", released(&t).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_together_never_have_more_mails_under_way_than_a_domain_takes() {
    let t = TestOutbox::new().await;
    let busy = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(60)));
    let server = SmtpServer::start(busy).await.unwrap();
    queue(&t, "slow.test", 40).await;
    let workers =
        [worker(&t, &server, "slow.test=3"), worker_at(elsewhere(&t).await, &server, "slow.test=3")];
    run_until_empty(&t, &workers, Duration::from_secs(30)).await;
    assert_eq!((server.accepted().len(), server.counters().most_in_data), (40, 3));
    assert_eq!(burnt(&t).await, 0);
    assert!(released(&t).await <= 120, "no mail is claimed again and again: {}", released(&t).await);
}

#[tokio::test]
async fn without_the_limit_the_same_server_sees_more_at_once() {
    let t = TestOutbox::new().await;
    let busy = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(60)));
    let server = SmtpServer::start(busy).await.unwrap();
    queue(&t, "slow.test", 16).await;
    worker(&t, &server, "other.test=3").drain().await.unwrap();
    assert!(server.counters().most_in_data > 3, "{:?}", server.counters());
}

#[tokio::test]
async fn ten_thousand_mails_to_a_slow_domain_do_not_keep_the_others() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 1).await;
    multiply(&t, 9_999).await;
    queue(&t, "quick.test", 8).await;
    let worker = worker(&t, &server, "slow.test=1/h,4");
    // Finds out about the slow domain.
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(16));
    // The very next claim has all the others.
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(8));
    assert_eq!(t.states().await, "queued 9999, sent 9");
    for _ in 0..5 {
        assert_eq!(worker.tick().await.unwrap(), Tick::Idle, "it is left alone until it has room");
    }
    assert_eq!((released(&t).await, burnt(&t).await), (15, 0));
    // As old as they were, and the first still first.
    assert_eq!(t.number("SELECT count(*) FROM facteur.deliveries WHERE run_at > now()").await, 0);
}

#[tokio::test]
async fn who_waits_for_its_domain_goes_in_order_the_urgent_first() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 5).await;
    let worker = worker(&t, &server, "slow.test=10/s");
    worker.tick().await.unwrap();
    t.enqueue(email_to("urgent@slow.test").priority(facteur::email::Priority::Urgent)).await;
    until("all are sent", Duration::from_secs(5), async || {
        worker.drain().await.unwrap();
        server.accepted().len() == 6
    })
    .await;
    let sent: Vec<String> = server.accepted().iter().flat_map(|mail| mail.to.clone()).collect();
    let order = ["m000", "urgent", "m001", "m002", "m003", "m004"].map(|name| format!("{name}@slow.test"));
    assert_eq!(sent, order);
}

#[tokio::test]
async fn a_new_process_gets_no_fresh_allowance() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 3).await;
    worker(&t, &server, "slow.test=2/h").drain().await.unwrap();
    worker_at(elsewhere(&t).await, &server, "slow.test=2/h").drain().await.unwrap();
    assert_eq!((server.accepted().len(), burnt(&t).await), (1, 0));
    // Half an hour later.
    t.execute("UPDATE facteur.domains SET next_at = next_at - interval '30 min'").await;
    worker(&t, &server, "slow.test=2/h").drain().await.unwrap();
    worker(&t, &server, "slow.test=2/h").drain().await.unwrap();
    assert_eq!(server.accepted().len(), 2);
}

#[tokio::test]
async fn the_place_of_a_dead_worker_is_kept_until_its_mail_is_taken_back() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 2).await;
    let dead = t.session().await;
    let claimed = t.outbox.claim(dead, 1, Duration::from_secs(60), 0).await.unwrap();
    let rule = DomainRule { domain: "slow.test".into(), every: None, burst: 1, at_once: Some(1) };
    let admitted = t.outbox.admit(&[rule], &[("slow.test", &claimed[0])]).await.unwrap();
    assert_eq!((admitted[0].now, admitted[0].spare), (1, 0));
    let living = worker(&t, &server, "slow.test=1");
    living.drain().await.unwrap();
    assert_eq!(server.accepted().len(), 0, "the one place may still be in use");
    t.execute(
        "DELETE FROM facteur.worker_sessions
         WHERE id <> (SELECT id FROM facteur.worker_sessions ORDER BY started_at DESC LIMIT 1)",
    )
    .await;
    assert_eq!(t.outbox.reap().await.unwrap().requeued, 1);
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    until("its place is free", Duration::from_secs(5), async || {
        living.drain().await.unwrap();
        server.accepted().len() == 2
    })
    .await;
}

#[tokio::test]
async fn many_ask_at_once_and_get_no_more_than_there_is() {
    let t = TestOutbox::new().await;
    queue(&t, "slow.test", 40).await;
    let session = t.session().await;
    let claimed = Arc::new(t.claim(session).await);
    let asking = (0..40).map(|i| {
        let (outbox, claimed) = (t.outbox.clone(), Arc::clone(&claimed));
        tokio::spawn(async move {
            let rule = DomainRule {
                domain: "slow.test".into(),
                every: Some(Duration::from_secs(60)),
                burst: 30,
                at_once: Some(7),
            };
            outbox.admit(&[rule], &[("slow.test", &claimed[i])]).await.unwrap()[0].now
        })
    });
    let granted: u32 = futures_util::future::join_all(asking).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(granted, 7);
    let rule = DomainRule {
        domain: "slow.test".into(),
        every: Some(Duration::from_secs(60)),
        burst: 30,
        at_once: Some(100),
    };
    let seen = t.outbox.domain_room(std::slice::from_ref(&rule)).await.unwrap();
    let asked: Vec<_> = claimed[..33].iter().map(|delivery| ("slow.test", delivery)).collect();
    t.execute("DELETE FROM facteur.domain_slots").await;
    let rest = t.outbox.admit(&[rule], &asked).await.unwrap();
    assert_eq!((seen[0].now, rest[0].now), (23, 23), "what the rate has left of thirty");
}

#[tokio::test]
async fn each_other_domain_has_a_limit_of_its_own_and_names_may_be_in_any_script() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    for domain in ["a.test", "b.test", "münchen.test", "free.test"] {
        queue(&t, domain, 3).await;
    }
    worker(&t, &server, "*=1/h München.test=2/h,1 free.test=off").drain().await.unwrap();
    let sent = "SELECT string_agg(n || ' ' || domain, ', ' ORDER BY domain) FROM (
                  SELECT split_part(recipient, '@', 2) AS domain, count(*) AS n FROM facteur.outcomes GROUP BY 1) s";
    assert_eq!(t.text(sent).await, "1 a.test, 1 b.test, 3 free.test, 1 xn--mnchen-3ya.test");
    assert_eq!(
        t.text("SELECT string_agg(name, ' ' ORDER BY name) FROM facteur.domains").await,
        "a.test b.test xn--mnchen-3ya.test"
    );
}

#[tokio::test]
async fn without_limits_no_statement_is_added() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    t.execute("DROP TABLE facteur.domain_slots CASCADE").await;
    t.execute("DROP TABLE facteur.domains").await;
    t.execute("DROP FUNCTION facteur.admit").await;
    queue(&t, "slow.test", 20).await;
    assert_eq!(worker(&t, &server, "").drain().await.unwrap(), 20);
    queue(&t, "slow.test", 20).await;
    assert_eq!(worker(&t, &server, "other.test=1/h").drain().await.unwrap(), 20, "nor for others");
    assert_eq!(t.states().await, "sent 40");
}

#[tokio::test]
async fn what_expires_while_it_waits_for_its_domain_ends_in_time() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 3).await;
    let worker = worker(&t, &server, "slow.test=1/h");
    worker.drain().await.unwrap();
    t.execute("UPDATE facteur.deliveries SET expires_at = now()").await;
    until("they end", Duration::from_secs(5), async || {
        worker.drain().await.unwrap();
        t.states().await == "failed 2, sent 1"
    })
    .await;
    assert_eq!(server.accepted().len(), 1);
}

#[tokio::test]
async fn a_mail_that_goes_on_to_the_next_way_is_counted_once() {
    let t = TestOutbox::new().await;
    let later = Script::new().at(Stage::Mail, Fault::reply(451, "4.3.0 later"));
    let (a, b) = (SmtpServer::start(later).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    queue(&t, "slow.test", 2).await;
    let way = |name: &str, server: &SmtpServer| {
        let relay = server.relay();
        let transport = Transport::Smtp(SmtpTransport::new(&relay).unwrap());
        (Way { name: name.into(), ..Way::of_relay(relay) }, transport)
    };
    let route = Route::over(vec![way("a", &a), way("b", &b)]);
    let worker = Worker::new(t.outbox.clone(), route, pace(), "test").limiting(limits("slow.test=1/h"));
    worker.drain().await.unwrap();
    assert_eq!((a.accepted().len(), b.accepted().len()), (0, 1));
    assert_eq!(t.states().await, "queued 1, sent 1");
}

#[tokio::test]
async fn what_a_transport_has_no_room_for_holds_no_place_of_its_domain() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 4).await;
    let relay = server.relay();
    let transport = Transport::Smtp(SmtpTransport::new(&relay).unwrap());
    let way =
        Way { quota: Some(Pace { mails: 2, per: Duration::from_secs(86_400) }), ..Way::of_relay(relay) };
    let route = Route::over(vec![(way, transport)]);
    let worker = Worker::new(t.outbox.clone(), route, pace(), "test").limiting(limits("slow.test=3"));
    worker.drain().await.unwrap();
    assert_eq!((t.states().await.as_str(), burnt(&t).await), ("queued 2, sent 2", 0));
    let taken = "SELECT count(*) FROM facteur.domain_slots s WHERE facteur.is_taken(s)";
    assert_eq!(t.number(taken).await, 0);
    let state = &t.outbox.transports(None).await.unwrap()[0];
    assert_eq!((state.state, state.used), (BreakerState::Closed, 2));
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_forgotten() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    for domain in ["a.test", "b.test", "c.test"] {
        queue(&t, domain, 1).await;
    }
    worker(&t, &server, "*=1/d,1").drain().await.unwrap();
    t.execute("UPDATE facteur.domains SET used_at = now() - interval '25 h', next_at = now() - interval '1 h' WHERE name = 'a.test'").await;
    t.execute("UPDATE facteur.domains SET used_at = now() - interval '25 h' WHERE name = 'b.test'").await;
    assert_eq!(t.number("SELECT count(*) FROM facteur.domain_slots").await, 3);
    t.outbox.forget_domains().await.unwrap();
    assert_eq!(
        t.text("SELECT string_agg(name, ' ' ORDER BY name) FROM facteur.domains").await,
        "b.test c.test",
        "a rate that is not used up is not forgotten"
    );
    assert_eq!(t.number("SELECT count(*) FROM facteur.domain_slots").await, 0);
}

#[tokio::test]
async fn domains_that_mail_waits_for_are_counted() {
    let (recorder, metrics) = facteur::telemetry::recorder();
    let _counting = metrics::set_default_local_recorder(Box::leak(Box::new(recorder)));
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    queue(&t, "slow.test", 2).await;
    let worker = worker(&t, &server, "slow.test=10/s");
    worker.drain().await.unwrap();
    let shown = metrics.text(|| {});
    assert!(shown.contains("facteur_crowded_domains 1"), "{shown}");
    t.execute("UPDATE facteur.deliveries SET run_at = now() + interval '1 h'").await;
    until("it is over", Duration::from_secs(5), async || {
        worker.drain().await.unwrap();
        metrics.text(|| {}).contains("facteur_crowded_domains 0")
    })
    .await;
}
