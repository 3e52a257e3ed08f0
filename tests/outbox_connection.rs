//! How the outbox treats its connections, when statements end and when they do not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use facteur::Outbox;
use facteur::outbox::OutboxError;
use facteur::testing::TcpProxy;
use futures_util::FutureExt;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use support::outbox::{LEASE, TestOutbox, email_to};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A pool of one connection: whoever spoils it spoils the next.
async fn one_connection(t: &TestOutbox) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(5));
    pool.connect(t.url()).await.unwrap()
}

async fn backend(pool: &PgPool) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_statement_that_is_not_answered_is_given_up_with_its_connection() {
    let t = TestOutbox::new().await;
    let session = t.session().await;
    let pool = one_connection(&t).await;
    let outbox = Outbox::new(pool.clone()).with_deadline(Duration::from_millis(200));
    let before = backend(&pool).await;
    let mut blocker = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.deliveries").execute(&mut *blocker).await.unwrap();

    let begun = Instant::now();
    let error = outbox.claim(session, 1, LEASE, 0).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(error.is_passing(), "the same call may succeed in a moment: {error}");
    assert!(matches!(error, OutboxError::Database(sqlx::Error::Io(_))), "{error}");

    blocker.rollback().await.unwrap();
    assert_eq!(outbox.claim(session, 1, LEASE, 0).await.unwrap().len(), 0);
    assert_ne!(backend(&pool).await, before, "the connection whose answer is still to come is gone");
}

#[tokio::test]
async fn a_dropped_future_takes_its_connection_along() {
    let t = TestOutbox::new().await;
    let session = t.session().await;
    let pool = one_connection(&t).await;
    let outbox = Outbox::new(pool.clone());
    let before = backend(&pool).await;
    let mut blocker = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.deliveries").execute(&mut *blocker).await.unwrap();
    {
        let mut claim = Box::pin(outbox.claim(session, 1, LEASE, 0));
        // Begun, and certainly waiting for the lock.
        while t.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await == 0 {
            assert!(claim.as_mut().now_or_never().is_none());
        }
    }
    blocker.rollback().await.unwrap();
    let id = outbox.enqueue(&email_to("a@x.test").build().unwrap()).await.unwrap().id;
    assert_eq!(outbox.find(id).await.unwrap().unwrap().id, id, "each reader gets its own answer");
    assert_ne!(backend(&pool).await, before);
}

#[tokio::test]
async fn a_refusal_keeps_the_connection() {
    let t = TestOutbox::new().await;
    let pool = one_connection(&t).await;
    let before = backend(&pool).await;
    let outbox = Outbox::new(pool.clone());
    t.execute("ALTER TABLE facteur.deliveries ADD CONSTRAINT none CHECK (recipient <> 'no@x.test')").await;
    let error = outbox.enqueue(&email_to("no@x.test").build().unwrap()).await.unwrap_err();
    assert!(error.is_about_the_row(), "{error}");
    assert_eq!(backend(&pool).await, before);
}

#[tokio::test]
async fn behind_a_transaction_pooler_no_statement_has_a_name() {
    let t = TestOutbox::new().await;
    let session = t.session().await;
    for named in [true, false] {
        let pool = one_connection(&t).await;
        let outbox = Outbox::new(pool.clone());
        let outbox = if named { outbox } else { outbox.behind_a_transaction_pooler(None) };
        let id = outbox.enqueue(&email_to("a@x.test").build().unwrap()).await.unwrap().id;
        let claimed = outbox.claim(session, 10, LEASE, 0).await.unwrap();
        assert!(outbox.load(&[id]).await.unwrap().contains_key(&id));
        outbox.heartbeat(session, "test", LEASE, LEASE, &[(claimed[0].id, claimed[0].token)]).await.unwrap();
        outbox.reap().await.unwrap();
        outbox.oldest_due().await.unwrap();
        let count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%facteur.%'";
        let names: i64 = sqlx::query_scalar(count).persistent(false).fetch_one(&pool).await.unwrap();
        assert_eq!(names > 0, named, "{names} statements have names");
    }
}

#[tokio::test]
async fn behind_a_transaction_pooler_a_statement_is_parsed_and_executed_in_one_transaction() {
    let t = TestOutbox::new().await;
    let pool = one_connection(&t).await;
    let last =
        format!("SELECT state || ' ' || query FROM pg_stat_activity WHERE pid = {}", backend(&pool).await);
    let outbox = Outbox::new(pool).behind_a_transaction_pooler(None);
    outbox.oldest_due().await.unwrap();
    assert_eq!(t.text(&last).await, "idle COMMIT");
    t.execute("ALTER TABLE facteur.deliveries ADD CONSTRAINT none CHECK (recipient <> 'no@x.test')").await;
    outbox.enqueue(&email_to("no@x.test").build().unwrap()).await.unwrap_err();
    assert_eq!(t.text(&last).await, "idle ROLLBACK");
}

#[tokio::test]
async fn a_listener_whose_path_went_silent_connects_again_and_looks_at_the_queue() {
    let t = TestOutbox::new().await;
    let direct: PgConnectOptions = t.url().parse().unwrap();
    let server = format!("{}:{}", direct.get_host(), direct.get_port()).parse().unwrap();
    let proxy = TcpProxy::start(server).await.unwrap();
    let through = direct.host("127.0.0.1").port(proxy.addr().port());
    let outbox = t.outbox.clone().with_deadline(Duration::from_millis(100)).listening_at(through);
    let stop = CancellationToken::new();
    let listening = tokio::spawn({
        let (outbox, stop) = (outbox.clone(), stop.clone());
        async move { outbox.listen(stop).await }
    });
    let patience = Duration::from_secs(20);
    timeout(patience, outbox.woken()).await.expect("it looks once it listens");
    proxy.stall();
    let gave_up = async {
        while proxy.opened() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(patience, gave_up).await.expect("silence is not believed for ever");
    let _rung_before = outbox.woken().now_or_never();
    proxy.resume();
    timeout(patience, outbox.woken()).await.expect("something may have been missed");
    stop.cancel();
    listening.await.unwrap();
}
