//! Options that the library cannot even be handed: unknown names, other kinds, and the shapes that are the same.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::both::{Refusal, refusal};
use crate::support::outbox::TestOutbox;

async fn send(t: &TestOutbox, options: Value) -> Result<Uuid, Refusal> {
    sqlx::query_scalar("SELECT facteur.send_email('ada@x.test', 'Hi', 'Hello', options => $1)")
        .bind(options)
        .fetch_one(&t.pool)
        .await
        .map_err(|error| refusal(&error))
}

fn with(name: &str, value: Value) -> Value {
    let mut options = json!({"from": "shop@x.test"});
    options[name] = value;
    options
}

#[tokio::test]
async fn an_option_that_is_not_known_is_named_and_the_known_ones_are_listed() {
    let t = TestOutbox::new().await;
    let refused = send(&t, with("form", json!("a@x.test"))).await.unwrap_err();
    assert_eq!(refused.code, "22023");
    assert_eq!(refused.message, "options has a name that is not known: \"form\"");
    assert!(refused.hint.contains("from, headers, idempotency_key"), "{}", refused.hint);
    let long = send(&t, with(&"x\n".repeat(500), json!(1))).await.unwrap_err();
    assert!(
        long.message.len() < 200 && !long.message.contains('\n'),
        "at most 64 characters, escaped: {long:?}"
    );
}

#[tokio::test]
async fn an_option_of_another_kind_is_refused_by_its_name() {
    let t = TestOutbox::new().await;
    for (name, value) in [
        ("from", json!(1)),
        ("from", json!(["a@x.test"])),
        ("to", json!({"address": "a@x.test"})),
        ("cc", json!(["a@x.test", 1])),
        ("bcc", json!([["a@x.test"]])),
        ("reply_to", json!(true)),
        ("headers", json!("X-A: 1")),
        ("headers[0]", json!([["X-A", "1"]])),
        ("headers[0]", json!({"X-A": 1})),
        ("headers[1]", json!([{"name": "X-A", "value": "1"}, {"name": "X-B", "value": "1", "more": ""}])),
        ("priority", json!("asap")),
        ("priority", json!(1)),
        ("on_unknown", json!("drop")),
        ("sensitive", json!("true")),
        ("idempotency_key", json!(7)),
        ("supersedes", json!(["a"])),
        ("attachments", json!({"filename": "a"})),
        ("attachments[0]", json!(["a"])),
        ("attachments[0]", json!([{"filename": "a", "content": "", "path": "https://x.test"}])),
        ("attachments[0]", json!([{"filename": "a"}])),
        ("attachments[0]", json!([{"content": ""}])),
        ("attachments[0]", json!([{"filename": 1, "content": ""}])),
        ("attachments[0]", json!([{"filename": "a", "content": "not base64!"}])),
        ("attachments[1]", json!([{"filename": "a", "content": "YQ=="}, {"filename": "a", "content": "YQ"}])),
        ("scheduled_at", json!("tomorrow")),
        ("scheduled_at", json!("infinity")),
        ("scheduled_at", json!("2026-02-30T10:00:00Z")),
        ("scheduled_at", json!("2026-08-01T25:00:00Z")),
        ("scheduled_at", json!("2026-08-01T10:00:00+99:99")),
        ("scheduled_at", json!("2026-08-01T10:00:00")),
        ("scheduled_at", json!("01/08/2026 10:00:00+00")),
        ("scheduled_at", json!("2026-08-01T10:00:00Z\n")),
        ("expires_at", json!(1_800_000_000)),
    ] {
        let option = name.split('[').next().unwrap();
        let refused = send(&t, with(option, value.clone())).await.unwrap_err();
        assert_eq!(refused.code, "22023", "{name} {value}: {refused:?}");
        assert!(refused.message.starts_with(&format!("{name} ")), "{name} {value}: {refused:?}");
        assert!(!refused.hint.is_empty(), "{name} {value}");
    }
    for options in [json!([]), json!("from"), json!(null)] {
        let refused = send(&t, options).await.unwrap_err();
        assert!(refused.message.starts_with("options must be an object"), "{refused:?}");
    }
    assert_eq!(t.states().await, "none");
}

#[tokio::test]
async fn null_is_left_out_one_text_is_a_list_and_headers_may_be_an_object() {
    let t = TestOutbox::new().await;
    let nulls = json!({
        "from": "shop@x.test", "to": null, "cc": null, "bcc": null, "reply_to": null, "headers": null, "attachments": null, "priority": null,
        "scheduled_at": null, "expires_at": null, "on_unknown": null, "idempotency_key": null, "sensitive": null, "supersedes": null,
    });
    let plain = t.row(send(&t, json!({"from": "shop@x.test"})).await.unwrap()).await;
    assert_eq!(t.row(send(&t, nulls).await.unwrap()).await, plain);
    let one = json!({"from": "shop@x.test", "cc": "b@x.test", "headers": {"X-A": "1"}, "attachments": [{"filename": "a", "content": "YQ=="}]});
    let same = json!({
        "from": "shop@x.test", "cc": ["b@x.test"], "headers": [{"name": "X-A", "value": "1"}],
        "attachments": [{"filename": "a", "content": "Y\nQ==", "content_type": "application/octet-stream", "content_id": null}],
    });
    assert_eq!(t.row(send(&t, one).await.unwrap()).await, t.row(send(&t, same).await.unwrap()).await);
}

#[tokio::test]
async fn a_moment_is_the_same_whatever_the_session_is_set_to() {
    let t = TestOutbox::new().await;
    let mut connection = t.pool.acquire().await.unwrap();
    sqlx::raw_sql("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'")
        .execute(&mut *connection)
        .await
        .unwrap();
    let moment = "2031-05-04T10:00:00.25+02:00";
    sqlx::query(
        "SELECT facteur.send_email('a@x.test', 'Hi', 'Hello', options => jsonb_build_object(
           'from', 'shop@x.test', 'scheduled_at', $1::text, 'expires_at', $1::text::timestamptz + interval '1 hour'))",
    )
    .bind(moment)
    .execute(&mut *connection)
    .await
    .unwrap();
    let right = "SELECT count(*) FROM facteur.deliveries WHERE run_at = '2031-05-04 08:00:00.25Z' AND expires_at = '2031-05-04 09:00:00.25Z'";
    assert_eq!(t.number(right).await, 1);
}

#[tokio::test]
async fn what_is_missing_is_said_with_where_it_goes() {
    let t = TestOutbox::new().await;
    let refused = |sql: &'static str| {
        let pool = t.pool.clone();
        async move { refusal(&sqlx::query(sql).execute(&pool).await.unwrap_err()) }
    };
    let sender = refused("SELECT facteur.send_email('a@x.test', 'Hi', 'Hello')").await;
    assert_eq!(sender.message, "from is missing: an address is expected");
    assert!(sender.hint.contains("facteur.default_from"));
    for (sql, message) in [
        (
            r#"SELECT facteur.send_email(NULL, 'Hi', 'Hello', options => '{"from": "a@x.test"}')"#,
            "to is missing: an address is expected",
        ),
        (
            r#"SELECT facteur.send_email('b@x.test', NULL, 'Hello', options => '{"from": "a@x.test"}')"#,
            "subject is missing: a text is expected",
        ),
        (
            r#"SELECT facteur.send_email('b@x.test', 'Hi', NULL, options => '{"from": "a@x.test"}')"#,
            "text is missing: text or html is expected",
        ),
    ] {
        assert_eq!(refused(sql).await.message, message);
    }
    sqlx::query(
        r#"SELECT facteur.send_email(NULL, 'Hi', NULL, '<p>', '{"from": "a@x.test", "to": ["b@x.test"]}')"#,
    )
    .execute(&t.pool)
    .await
    .unwrap();
}
