//! `POST /emails/batch`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::door::{Answer, Door, answer, email};

async fn batch(door: &Door, mode: Option<&str>, emails: &Value) -> Answer {
    let mut request = door.request(Method::POST, "/emails/batch").json(emails);
    if let Some(mode) = mode {
        request = request.header("x-batch-validation", mode);
    }
    answer(request).await
}

#[tokio::test]
async fn all_are_accepted_in_their_order_with_attachments() {
    let door = Door::open().await;
    let file = json!([{"filename": "a.txt", "content": "SGVsbG8="}]);
    let emails: Vec<Value> =
        (0..100).map(|i| email(json!({"subject": format!("no {i}"), "attachments": file}))).collect();
    let answer = batch(&door, None, &json!(emails)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.get("errors").is_none() && answer.body.get("statusCode").is_none());
    let data = answer.body["data"].as_array().unwrap();
    assert_eq!(data.len(), 100);
    for (i, item) in data.iter().enumerate().step_by(33) {
        let shown = door.get(&format!("/emails/{}", item["id"].as_str().unwrap())).await.body;
        assert_eq!(shown["subject"], format!("no {i}"));
    }
    assert_eq!(door.t.number("SELECT count(*) FROM facteur.attachments").await, 100);
}

#[tokio::test]
async fn strict_is_all_or_nothing() {
    let door = Door::open().await;
    let emails = json!([email(json!({})), email(json!({"to": "nobody"})), email(json!({"from": null}))]);
    for mode in [None, Some("strict")] {
        let text = batch(&door, mode, &emails).await.refused(422, "validation_error");
        assert!(text.starts_with("emails[1]: to must have"), "{text}");
    }
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn what_the_database_refuses_takes_the_others_back() {
    let door = Door::open().await;
    door.t.execute("ALTER TABLE facteur.emails ADD CONSTRAINT no_thirteen CHECK (subject <> '13')").await;
    let emails: Vec<Value> = (0..20).map(|i| email(json!({"subject": i.to_string()}))).collect();
    batch(&door, None, &json!(emails)).await.refused(500, "application_error");
    assert_eq!(door.t.states().await, "none");
    door.t.execute("ALTER TABLE facteur.emails DROP CONSTRAINT no_thirteen").await;
    assert_eq!(batch(&door, None, &json!(emails)).await.status, 200, "its connections are in order");
    assert_eq!(door.t.states().await, "queued 20");
}

#[tokio::test]
async fn permissive_accepts_the_good_and_points_at_the_others() {
    let door = Door::open().await;
    let emails = json!([email(json!({"to": "nobody"})), email(json!({})), 7, email(json!({"from": null}))]);
    let some = batch(&door, Some("permissive"), &emails).await;
    assert_eq!(some.status, 200);
    assert_eq!(some.body["data"].as_array().unwrap().len(), 1);
    let errors = some.body["errors"].as_array().unwrap();
    assert_eq!(errors.iter().map(|e| e["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(errors[0]["message"].as_str().unwrap().starts_with("to must have"), "{errors:?}");
    let all = batch(&door, Some("permissive"), &json!([email(json!({}))])).await;
    assert_eq!(all.body["errors"], json!([]), "always there in permissive mode");
    let none = batch(&door, Some("permissive"), &json!([7])).await;
    assert_eq!((none.status, &none.body["data"]), (200, &json!([])));
    assert_eq!(door.t.states().await, "queued 2");
}

#[tokio::test]
async fn one_to_a_hundred_in_a_list() {
    let door = Door::open().await;
    let many: Vec<Value> = (0..101).map(|_| email(json!({}))).collect();
    for body in [json!([]), json!(many), email(json!({})), json!("x")] {
        batch(&door, None, &body).await.refused(422, "validation_error");
    }
    let text = batch(&door, Some("lenient"), &json!([])).await.refused(422, "validation_error");
    assert_eq!(text, "x-batch-validation must be strict or permissive");
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn a_batch_that_supersedes_itself_keeps_the_last() {
    let door = Door::open().await;
    let code = |n: i32| email(json!({"subject": n.to_string(), "supersedes": "login:ada"}));
    assert_eq!(batch(&door, None, &json!([code(1), code(2), code(3)])).await.status, 200);
    assert_eq!(door.t.states().await, "cancelled 2, queued 1");
}
