//! Files, in every shape and back.

use mail_parser::MessageParser;
use serde_json::{Value, json};

use crate::door::{Door, email};

/// Every byte.
fn bytes() -> Vec<u8> {
    (0..=255).collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = ALPHABET[(number >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(sextet) } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn each_shape_gives_the_same_bytes_on_the_way_out() {
    let door = Door::open().await;
    let shapes = [json!(base64(&bytes())), json!(bytes()), json!({"type": "Buffer", "data": bytes()})];
    let files: Vec<Value> =
        shapes.iter().map(|content| json!({"filename": "all.bin", "content": content})).collect();
    let id = door.accepted(&email(json!({"attachments": files}))).await;
    let emails = door.t.outbox.load(&[id.parse().unwrap()]).await.unwrap();
    let mime = emails[&id.parse().unwrap()].render().unwrap();
    let message = MessageParser::default().parse(&mime).unwrap();
    let contents: Vec<&[u8]> = message.attachments().map(|part| part.contents()).collect();
    assert_eq!(contents, [bytes(), bytes(), bytes()]);
}

#[tokio::test]
async fn both_spellings_of_type_and_id_are_read() {
    let door = Door::open().await;
    let id = door
        .accepted(&email(json!({"html": "<img src=\"cid:logo\">", "attachments": [
            {"filename": "a.csv", "content": "AAE=", "content_type": "text/csv"},
            {"filename": "../../etc/b.csv", "content": "AAE=", "contentType": "text/csv"},
            {"filename": "logo.png", "content": "AAE=", "content_id": "logo"},
            {"filename": "seal.png", "content": "AAE=", "inline_content_id": "seal"},
            {"filename": false, "content": "AAE="},
        ]})))
        .await;
    let listed = door.get(&format!("/emails/{id}/attachments")).await.body;
    assert_eq!((&listed["object"], &listed["has_more"]), (&json!("list"), &json!(false)));
    let data = listed["data"].as_array().unwrap();
    let column = |name: &str| data.iter().map(|file| file[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("filename"), ["a.csv", "b.csv", "logo.png", "seal.png", "attachment"]);
    assert_eq!(column("content_type")[..3], ["text/csv", "text/csv", "image/png"]);
    assert_eq!(column("content_id"), [json!(null), json!(null), json!("logo"), json!("seal"), json!(null)]);
    assert_eq!(column("content_disposition")[1..3], ["attachment", "inline"]);
    assert_eq!(column("size"), vec![json!(2); 5]);
}

#[tokio::test]
async fn a_file_is_downloaded_as_it_came_and_never_shown() {
    let door = Door::open().await;
    let file = json!({"filename": "été.html", "content": bytes(), "content_type": "text/html"});
    let id = door.accepted(&email(json!({"attachments": [file]}))).await;
    let one = door.get(&format!("/emails/{id}/attachments/0")).await.body;
    assert_eq!((&one["object"], &one["size"]), (&json!("attachment"), &json!(256)));
    let url = one["download_url"].as_str().unwrap();
    assert!(url.starts_with(&door.base), "{url}");
    let got = door.client.get(url).send().await.unwrap();
    let header = |name: &str| got.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''%C3%A9t%C3%A9.html");
    assert_eq!(got.bytes().await.unwrap(), bytes());
    for missing in ["1", "-1", "x", "99999999999"] {
        door.get(&format!("/emails/{id}/attachments/{missing}")).await.refused(404, "not_found");
        door.get(&format!("/emails/{id}/attachments/{missing}/content")).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_file_that_is_refused_is_named() {
    let door = Door::open().await;
    for (file, says) in [
        (json!({"filename": "a"}), "attachments[0] must have a `content`"),
        (json!({"path": "ftp://x.test/a.pdf"}), "attachments[0].path must be"),
        (json!({"filename": "a", "content": "no base64!"}), "attachments[0].content must be"),
        (json!({"filename": "a", "content": [256]}), "attachments[0].content must be"),
        (json!({"filename": "a\r\nb", "content": ""}), "attachments[0] has a file name"),
        (json!({"filename": "..", "content": ""}), "attachments[0] needs a file name"),
        (json!({"filename": "a", "content": "", "content_type": "x"}), "attachments[0] has a content type"),
        (json!({"filename": "a", "content": "", "content_id": "a>b"}), "attachments[0] has a content id"),
    ] {
        let text = door.refused(&email(json!({"attachments": [file]})), 422, "invalid_attachment").await;
        assert!(text.starts_with(says), "{file}: {text}");
    }
    door.refused(&email(json!({"attachments": {}})), 422, "validation_error").await;
    assert_eq!(door.t.states().await, "none");
}
