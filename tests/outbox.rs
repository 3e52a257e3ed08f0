//! The outbox against real Postgres, statement by statement.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use facteur::OutboxError;
use facteur::email::{OnUnknown, Priority};
use facteur::outbox::{Action, ClaimedDelivery, Final, Settlement, Why, enqueue};
use sqlx::Connection;
use support::outbox::{LEASE, TestOutbox, email_to};
use time::OffsetDateTime;

fn settlement(delivery: &ClaimedDelivery, action: Action) -> Settlement {
    Settlement {
        id: delivery.id,
        token: delivery.token,
        action,
        transport: Some("smtp:test".into()),
        stage: Some("end-of-data"),
        code: Some(250),
        detail: Some("2.0.0 ok".into()),
    }
}

fn sent(delivery: &ClaimedDelivery) -> Settlement {
    settlement(delivery, Action::Finish(Final::Sent, "accepted"))
}

#[tokio::test]
async fn accepted_means_committed_with_synchronous_commit() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    assert_eq!(t.text("SHOW synchronous_commit").await, "on");
    let elsewhere = sqlx::PgPool::connect(t.url()).await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM facteur.emails WHERE id = $1")
        .bind(id.as_uuid())
        .fetch_one(&elsewhere)
        .await
        .unwrap();
    assert_eq!(seen, 1, "another connection sees it as soon as enqueue returned");
}

#[tokio::test]
async fn a_database_that_commits_lazily_is_told_not_to() {
    let t = TestOutbox::new().await;
    let mut lazy = sqlx::PgConnection::connect(t.url()).await.unwrap();
    sqlx::query("SET synchronous_commit = off").execute(&mut lazy).await.unwrap();
    let mut transaction = lazy.begin().await.unwrap();
    enqueue(&mut *transaction, &email_to("ada@x.test").build().unwrap()).await.unwrap();
    let setting: String =
        sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(setting, "on", "for this transaction");
    transaction.commit().await.unwrap();
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut lazy).await.unwrap();
    assert_eq!(setting, "off", "and for no other");
}

#[tokio::test]
async fn enqueued_if_and_only_if_the_transaction_commits() {
    let t = TestOutbox::new().await;
    t.execute("CREATE TABLE orders (customer text)").await;
    for commits in [true, false] {
        let mut transaction = t.pool.begin().await.unwrap();
        sqlx::query("INSERT INTO orders VALUES ('ada')").execute(&mut *transaction).await.unwrap();
        enqueue(&mut *transaction, &email_to("ada@x.test").build().unwrap()).await.unwrap();
        if commits { transaction.commit().await.unwrap() } else { transaction.rollback().await.unwrap() }
    }
    for table in ["orders", "facteur.emails", "facteur.deliveries", "facteur.events"] {
        assert_eq!(t.number(&format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
    }
}

#[tokio::test]
async fn an_enqueue_that_is_dropped_leaves_the_whole_email_or_none() {
    let t = TestOutbox::new().await;
    let email = email_to("ada@x.test").cc("bob@x.test").build().unwrap();
    let mut cut = 0;
    for round in 0..200 {
        let patience = Duration::from_micros(100 * round);
        cut += u32::from(tokio::time::timeout(patience, t.outbox.enqueue(&email)).await.is_err());
    }
    assert!(cut > 0, "no round was cut");
    t.outbox.enqueue(&email).await.unwrap();
    let emails = t.number("SELECT count(*) FROM facteur.emails").await;
    assert_eq!(t.number("SELECT count(*) FROM facteur.deliveries").await, 2 * emails);
    assert_eq!(t.number("SELECT count(*) FROM facteur.events WHERE kind = 'accepted'").await, emails);
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(t.number(open).await, 0);
}

#[tokio::test]
async fn each_envelope_recipient_is_one_delivery_and_the_blind_are_not_in_the_email() {
    let t = TestOutbox::new().await;
    let email = email_to("ada@x.test").to("ada@x.test").cc("bob@x.test").bcc("eve@x.test");
    let id = t.enqueue(email).await;
    let session = t.session().await;
    let mut recipients: Vec<String> = t.claim(session).await.into_iter().map(|d| d.recipient).collect();
    recipients.sort();
    assert_eq!(recipients, ["ada@x.test", "bob@x.test", "eve@x.test"]);
    let stored = t.outbox.load(&[id]).await.unwrap();
    let rendered = String::from_utf8(stored[&id].render().unwrap()).unwrap();
    assert!(!rendered.contains("eve@x.test"), "{rendered}");
}

#[tokio::test]
async fn what_is_stored_renders_the_same_every_time() {
    let t = TestOutbox::new().await;
    let file = facteur::Attachment::new("été.pdf", "application/pdf", (0..=255).collect());
    let email = email_to("Ada <ada@x.test>").html("<p>Été</p>").header("X-Campaign", "é").attach(file);
    let id = t.enqueue(email).await;
    let once = t.outbox.load(&[id]).await.unwrap()[&id].render().unwrap();
    let again = t.outbox.load(&[id]).await.unwrap()[&id].render().unwrap();
    assert_eq!(once, again);
    let message_id = t.text("SELECT message_id FROM facteur.emails").await;
    assert!(String::from_utf8(once).unwrap().contains(&format!("Message-ID: <{message_id}>")));
}

#[tokio::test]
async fn a_claim_takes_what_is_due_and_leases_it() {
    let t = TestOutbox::new().await;
    let later = OffsetDateTime::now_utc() + time::Duration::HOUR;
    t.enqueue(email_to("later@x.test").scheduled_at(later)).await;
    t.enqueue(email_to("now@x.test")).await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    assert_eq!(claimed.iter().map(|d| d.recipient.as_str()).collect::<Vec<_>>(), ["now@x.test"]);
    assert_eq!(claimed[0].attempt, 1);
    assert!(claimed[0].time_left > Duration::from_secs(86_000), "a day to go: {:?}", claimed[0].time_left);
    assert!(t.claim(session).await.is_empty(), "leased is not due");
    assert_eq!(t.states().await, "queued 1, sending 1");
}

#[tokio::test]
async fn the_most_urgent_goes_first_and_each_tenth_claim_begins_at_the_other_end() {
    let t = TestOutbox::new().await;
    for (to, priority) in [("low", Priority::Low), ("normal", Priority::Normal), ("urgent", Priority::Urgent)]
    {
        t.enqueue(email_to(&format!("{to}@x.test")).priority(priority)).await;
    }
    let session = t.session().await;
    let mut order = Vec::new();
    for turn in [0, 9, 10] {
        let claimed = t.outbox.claim(session, 1, LEASE, turn).await.unwrap();
        order.push(claimed[0].recipient.clone());
    }
    assert_eq!(order, ["urgent@x.test", "low@x.test", "normal@x.test"]);
}

#[tokio::test]
async fn two_claimers_never_share() {
    let t = TestOutbox::new().await;
    for i in 0..200 {
        t.enqueue(email_to(&format!("a{i}@x.test"))).await;
    }
    let claims = (0..8).map(|_| async {
        let session = t.session().await;
        let mut all = Vec::new();
        loop {
            let claimed = t.outbox.claim(session, 7, LEASE, 0).await.unwrap();
            if claimed.is_empty() {
                return all;
            }
            all.extend(claimed.into_iter().map(|d| d.id));
        }
    });
    let all: Vec<_> = futures_util::future::join_all(claims).await.into_iter().flatten().collect();
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 200);
}

#[tokio::test]
async fn what_was_sent_leaves_the_queue_with_its_outcome_and_its_event() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    assert!(t.outbox.settle(session, &[sent(&claimed[0])]).await.unwrap().is_empty());
    assert_eq!(t.states().await, "sent 1");
    assert_eq!(t.events(id).await, "accepted, sent");
    let outcome =
        "SELECT concat_ws(' ', recipient, reason, transport, code, reply, attempts) FROM facteur.outcomes";
    assert_eq!(t.text(outcome).await, "ada@x.test accepted smtp:test 250 2.0.0 ok 1");
}

#[tokio::test]
async fn a_write_under_an_old_lease_touches_nothing_and_is_seen() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    let (slow, quick) = (t.session().await, t.session().await);
    let lost = t.claim(slow).await.remove(0);
    t.execute("UPDATE facteur.deliveries SET lease_until = now() - interval '1 second'").await;
    assert_eq!(t.outbox.reap().await.unwrap().requeued, 1);
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    let held = t.claim(quick).await.remove(0);
    assert_eq!(t.outbox.settle(slow, &[sent(&lost)]).await.unwrap(), [lost.id], "the late writer is told");
    assert_eq!(t.states().await, "sending 1");
    assert!(t.outbox.settle(quick, &[sent(&held)]).await.unwrap().is_empty());
    assert_eq!(t.states().await, "sent 1");
    assert_eq!(t.events(id).await, "accepted, lease_lost, sent_after_lease_lost, sent");
}

#[tokio::test]
async fn settling_twice_changes_nothing() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    let batch =
        [settlement(&claimed[0], Action::Requeue { after: Duration::from_secs(60), why: Why::Refused })];
    t.outbox.settle(session, &batch).await.unwrap();
    // As if the answer had been lost: it is found to be written, and no lease to be lost.
    assert_eq!(t.outbox.settle(session, &batch).await.unwrap(), []);
    assert_eq!(t.events(id).await, "accepted, retry");
    assert_eq!(t.states().await, "queued 1");
    assert_eq!(t.number("SELECT attempt::bigint FROM facteur.deliveries").await, 1);
}

#[tokio::test]
async fn an_interruption_gives_the_attempt_back_and_the_token_grows_on() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("ada@x.test")).await;
    let session = t.session().await;
    for _ in 0..3 {
        let claimed = t.claim(session).await;
        assert_eq!(claimed[0].attempt, 1);
        let release =
            settlement(&claimed[0], Action::Requeue { after: Duration::ZERO, why: Why::Interrupted });
        assert!(t.outbox.settle(session, &[release]).await.unwrap().is_empty());
    }
    assert_eq!(t.number("SELECT lease_token FROM facteur.deliveries").await, 3);
}

#[tokio::test]
async fn the_reaper_takes_from_the_dead_and_from_nobody_else() {
    let t = TestOutbox::new().await;
    for to in ["living", "expired", "gone", "late"] {
        t.enqueue(email_to(&format!("{to}@x.test"))).await;
    }
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let session = t.session().await;
        t.outbox.claim(session, 1, LEASE, 0).await.unwrap();
        sessions.push(session);
    }
    let worker =
        |to: &str| format!("(SELECT worker_id FROM facteur.deliveries WHERE recipient = '{to}@x.test')");
    t.execute(&format!(
        "UPDATE facteur.worker_sessions SET expires_at = now() - interval '1 s' WHERE id = {}",
        worker("expired")
    ))
    .await;
    t.execute(&format!("DELETE FROM facteur.worker_sessions WHERE id = {}", worker("gone"))).await;
    t.execute(
        "UPDATE facteur.deliveries SET lease_until = now() - interval '1 s' WHERE recipient = 'late@x.test'",
    )
    .await;
    assert_eq!(t.outbox.reap().await.unwrap().requeued, 3);
    let still =
        t.text("SELECT string_agg(recipient, ',') FROM facteur.deliveries WHERE state = 'sending'").await;
    assert_eq!(still, "living@x.test");
    assert_eq!(t.outbox.reap().await.unwrap(), facteur::outbox::Reaped::default(), "once");
}

#[tokio::test]
async fn an_email_that_kills_its_worker_ends() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("poison@x.test")).await;
    t.execute("UPDATE facteur.deliveries SET max_attempts = 3").await;
    let mut attempts = 0;
    loop {
        t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
        let session = t.session().await;
        if t.claim(session).await.is_empty() {
            break;
        }
        attempts += 1;
        t.outbox.end_session(session).await.unwrap();
        t.outbox.reap().await.unwrap();
    }
    assert_eq!(attempts, 3);
    assert_eq!(t.text("SELECT final || ' ' || reason FROM facteur.outcomes").await, "failed worker_lost");
    assert_eq!(t.events(id).await, "accepted, lease_lost, lease_lost, failed");
}

#[tokio::test]
async fn held_mail_whose_content_may_have_left_waits_for_a_person() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("begun@x.test").on_unknown(OnUnknown::Hold)).await;
    t.enqueue(email_to("not-begun@x.test").on_unknown(OnUnknown::Hold)).await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    let begun = claimed.iter().find(|d| d.recipient == "begun@x.test").unwrap();
    assert!(t.outbox.mark_data_started(begun).await.unwrap());
    t.outbox.end_session(session).await.unwrap();
    let reaped = t.outbox.reap().await.unwrap();
    assert_eq!((reaped.parked, reaped.requeued), (1, 1));
    assert_eq!(
        t.text("SELECT recipient FROM facteur.deliveries WHERE state = 'unknown'").await,
        "begun@x.test"
    );
    assert!(!t.outbox.mark_data_started(begun).await.unwrap(), "the lease is gone");
}

#[tokio::test]
async fn a_stale_email_is_claimed_as_expired() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("otp@x.test")).await;
    t.execute("UPDATE facteur.deliveries SET expires_at = now() - interval '1 second'").await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    assert!(claimed[0].expired);
    assert_eq!(claimed[0].time_left, Duration::ZERO);
}

#[tokio::test]
async fn a_lease_is_renewed_only_for_what_is_still_being_sent() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("kept@x.test")).await;
    t.enqueue(email_to("forgotten@x.test")).await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    let kept = claimed.iter().find(|d| d.recipient == "kept@x.test").unwrap();
    t.execute("UPDATE facteur.deliveries SET lease_until = now() - interval '1 second'").await;
    let sending = [(kept.id, kept.token)];
    t.outbox.heartbeat(session, "test", Duration::from_secs(30), LEASE, &sending).await.unwrap();
    assert_eq!(t.outbox.reap().await.unwrap().requeued, 1);
    assert_eq!(
        t.text("SELECT recipient FROM facteur.deliveries WHERE state = 'sending'").await,
        "kept@x.test"
    );
}

#[tokio::test]
async fn calling_twice_with_one_key_enqueues_once() {
    let t = TestOutbox::new().await;
    let email = email_to("ada@x.test").idempotency_key("order-7").build().unwrap();
    let calls = (0..20).map(|_| t.outbox.enqueue(&email));
    let results: Vec<_> =
        futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results.iter().map(|r| r.id).collect::<HashSet<_>>().len(), 1, "one id for all");
    assert_eq!(results.iter().filter(|r| r.created).count(), 1, "one of them created it");
    assert_eq!(t.states().await, "queued 1");
    let other = email_to("bob@x.test").idempotency_key("order-7").build().unwrap();
    assert!(matches!(t.outbox.enqueue(&other).await, Err(OutboxError::KeyReused)));
}

#[tokio::test]
async fn a_key_whose_transaction_rolled_back_was_never_used() {
    let t = TestOutbox::new().await;
    let email = email_to("ada@x.test").idempotency_key("order-7").build().unwrap();
    let mut transaction = t.pool.begin().await.unwrap();
    enqueue(&mut *transaction, &email).await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(t.outbox.enqueue(&email).await.unwrap().created);
}

#[tokio::test]
async fn illegal_rows_are_refused_by_the_schema() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("ada@x.test")).await;
    for (wrong, change) in [
        ("sending without a lease", "state = 'sending'"),
        ("a lease without sending", "lease_until = now(), worker_id = gen_random_uuid()"),
        ("unknown without hold", "state = 'unknown'"),
        ("more attempts than there may be", "attempt = max_attempts + 1"),
        ("queued with nothing left to try", "attempt = max_attempts"),
        ("a priority that is not one", "priority = 4"),
        ("a recipient that is not one", "recipient = 'nobody'"),
    ] {
        let sql = format!("UPDATE facteur.deliveries SET {change}");
        let error = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&t.pool).await.unwrap_err();
        let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
        assert_eq!(code.as_deref(), Some("23514"), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn migrating_twice_and_at_once_is_safe_and_leaves_an_applications_own_record_alone() {
    let t = TestOutbox::new().await;
    t.execute("DROP SCHEMA facteur CASCADE").await;
    let results = futures_util::future::join_all((0..4).map(|_| facteur::migrate(&t.pool))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    facteur::migrate(&t.pool).await.unwrap();
    assert_eq!(t.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 0);
    t.outbox.ensure_partitions().await.unwrap();
    let id = t.enqueue(email_to("ada@x.test")).await;
    let partition = format!("SELECT tableoid::regclass::text FROM facteur.emails WHERE id = '{id}'");
    assert!(t.text(&partition).await.starts_with("facteur.emails_2"), "in the partition of its week");
}
