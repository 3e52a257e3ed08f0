//! Idempotency keys: what a second call answers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::door::{Answer, Door, answer, email};

async fn send(door: &Door, path: &str, key: &str, body: &Value) -> Answer {
    answer(door.request(Method::POST, path).header("idempotency-key", key).json(body)).await
}

#[tokio::test]
async fn the_same_key_and_body_answer_the_same_and_send_nothing() {
    let door = Door::open().await;
    let body = email(json!({"scheduled_at": "in 5 minutes"}));
    let first = send(&door, "/emails", "welcome/7", &body).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));
    let second = send(&door, "/emails", "welcome/7", &body).await;
    assert_eq!((second.status, second.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(second.body, first.body, "although \"in 5 minutes\" is another moment by now");
    assert_eq!(door.t.states().await, "queued 1");
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    let door = Door::open().await;
    send(&door, "/emails", "k", &email(json!({}))).await;
    let other = send(&door, "/emails", "k", &email(json!({"subject": "Other"}))).await;
    other.refused(409, "invalid_idempotent_request");
    assert_eq!(door.t.states().await, "queued 1");
}

#[tokio::test]
async fn a_replay_whose_moment_has_passed_is_still_a_replay() {
    let door = Door::open().await;
    // What is up to five minutes late is taken for now: this is, for two seconds more.
    let at = time::OffsetDateTime::now_utc() - time::Duration::seconds(298);
    let at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let body = email(json!({"scheduled_at": at}));
    let first = send(&door, "/emails", "k", &body).await;
    while door.send(&body).await.status == 200 {}
    let second = send(&door, "/emails", "k", &body).await;
    assert_eq!((second.status, &second.body), (200, &first.body));
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    send(&door, "/emails", "another", &body).await.refused(422, "validation_error");
}

#[tokio::test]
async fn a_refused_request_does_not_take_the_key() {
    let door = Door::open().await;
    send(&door, "/emails", "k", &email(json!({"to": "nobody"}))).await.refused(422, "validation_error");
    assert_eq!(send(&door, "/emails", "k", &email(json!({}))).await.status, 200);
}

#[tokio::test]
async fn keys_have_1_to_256_characters_and_each_endpoint_its_own() {
    let door = Door::open().await;
    for bad in ["", &"k".repeat(257)] {
        send(&door, "/emails", bad, &email(json!({}))).await.refused(400, "invalid_idempotency_key");
        send(&door, "/emails/batch", bad, &json!([email(json!({}))]))
            .await
            .refused(400, "invalid_idempotency_key");
    }
    let longest = "k".repeat(256);
    let first = send(&door, "/emails", &longest, &email(json!({}))).await;
    assert_eq!(send(&door, "/emails", &longest, &email(json!({}))).await.body, first.body);
    let batch = send(&door, "/emails/batch", &longest, &json!([email(json!({}))])).await;
    assert_eq!((batch.status, batch.header("idempotent-replayed")), (200, None));
    assert_eq!(door.t.states().await, "queued 2");
}

#[tokio::test]
async fn a_key_is_in_flight_while_its_first_request_has_not_ended() {
    let door = Door::impatient().await;
    let mut first = door.t.pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO facteur.idempotency (scope, key, request_sha256, email_id)
         VALUES ('http:development', 'k', sha256('x'), gen_random_uuid())",
    )
    .execute(&mut *first)
    .await
    .unwrap();
    let waiting = send(&door, "/emails", "k", &email(json!({}))).await;
    waiting.refused(409, "concurrent_idempotent_requests");
    assert_eq!(waiting.header("retry-after"), Some("1"));
    first.rollback().await.unwrap();
    assert_eq!(send(&door, "/emails", "k", &email(json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_batch_has_one_key_for_all() {
    let door = Door::open().await;
    let batch = json!([email(json!({})), email(json!({"to": "bob@local.test"}))]);
    let first = send(&door, "/emails/batch", "k", &batch).await;
    let second = send(&door, "/emails/batch", "k", &batch).await;
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!((second.body["data"].as_array().unwrap().len(), &second.body), (2, &first.body));
    let other = json!([email(json!({}))]);
    send(&door, "/emails/batch", "k", &other).await.refused(409, "invalid_idempotent_request");
    assert_eq!(door.t.states().await, "queued 2");
}
