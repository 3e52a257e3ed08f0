//! Sizes, rates and times.

use std::num::NonZeroU32;
use std::time::Duration;

use facteur::http::Role;
use facteur::settings::Limits;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::door::{Door, answer, email};

#[tokio::test]
async fn a_rate_is_told_on_every_answer_and_held() {
    let door = Door::limited(3).await;
    let token = door.token(Role::System, Some("shop"), &[]);
    let get = |path: &str| door.request(Method::GET, path).bearer_auth(&token);
    let first = answer(get("/emails")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-limit"), Some("3"));
    assert_eq!(first.header("ratelimit-remaining"), Some("2"));
    assert_eq!(first.header("ratelimit-reset"), Some("1"));
    assert_eq!(first.header("ratelimit-policy"), Some("3;w=1"));
    let mut last = answer(get("/nowhere")).await;
    assert_eq!((last.status, last.header("ratelimit-limit")), (404, Some("3")));
    while last.status != 429 {
        last = answer(get("/emails")).await;
    }
    last.refused(429, "rate_limit_exceeded");
    assert_eq!(last.header("retry-after"), Some("1"));
    assert_eq!(last.header("ratelimit-remaining"), Some("0"));
    let other = door.token(Role::System, Some("blog"), &[]);
    assert_eq!(answer(door.request(Method::GET, "/emails").bearer_auth(&other)).await.status, 200);
    for _ in 0..5 {
        assert_eq!(door.get("/healthz").await.status, 200, "probes are not counted");
    }
}

#[tokio::test]
async fn who_has_no_token_is_counted_by_what_the_trusted_proxy_saw() {
    let limits = |trusted_hops| Limits { rate: NonZeroU32::new(2), trusted_hops, ..Limits::open() };
    let behind = Door::with(limits(1), false).await;
    let knock = |door: &Door, forwarded: &str| {
        answer(door.request(Method::GET, "/emails").header("x-forwarded-for", forwarded))
    };
    // Whatever a caller writes before what our proxy adds, it is the same caller.
    let mut forged = 0;
    while knock(&behind, &format!("198.51.100.{forged}, 203.0.113.7")).await.status != 429 {
        forged += 1;
        assert!(forged < 100, "a forged header buys no more requests");
    }
    assert_eq!(knock(&behind, "203.0.113.7, 203.0.113.8").await.status, 401, "another caller has its own");

    let alone = Door::with(limits(0), false).await;
    let mut forged = 0;
    while knock(&alone, &format!("198.51.100.{forged}")).await.status != 429 {
        forged += 1;
        assert!(forged < 100, "without a proxy no header is believed");
    }
}

#[tokio::test]
async fn nobodys_mailbox_is_filled_with_test_mails() {
    let door = Door::guarded().await;
    let token = door.token(Role::Admin, None, &[]);
    let test = |to: &str| {
        answer(door.request(Method::POST, &format!("/api/test-email?to={to}")).bearer_auth(&token))
    };
    for _ in 0..5 {
        assert_eq!(test("a@x.test").await.status, 202);
    }
    let refused = test("a@x.test").await;
    refused.refused(429, "rate_limit_exceeded");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(test("b@x.test").await.status, 202);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_declared_or_chunked() {
    let door = Door::open().await;
    let body = vec![b' '; 64_000_000];
    let post = || door.request(Method::POST, "/emails").header("content-type", "application/json");
    answer(post().body(body.clone())).await.refused(413, "payload_too_large");
    let chunks = futures_util::stream::iter(
        body.chunks(1 << 20).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    answer(post().body(reqwest::Body::wrap_stream(chunks))).await.refused(413, "payload_too_large");
    let file = "A".repeat(36_000_000);
    let heavy = email(json!({"attachments": [{"filename": "a", "content": file}]}));
    let text = door.refused(&heavy, 422, "validation_error").await;
    assert!(text.contains("the most is 26214400"), "{text}");
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn twenty_five_megabytes_arrive_whole() {
    let door = Door::open().await;
    let file = "QUJD".repeat(25_000_000 / 3);
    door.accepted(&email(json!({"attachments": [{"filename": "a", "content": file}]}))).await;
    let size = door.t.number("SELECT octet_length(content)::bigint FROM facteur.attachments").await;
    assert_eq!(size, 24_999_999);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up_while_others_are_served() {
    let limits = Limits { request_timeout: Duration::from_millis(300), ..Limits::open() };
    let door = Door::with(limits, true).await;
    let mut slow = TcpStream::connect(door.base.trim_start_matches("http://")).await.unwrap();
    let head =
        "POST /emails HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    door.accepted(&email(json!({}))).await;
    let mut text = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), async {
        while !text.contains("request_timeout") {
            let mut bytes = [0; 1_024];
            let n = slow.read(&mut bytes).await.unwrap();
            assert_ne!(n, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    });
    read.await.unwrap();
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert_eq!(door.t.states().await, "queued 1");
}

#[tokio::test]
async fn every_error_is_json() {
    let door = Door::open().await;
    answer(door.request(Method::DELETE, "/emails")).await.refused(405, "method_not_allowed");
    answer(door.request(Method::PUT, "/emails/batch")).await.refused(405, "method_not_allowed");
    door.get("/").await.refused(404, "not_found");
    door.get("/emails/%ff").await.refused(422, "invalid_parameter");
}
