//! Cancel, reschedule, retry and give up.

use facteur::outbox::{Action, Final, Settlement};
use reqwest::Method;
use serde_json::{Value, json};

use crate::door::{Answer, Door, answer, email};

async fn patch(door: &Door, id: &str, body: &Value) -> Answer {
    answer(door.request(Method::PATCH, &format!("/emails/{id}")).json(body)).await
}

/// Claims what is due, and settles it so.
async fn settle(door: &Door, action: Action) {
    let session = door.t.session().await;
    let claimed = door.t.claim(session).await;
    assert!(!claimed.is_empty());
    let settlements: Vec<_> = claimed
        .iter()
        .map(|delivery| Settlement {
            id: delivery.id,
            token: delivery.token,
            action: action.clone(),
            transport: None,
            stage: None,
            code: None,
            detail: None,
        })
        .collect();
    door.t.outbox.settle(session, &settlements).await.unwrap();
}

#[tokio::test]
async fn what_is_scheduled_is_moved_and_canceled() {
    let door = Door::open().await;
    let id = door.accepted(&email(json!({"scheduled_at": "in 1 hour"}))).await;
    let moved = patch(&door, &id, &json!({"scheduled_at": "in 2 hours", "id": id})).await;
    assert_eq!((moved.status, &moved.body), (200, &json!({"object": "email", "id": id})));
    let wait =
        door.t.number("SELECT extract(epoch FROM run_at - now())::bigint / 60 FROM facteur.deliveries").await;
    assert!((118..=120).contains(&wait), "{wait}");
    for bad in ["soon", "2020-01-01T00:00:00Z", "in 300 days"] {
        patch(&door, &id, &json!({"scheduled_at": bad})).await.refused(422, "validation_error");
    }
    patch(&door, &id, &json!({})).await.refused(422, "missing_required_field");
    assert_eq!(door.post(&format!("/emails/{id}/cancel")).await.status, 200);
    patch(&door, &id, &json!({"scheduled_at": "in 1 hour"})).await.refused(409, "validation_error");
    let shown = door.get(&format!("/emails/{id}")).await.body;
    assert_eq!(shown["last_event"], "canceled");
    let events: Vec<&str> =
        shown["events"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(events, ["accepted", "rescheduled", "cancelled"]);
}

#[tokio::test]
async fn what_has_left_is_not_canceled() {
    let door = Door::open().await;
    let id = door.accepted(&email(json!({}))).await;
    settle(&door, Action::Finish(Final::Sent, "accepted")).await;
    let text = door.post(&format!("/emails/{id}/cancel")).await.refused(409, "validation_error");
    assert!(text.contains("left the queue"), "{text}");
    assert_eq!(door.get(&format!("/emails/{id}")).await.body["last_event"], "sent");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_what_is_no_id_is_refused() {
    let door = Door::open().await;
    let unknown = "01a20465-e8e1-77c8-8dd7-5f3c3711aa36";
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/attachments"),
        (Method::GET, "/attachments/0"),
        (Method::GET, "/attachments/0/content"),
        (Method::POST, "/cancel"),
        (Method::POST, "/retry"),
        (Method::POST, "/give-up"),
    ] {
        let of = |id: &str| door.request(method.clone(), &format!("/emails/{id}{path}"));
        answer(of(unknown)).await.refused(404, "not_found");
        answer(of("not-an-id")).await.refused(422, "invalid_parameter");
    }
    patch(&door, unknown, &json!({"scheduled_at": "in 1 hour"})).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_person_retries_and_gives_up() {
    let door = Door::open().await;
    let id = door.accepted(&email(json!({"on_unknown": "hold"}))).await;
    door.post(&format!("/emails/{id}/retry")).await.refused(409, "validation_error");
    door.post(&format!("/emails/{id}/give-up")).await.refused(409, "validation_error");
    settle(&door, Action::Finish(Final::Failed, "rejected")).await;
    let retried = door.post(&format!("/emails/{id}/retry")).await;
    assert_eq!((retried.status, &retried.body["deliveries"]), (200, &json!(1)));
    settle(&door, Action::Hold).await;
    assert_eq!(door.get(&format!("/emails/{id}")).await.body["last_event"], "delivery_delayed");
    let gone = door.post(&format!("/emails/{id}/give-up")).await;
    assert_eq!((gone.status, &gone.body["deliveries"]), (200, &json!(1)), "{}", gone.body);
    let shown = door.get(&format!("/emails/{id}")).await.body;
    assert_eq!(shown["last_event"], "failed");
    let retried = shown["events"].as_array().unwrap().iter().find(|e| e["type"] == "retried").unwrap();
    assert_eq!(retried["actor"], "development");
}
