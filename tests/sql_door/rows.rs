//! Transactions, keys and names: an e-mail by SQL beside one by the library.

use sqlx::Acquire;
use uuid::Uuid;

use crate::both::refusal;
use crate::mail::{Mail, good};
use crate::support::outbox::TestOutbox;

const SEND: &str =
    r#"SELECT facteur.send_email('ada@x.test', 'Hi', 'Hello', options => '{"from": "shop@x.test"}')"#;

async fn everything(t: &TestOutbox) -> i64 {
    t.number(
        "SELECT (SELECT count(*) FROM facteur.emails) + (SELECT count(*) FROM facteur.deliveries)
              + (SELECT count(*) FROM facteur.attachments) + (SELECT count(*) FROM facteur.events)
              + (SELECT count(*) FROM facteur.idempotency) + (SELECT count(*) FROM facteur.newest)
              + (SELECT count(*) FROM facteur.to_wipe) + (SELECT count(*) FROM facteur.outcomes)",
    )
    .await
}

#[tokio::test]
async fn it_is_queued_if_and_only_if_the_transaction_commits() {
    let t = TestOutbox::new().await;
    let all = Mail {
        key: Some("k".into()),
        supersedes: Some("n".into()),
        sensitive: true,
        files: vec![crate::mail::file("a", "a/b", None)],
        ..good()
    };
    let mut transaction = t.pool.begin().await.unwrap();
    for _ in 0..2 {
        let mut savepoint = transaction.begin().await.unwrap();
        let id: Uuid =
            sqlx::query_scalar("SELECT facteur.send_email('ada@x.test', 'Hi', 'Hello', options => $1)")
                .bind(all.options())
                .fetch_one(&mut *savepoint)
                .await
                .unwrap();
        assert_eq!(id.get_version_num(), 7);
        savepoint.rollback().await.unwrap();
    }
    sqlx::query(SEND).execute(&mut *transaction).await.unwrap();
    assert_eq!(everything(&t).await, 0, "nobody sees it before the commit");
    transaction.rollback().await.unwrap();
    assert_eq!(everything(&t).await, 0);
    let mut transaction = t.pool.begin().await.unwrap();
    sqlx::query(SEND).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(t.states().await, "queued 1");
}

#[tokio::test]
async fn a_key_stands_for_one_email_and_the_library_has_its_own() {
    let t = TestOutbox::new().await;
    let mail = Mail { key: Some("order-1".into()), ..good() };
    let first = t.by_sql(&mail).await.unwrap();
    assert_eq!(t.by_sql(&mail).await.unwrap(), first);
    assert_ne!(t.by_library(mail.builder()).await.unwrap(), first, "keys of different doors do not meet");
    for other in [
        Mail { subject: "Another".into(), ..mail.clone() },
        Mail { html: Some(String::new()), ..mail.clone() },
        Mail { sensitive: true, ..mail.clone() },
        Mail { files: vec![crate::mail::file("a", "a/b", None)], ..mail.clone() },
        Mail { bcc: vec!["b@x.test".into()], ..mail.clone() },
    ] {
        let refused = t.by_sql(&other).await.unwrap_err();
        assert_eq!(refused.message, "idempotency_key was used before, with another e-mail", "{other:?}");
    }
    assert_eq!(t.states().await, "queued 2");
    t.execute("UPDATE facteur.idempotency SET created_at = now() - interval '24 hours'").await;
    assert_ne!(t.by_sql(&mail).await.unwrap(), first, "after a day it is a new one");
}

#[tokio::test]
async fn a_newer_email_takes_the_place_of_an_older_one_whatever_door_it_came_by() {
    let t = TestOutbox::new().await;
    let named = Mail { supersedes: Some("login-code:ada".into()), ..good() };
    let first = t.by_library(named.builder()).await.unwrap();
    let second = t.by_sql(&named).await.unwrap();
    let ended = |id: Uuid| {
        format!(
            "SELECT coalesce(min(final || ' ' || reason), 'live') FROM facteur.outcomes WHERE email_id = '{id}'"
        )
    };
    assert_eq!(t.text(&ended(first)).await, "cancelled superseded");
    let third = t.by_library(named.builder()).await.unwrap();
    assert_eq!(t.text(&ended(second)).await, "cancelled superseded");
    let fourth = t.by_sql(&named).await.unwrap();
    assert_eq!(t.text(&ended(third)).await, "cancelled superseded");
    assert_eq!(t.text(&ended(fourth)).await, "live");
    assert_eq!(t.events(second.into()).await, "accepted, cancelled");
}

#[tokio::test]
async fn two_transactions_with_one_key_queue_one_email() {
    let t = TestOutbox::new().await;
    let options = Mail { key: Some("k".into()), ..good() }.options();
    let send = "SELECT facteur.send_email('ada@x.test', 'Hi', 'Hello', options => $1)";
    let (mut one, mut two) = (t.pool.begin().await.unwrap(), t.pool.begin().await.unwrap());
    let first: Uuid = sqlx::query_scalar(send).bind(&options).fetch_one(&mut *one).await.unwrap();
    sqlx::query("SET LOCAL lock_timeout = '50ms'").execute(&mut *two).await.unwrap();
    let waited = sqlx::query(send).bind(&options).execute(&mut *two).await.unwrap_err();
    assert_eq!(refusal(&waited).code, "55P03", "it waits for the other's end");
    drop(two);
    let waiting = tokio::spawn({
        let (pool, options) = (t.pool.clone(), options.clone());
        async move { sqlx::query_scalar::<_, Uuid>(send).bind(options).fetch_one(&pool).await.unwrap() }
    });
    one.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), first);
    assert_eq!(t.states().await, "queued 1");
}

#[tokio::test]
async fn ids_sort_as_they_were_made_and_are_in_the_week_of_their_acceptance() {
    let t = TestOutbox::new().await;
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT facteur.new_email_id() FROM generate_series(1, 20000)")
        .fetch_all(&t.pool)
        .await
        .unwrap();
    let distinct: std::collections::HashSet<&Uuid> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
    // Those of one microsecond in any order: the calls take longer than that.
    let late = ids.windows(2).filter(|two| two[0].as_bytes()[..8] > two[1].as_bytes()[..8]).count();
    assert_eq!(late, 0);
    t.by_sql(&good()).await.unwrap();
    assert_eq!(t.number("SELECT count(*) FROM facteur.emails_other").await, 0);
}
