//! Who may do what.

use facteur::http::Role;
use reqwest::Method;
use serde_json::json;

use crate::door::{Answer, Door, answer, email};

async fn call(door: &Door, token: &str, method: Method, path: &str) -> Answer {
    answer(door.request(method, path).bearer_auth(token)).await
}

async fn send(door: &Door, token: &str, more: serde_json::Value) -> Answer {
    answer(door.request(Method::POST, "/emails").bearer_auth(token).json(&email(more))).await
}

#[tokio::test]
async fn system_reads_only_what_it_sent_and_admin_everything() {
    let door = Door::guarded().await;
    let shop = door.token(Role::System, Some("shop"), &[]);
    let blog = door.token(Role::System, Some("blog"), &[]);
    let nameless = door.token(Role::System, None, &[]);
    let admin = door.token(Role::Admin, Some("ada@local.test"), &[]);
    let file = json!([{"filename": "a", "content": "AAE="}]);
    let id = send(&door, &shop, json!({"scheduled_at": "in 1 hour", "attachments": file})).await.id();
    let others = door.t.enqueue(facteur::Email::builder("a@local.test", "b@local.test", "s", "t")).await;
    for token in [&blog, &nameless] {
        for (method, path) in [
            (Method::GET, ""),
            (Method::GET, "/attachments"),
            (Method::GET, "/attachments/0"),
            (Method::GET, "/attachments/0/content"),
            (Method::POST, "/cancel"),
        ] {
            call(&door, token, method, &format!("/emails/{id}{path}")).await.refused(404, "not_found");
        }
        let patch = door.request(Method::PATCH, &format!("/emails/{id}")).bearer_auth(token);
        answer(patch.json(&json!({"scheduled_at": "in 2 hours"}))).await.refused(404, "not_found");
        assert_eq!(call(&door, token, Method::GET, "/emails").await.body["data"], json!([]));
    }
    call(&door, &shop, Method::GET, &format!("/emails/{others}")).await.refused(404, "not_found");
    assert_eq!(call(&door, &shop, Method::GET, "/emails").await.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(call(&door, &admin, Method::GET, "/emails").await.body["data"].as_array().unwrap().len(), 2);
    for token in [&shop, &admin] {
        assert_eq!(call(&door, token, Method::GET, &format!("/emails/{id}")).await.status, 200);
    }
    assert_eq!(call(&door, &shop, Method::POST, &format!("/emails/{id}/cancel")).await.status, 200);
}

#[tokio::test]
async fn what_a_person_decides_is_for_admin() {
    let door = Door::guarded().await;
    let (shop, admin) = (door.token(Role::System, Some("shop"), &[]), door.token(Role::Admin, None, &[]));
    let id = send(&door, &shop, json!({"scheduled_at": "in 1 hour"})).await.id();
    call(&door, &shop, Method::POST, &format!("/emails/{id}/cancel")).await;
    for path in ["retry", "give-up"] {
        call(&door, &shop, Method::POST, &format!("/emails/{id}/{path}"))
            .await
            .refused(403, "restricted_api_key");
    }
    assert_eq!(call(&door, &admin, Method::POST, &format!("/emails/{id}/retry")).await.status, 200);
}

#[tokio::test]
async fn a_token_that_is_bound_sends_from_its_domains_only() {
    let door = Door::guarded().await;
    let bound = door.token(Role::System, Some("shop"), &["example.com", "shop.test"]);
    assert_eq!(send(&door, &bound, json!({"from": "A <a@Example.com>"})).await.status, 200);
    for from in ["a@other.test", "a@sub.example.com", "a@example.com.evil.test"] {
        let text = send(&door, &bound, json!({"from": from})).await.refused(403, "validation_error");
        assert!(text.starts_with("from has the domain"), "{text}");
    }
    let test = call(&door, &bound, Method::POST, "/api/test-email?to=a@x.test").await;
    test.refused(403, "validation_error");
    let batch = json!([email(json!({"from": "a@shop.test"})), email(json!({"from": "a@other.test"}))]);
    let batch = door.request(Method::POST, "/emails/batch").bearer_auth(&bound).json(&batch);
    let text = answer(batch).await.refused(403, "validation_error");
    assert!(text.starts_with("emails[1]: from has the domain"), "{text}");
    assert_eq!(door.t.states().await, "queued 1");
}

#[tokio::test]
async fn keys_and_names_of_different_callers_do_not_meet() {
    let door = Door::guarded().await;
    let tokens = ["shop", "blog"].map(|name| door.token(Role::System, Some(name), &[]));
    for token in &tokens {
        let request = door.request(Method::POST, "/emails").bearer_auth(token).header("idempotency-key", "1");
        let sent = answer(request.json(&email(json!({"supersedes": "login:ada"})))).await;
        assert_eq!((sent.status, sent.header("idempotent-replayed")), (200, None));
    }
    assert_eq!(door.t.states().await, "queued 2");
}

#[tokio::test]
async fn without_a_token_nothing_is_read() {
    let door = Door::guarded().await;
    let bodies = ["{}", "not json"];
    for body in bodies {
        let request = door.request(Method::POST, "/emails").header("content-type", "text/plain").body(body);
        answer(request).await.refused(401, "missing_api_key");
    }
    for path in ["/emails", "/emails/x", "/emails/x/attachments"] {
        door.get(path).await.refused(401, "missing_api_key");
    }
    for path in
        ["/emails/batch", "/emails/x/cancel", "/emails/x/retry", "/emails/x/give-up", "/api/test-email"]
    {
        door.post(path).await.refused(401, "missing_api_key");
    }
}

#[tokio::test]
async fn localhost_is_for_development() {
    let (closed, open) = (Door::guarded().await, Door::open().await);
    let token = closed.token(Role::System, None, &[]);
    for field in ["from", "to", "cc", "bcc", "reply_to"] {
        let text =
            send(&closed, &token, json!({field: "me@localhost"})).await.refused(422, "validation_error");
        assert!(text.starts_with(&format!("{field} has the domain localhost")), "{text}");
        open.accepted(&email(json!({field: "me@localhost"}))).await;
    }
}
