//! Idempotency keys: 24 hours, and what a second caller sees meanwhile.

use std::collections::HashSet;

use facteur::{Email, OutboxError, outbox::enqueue};
use sqlx::{Connection, PgConnection};

use crate::support::outbox::{TestOutbox, email_to};

fn keyed() -> Email {
    email_to("ada@x.test").idempotency_key("order-7").build().unwrap()
}

#[tokio::test]
async fn a_key_stands_for_its_email_for_24_hours_and_then_for_nothing() {
    let t = TestOutbox::new().await;
    let first = t.outbox.enqueue(&keyed()).await.unwrap();
    let aged = |age: &str| format!("UPDATE facteur.idempotency SET created_at = now() - interval '{age}'");
    t.execute(&aged("23 hours 59 minutes 50 seconds")).await;
    let replay = t.outbox.enqueue(&keyed()).await.unwrap();
    assert_eq!((replay.id, replay.created), (first.id, false));
    assert!(
        t.number("SELECT extract(epoch FROM now() - created_at)::bigint FROM facteur.idempotency").await
            > 86_000,
        "a replay does not make the key younger"
    );
    t.execute(&aged("24 hours")).await;
    let other = email_to("bob@x.test").idempotency_key("order-7").build().unwrap();
    let second = t.outbox.enqueue(&other).await.unwrap();
    assert!(second.created && second.id != first.id, "{second:?}");
    assert_eq!(t.states().await, "queued 2");
    let replay = t.outbox.enqueue(&other).await.unwrap();
    assert_eq!((replay.id, replay.created), (second.id, false), "the key is the second e-mail's now");
    assert!(matches!(t.outbox.enqueue(&keyed()).await, Err(OutboxError::KeyReused)));
}

#[tokio::test]
async fn what_supersedes_and_what_is_sensitive_is_part_of_what_a_key_stands_for() {
    let t = TestOutbox::new().await;
    t.outbox.enqueue(&keyed()).await.unwrap();
    let builder = || email_to("ada@x.test").idempotency_key("order-7");
    for other in [builder().supersedes("code:ada"), builder().sensitive(true)] {
        let refused = t.outbox.enqueue(&other.build().unwrap()).await;
        assert!(matches!(refused, Err(OutboxError::KeyReused)), "{refused:?}");
    }
    assert!(!t.outbox.enqueue(&builder().sensitive(false).build().unwrap()).await.unwrap().created);
}

#[tokio::test]
async fn a_second_caller_waits_for_the_first_to_commit_or_roll_back() {
    for commits in [true, false] {
        let t = TestOutbox::new().await;
        let mut first = t.pool.begin().await.unwrap();
        let id = enqueue(&mut *first, &keyed()).await.unwrap().id;
        let outbox = t.outbox.clone();
        let second = tokio::spawn(async move { outbox.enqueue(&keyed()).await });
        t.until_somebody_waits().await;
        if commits {
            first.commit().await.unwrap()
        } else {
            first.rollback().await.unwrap()
        }
        let second = second.await.unwrap().unwrap();
        assert_eq!((second.id == id, second.created), (commits, !commits));
        assert_eq!(t.states().await, "queued 1");
    }
}

#[tokio::test]
async fn a_wait_for_a_key_that_is_cut_says_that_the_key_is_in_use() {
    let t = TestOutbox::new().await;
    let mut first = t.pool.begin().await.unwrap();
    enqueue(&mut *first, &keyed()).await.unwrap();
    for bound in ["lock_timeout", "statement_timeout"] {
        let mut impatient = PgConnection::connect(t.url()).await.unwrap();
        let sql = format!("SET {bound} = '100ms'");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut impatient).await.unwrap();
        let error = enqueue(&mut impatient, &keyed()).await.unwrap_err();
        assert!(matches!(error, OutboxError::KeyInFlight), "{bound}: {error:?}");
        assert_eq!(error.to_string(), "the idempotency key is in use by a request that has not ended yet");
        let free = email_to("bob@x.test").idempotency_key(bound).build().unwrap();
        assert!(enqueue(&mut impatient, &free).await.unwrap().created, "another key waits for nobody");
    }
    first.commit().await.unwrap();
    assert!(!t.outbox.enqueue(&keyed()).await.unwrap().created, "and now it is known");

    // The same of a key that was committed before, and is being replaced after its 24 hours.
    t.execute("UPDATE facteur.idempotency SET created_at = now() - interval '25 hours'").await;
    let mut first = t.pool.begin().await.unwrap();
    assert!(enqueue(&mut *first, &keyed()).await.unwrap().created);
    let mut impatient = PgConnection::connect(t.url()).await.unwrap();
    sqlx::query("SET lock_timeout = '100ms'").execute(&mut impatient).await.unwrap();
    let error = enqueue(&mut impatient, &keyed()).await.unwrap_err();
    assert!(matches!(error, OutboxError::KeyInFlight), "{error:?}");
}

#[tokio::test]
async fn another_wait_that_is_cut_is_not_the_keys() {
    let t = TestOutbox::new().await;
    let named =
        |key: &str| email_to("ada@x.test").idempotency_key(key).supersedes("code:ada").build().unwrap();
    let mut first = t.pool.begin().await.unwrap();
    enqueue(&mut *first, &named("one")).await.unwrap();
    let mut impatient = PgConnection::connect(t.url()).await.unwrap();
    sqlx::query("SET lock_timeout = '100ms'").execute(&mut impatient).await.unwrap();
    let error = enqueue(&mut impatient, &named("two")).await.unwrap_err();
    assert!(matches!(error, OutboxError::Database(_)), "{error:?}");
}

#[tokio::test]
async fn a_hundred_calls_at_once_with_one_key_are_one_email() {
    let t = TestOutbox::new().await;
    for age in ["0 hours", "25 hours"] {
        t.execute(&format!("UPDATE facteur.idempotency SET created_at = now() - interval '{age}'")).await;
        let before = t.number("SELECT count(*) FROM facteur.emails").await;
        let calls = (0..100).map(|_| async { t.outbox.enqueue(&keyed()).await.unwrap() });
        let results = futures_util::future::join_all(calls).await;
        assert_eq!(results.iter().map(|r| r.id).collect::<HashSet<_>>().len(), 1, "one id for all");
        assert_eq!(results.iter().filter(|r| r.created).count(), 1, "one of them created it");
        assert_eq!(t.number("SELECT count(*) FROM facteur.emails").await, before + 1);
    }
}
