//! `GET /emails`.

use serde_json::{Value, json};

use crate::door::{Door, email};

fn ids(body: &Value) -> Vec<String> {
    body["data"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_go_both_ways_newest_first_and_exclude_their_cursor() {
    let door = Door::open().await;
    let mut sent = Vec::new();
    for _ in 0..7 {
        sent.push(door.accepted(&email(json!({}))).await);
    }
    sent.reverse();
    let page = async |query: &str| {
        let body = door.get(&format!("/emails?{query}")).await.body;
        (ids(&body), body["has_more"].as_bool().unwrap())
    };
    assert_eq!(page("").await, (sent.clone(), false));
    assert_eq!(page("limit=3").await, (sent[..3].to_vec(), true));
    assert_eq!(page("limit=7").await, (sent.clone(), false));
    assert_eq!(page(&format!("limit=3&after={}", sent[2])).await, (sent[3..6].to_vec(), true));
    assert_eq!(page(&format!("limit=3&after={}", sent[3])).await, (sent[4..].to_vec(), false));
    assert_eq!(page(&format!("limit=2&before={}", sent[5])).await, (sent[3..5].to_vec(), true));
    assert_eq!(page(&format!("limit=2&before={}", sent[2])).await, (sent[..2].to_vec(), false));
    assert_eq!(page(&format!("after={}", sent[6])).await, (vec![], false));
}

#[tokio::test]
async fn items_have_the_keys_that_clients_need_and_no_content() {
    let door = Door::open().await;
    door.accepted(&email(json!({"html": "<p>x</p>", "scheduled_at": "in 1 hour"}))).await;
    let body = door.get("/emails").await.body;
    assert_eq!(body["object"], "list");
    let item = body["data"][0].as_object().unwrap();
    let mut keys: Vec<&str> = item.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "bcc",
        "cc",
        "created_at",
        "from",
        "id",
        "last_event",
        "message_id",
        "reply_to",
        "scheduled_at",
        "subject",
        "to",
    ];
    assert_eq!(keys, expected);
    assert_eq!(item["last_event"], "scheduled");
}

#[tokio::test]
async fn what_is_no_page_is_refused() {
    let door = Door::open().await;
    let id = door.accepted(&email(json!({}))).await;
    for query in
        ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=1&limit=2", &format!("after={id}&before={id}")]
    {
        door.get(&format!("/emails?{query}")).await.refused(422, "validation_error");
    }
    for query in ["after=x", "before=", "after=%00"] {
        door.get(&format!("/emails?{query}")).await.refused(422, "invalid_parameter");
    }
    assert_eq!(door.get("/emails?unknown=1").await.status, 200);
}
