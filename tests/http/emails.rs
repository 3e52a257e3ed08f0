//! `POST /emails`, field by field.

use reqwest::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::door::{Door, answer, email};

#[tokio::test]
async fn every_field_is_kept_and_shown_again() {
    let door = Door::open().await;
    let sent = email(json!({
        "to": ["Ada <ada@local.test>", "bob@local.test"], "cc": "cy@local.test", "bcc": ["dan@local.test"],
        "reply_to": "help@local.test", "html": "<p>Hello, <b>Ada</b>.</p>", "headers": {"X-Campaign": "spring"},
        "tags": [{"name": "category", "value": "welcome"}, {"name": "alone"}],
    }));
    let id = door.accepted(&sent).await;
    let shown = door.get(&format!("/emails/{id}")).await;
    assert_eq!(shown.status, 200);
    for (field, value) in [
        ("object", json!("email")),
        ("id", json!(id)),
        ("from", json!("Acme <shop@local.test>")),
        ("to", json!(["Ada <ada@local.test>", "bob@local.test"])),
        ("cc", json!(["cy@local.test"])),
        ("bcc", json!(["dan@local.test"])),
        ("reply_to", json!(["help@local.test"])),
        ("subject", json!("Hello")),
        ("text", json!("Hello, Ada.")),
        ("html", json!("<p>Hello, <b>Ada</b>.</p>")),
        ("last_event", json!("queued")),
        ("scheduled_at", Value::Null),
        ("tags", json!([{"name": "category", "value": "welcome"}, {"name": "alone", "value": ""}])),
    ] {
        assert_eq!(shown.body[field], value, "{field}");
    }
    assert_eq!(shown.body["deliveries"].as_array().unwrap().len(), 4);
    assert_eq!(shown.body["events"][0]["type"], "accepted");
    let headers = door.t.text("SELECT headers::text FROM facteur.emails").await;
    assert_eq!(headers, r#"[{"name": "X-Campaign", "value": "spring"}]"#);
}

#[tokio::test]
async fn the_keys_of_absent_fields_are_there_and_success_has_no_status_code() {
    let door = Door::open().await;
    let sent = door.send(&email(json!({}))).await;
    assert_eq!(sent.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["id"]);
    let shown = door.get(&format!("/emails/{}", sent.id())).await.body;
    assert!(shown.get("statusCode").is_none());
    for field in ["cc", "bcc", "reply_to", "tags"] {
        assert_eq!(shown[field], json!([]), "{field}");
    }
    let created = shown["created_at"].as_str().unwrap();
    assert!(created.len() == 29 && created.ends_with("+00") && &created[10..11] == " ", "{created}");
}

#[tokio::test]
async fn paths_are_at_the_root_and_two_slashes_are_one() {
    let door = Door::open().await;
    let sent = answer(door.request(Method::POST, "//emails").json(&email(json!({})))).await;
    assert_eq!(sent.status, 200);
    assert_eq!(door.get(&format!("//emails/{}?x=1", sent.id())).await.status, 200);
    door.get("//nowhere").await.refused(404, "not_found");
}

#[tokio::test]
async fn get_and_cancel_take_any_body_or_none() {
    let door = Door::open().await;
    let id = door.accepted(&email(json!({}))).await;
    let get = |path: &str| door.request(Method::GET, path).header("content-type", "application/json");
    assert_eq!(answer(get(&format!("/emails/{id}"))).await.status, 200);
    assert_eq!(answer(get(&format!("/emails/{id}")).body("{}")).await.status, 200);
    assert_eq!(answer(get("/emails").body("{}")).await.status, 200);
    let cancel = || door.request(Method::POST, &format!("/emails/{id}/cancel"));
    for request in [cancel(), cancel().body("{}"), cancel().header("content-type", "application/json")] {
        let canceled = answer(request).await;
        assert_eq!(canceled.body, json!({"object": "email", "id": id}));
    }
    assert_eq!(door.t.states().await, "cancelled 1");
}

#[tokio::test]
async fn unknown_fields_and_nulls_are_ignored() {
    let door = Door::open().await;
    door.accepted(&email(json!({
        "topic_id": null, "id": "x", "email_id": 7, "template": null, "cc": null, "attachments": null,
        "tags": null, "headers": null, "scheduled_at": null, "html": null, "unknown": {"deep": [[]]},
    })))
    .await;
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let door = Door::open().await;
    for (field, value) in [
        ("from", json!("")),
        ("from", Value::Null),
        ("to", json!([])),
        ("to", Value::Null),
        ("subject", Value::Null),
    ] {
        let text = door.refused(&email(json!({field: value})), 422, "missing_required_field").await;
        assert!(text.starts_with(&format!("Missing `{field}` field")), "{text}");
    }
    let no_body = email(json!({"text": null}));
    let text = door.refused(&no_body, 422, "missing_required_field").await;
    assert!(text.contains("`html`") && text.contains("text"), "{text}");
    door.refused(&email(json!({"text": ""})), 422, "missing_required_field").await;
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn what_is_refused_is_named() {
    let door = Door::open().await;
    for (fields, says) in [
        (json!({"from": 7}), "from must be"),
        (json!({"from": "nobody"}), "from must have exactly one @"),
        (json!({"from": "A\r\nBcc: e@x <a@x.test>"}), "from has a display name"),
        (json!({"to": {"a": 1}}), "to must be"),
        (json!({"to": ["a@x.test", "b"]}), "to[1] must have"),
        (json!({"to": ["a@x.test", 7]}), "to must be"),
        (json!({"cc": "x"}), "cc must have"),
        (json!({"reply_to": ["x"]}), "reply_to must have"),
        (json!({"subject": "hi\r\nBcc: e@x"}), "subject has a character"),
        (json!({"subject": ["hi"]}), "subject must be a text"),
        (json!({"text": "a\u{0}b"}), "text has a NUL"),
        (json!({"headers": {"Bcc": "e@x.test"}}), "headers[0] may not be set by hand"),
        (json!({"headers": {"X-A: b\r\nY": "1"}}), "headers[0] must have a name"),
        (json!({"headers": [1]}), "headers must be"),
        (json!({"headers": {"X-A": 1}}), "headers must be"),
        (json!({"tags": [{"name": "a b", "value": "1"}]}), "tags[0] must have a name"),
        (json!({"tags": {"a": "b"}}), "tags must be"),
        (json!({"template": {"id": "welcome", "variables": null}}), "template is not accepted"),
        (json!({"template": {"id": "welcome"}, "from": "", "subject": ""}), "template is not accepted"),
        (json!({"priority": "asap"}), "priority must be urgent, high, normal or low"),
        (json!({"on_unknown": "drop"}), "on_unknown must be retry or hold"),
        (json!({"sensitive": "yes"}), "sensitive must be true or false"),
        (json!({"supersedes": ""}), "supersedes must be"),
        (json!({"expires_at": "soon"}), "expires_at must be a moment"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at must be in the future"),
        (json!({"expires_at": "in 1 hour", "scheduled_at": "in 2 hours"}), "expires_at must be later than"),
    ] {
        let text = door.refused(&email(fields.clone()), 422, "validation_error").await;
        assert!(text.starts_with(says), "{fields}: {text}");
    }
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn fifty_recipients_and_not_one_more() {
    let door = Door::open().await;
    let people = |n: usize| (0..n).map(|i| format!("p{i}@local.test")).collect::<Vec<_>>();
    door.accepted(&email(json!({"to": people(50)}))).await;
    assert_eq!(door.t.states().await, "queued 50");
    let text = door.refused(&email(json!({"to": people(51)})), 422, "validation_error").await;
    assert_eq!(text, "to has 51 entries, the most is 50");
    door.accepted(&email(json!({"to": vec!["same@local.test"; 50]}))).await;
    assert_eq!(door.t.states().await, "queued 51", "the same recipient 50 times is one delivery");
}

#[tokio::test]
async fn text_is_made_from_html_unless_it_is_given_or_not_wanted() {
    let door = Door::open().await;
    let html = "<h1>Hello</h1><p>See <a href=\"https://x.test/a\">this</a>.</p><script>no()</script>";
    for (text, kept) in [(Value::Null, "made"), (json!(""), "none"), (json!("mine"), "mine")] {
        let id = door.accepted(&email(json!({"html": html, "text": text}))).await;
        let shown = door.get(&format!("/emails/{id}")).await.body;
        assert_eq!(shown["html"], html);
        match kept {
            "made" => {
                let made = shown["text"].as_str().unwrap();
                assert!(made.contains("Hello") && made.contains("https://x.test/a"), "{made}");
                assert!(!made.contains("no()") && !made.contains('<'), "{made}");
            }
            "none" => assert_eq!(shown["text"], Value::Null),
            mine => assert_eq!(shown["text"], mine),
        }
    }
}

#[tokio::test]
async fn a_moment_in_each_notation_is_kept() {
    let door = Door::open().await;
    let at = (OffsetDateTime::now_utc() + Duration::hours(3)).replace_nanosecond(0).unwrap();
    let two = at.to_offset(time::UtcOffset::from_hms(2, 0, 0).unwrap());
    let text = |at: OffsetDateTime| {
        let (date, time) = (at.date(), at.time());
        format!("{date}T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
    };
    for notation in [
        format!("{}Z", text(at)),
        format!("{}.000Z", text(at)),
        format!("{}+02:00", text(two)),
        format!("{}+0200", text(two)),
        format!("{}.000000", text(at)),
    ] {
        let id = door.accepted(&email(json!({"scheduled_at": notation}))).await;
        let kept =
            format!("SELECT extract(epoch FROM scheduled_at)::bigint FROM facteur.emails WHERE id = '{id}'");
        assert_eq!(door.t.number(&kept).await, at.unix_timestamp(), "{notation}");
        assert_eq!(door.get(&format!("/emails/{id}")).await.body["last_event"], "scheduled");
    }
    let id = door.accepted(&email(json!({"scheduled_at": "in 1 min"}))).await;
    let wait = format!(
        "SELECT extract(epoch FROM run_at - now())::bigint FROM facteur.deliveries WHERE email_id = '{id}'"
    );
    assert!((50..=60).contains(&door.t.number(&wait).await));
    door.accepted(&email(json!({"scheduled_at": "tomorrow at 9am"}))).await;
    for refused in
        ["1969-07-20T20:17:00Z", "2027-02-30T09:00:00Z", "Friday at 3pm ET", "soon", "in 300 days", ""]
    {
        let text = door.refused(&email(json!({"scheduled_at": refused})), 422, "validation_error").await;
        assert!(text.starts_with("scheduled_at must"), "{refused}: {text}");
    }
}

#[tokio::test]
async fn what_is_ours_reaches_the_outbox() {
    let door = Door::open().await;
    let id = door
        .accepted(&email(json!({
            "priority": "urgent", "on_unknown": "hold", "sensitive": true, "supersedes": "login:ada", "expires_at": "in 10 minutes",
        })))
        .await;
    let row = door
        .t
        .text(
            "SELECT concat_ws(' ', d.priority, d.hold_unknown, e.sensitive, d.supersedes,
                              round(extract(epoch FROM d.expires_at - now()) / 60))
             FROM facteur.deliveries d JOIN facteur.emails e ON e.id = d.email_id",
        )
        .await;
    assert_eq!(row, "0 t t login:ada 10");
    door.accepted(&email(json!({"supersedes": "login:ada"}))).await;
    assert_eq!(door.get(&format!("/emails/{id}")).await.body["last_event"], "canceled");
}

#[tokio::test]
async fn what_is_not_json_is_malformed() {
    let door = Door::open().await;
    let post = |body: &str| door.request(Method::POST, "/emails").body(body.to_owned());
    let json = |body: &str| post(body).header("content-type", "application/json; charset=utf-8");
    let deep = format!("{{\"from\":\"a@x.test\",\"to\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for body in ["", "{", "to=a", "{\"to\":\"a@x.test\",\"to\":\"b@x.test\"}", &deep] {
        let error = answer(json(body)).await.refused(400, "validation_error");
        assert!(error.len() < 200, "{error}");
    }
    let whole = r#"{"from":"a@x.test","to":"b@x.test","subject":"\ud800","text":"t"}"#;
    answer(json(whole)).await.refused(400, "validation_error");
    answer(json("[]")).await.refused(422, "validation_error");
    let latin1 =
        door.request(Method::POST, "/emails").header("content-type", "application/json").body(vec![0xe9]);
    answer(latin1).await.refused(400, "validation_error");
    answer(post("{}")).await.refused(415, "unsupported_media_type");
    answer(post("{}").header("content-type", "text/plain")).await.refused(415, "unsupported_media_type");
    answer(json("{}").header("content-encoding", "gzip")).await.refused(415, "unsupported_media_type");
    assert_eq!(door.t.states().await, "none");
}
