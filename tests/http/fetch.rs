//! Attachments by `path`, from real servers, some of which mean no good.

use std::sync::Arc;
use std::time::Duration;

use facteur::http::{Fetcher, Internet};
use facteur::settings::{Fetching, Limits};
use facteur::testing::{Identity, TestAuthority};
use reqwest::Method;
use serde_json::{Value, json};

use crate::door::{Door, answer, email};
use crate::file_server::{FileServer, Net, Reply, moved, ok, production};

fn with_file(file: Value) -> Value {
    email(json!({"attachments": [file]}))
}

fn at(path: &str) -> Value {
    with_file(json!({"path": path}))
}

/// Who certifies `files.test`, and its certificate.
fn certified() -> (TestAuthority, Identity) {
    let authority = TestAuthority::new().unwrap();
    let identity = authority.issue("files.test").unwrap();
    (authority, identity)
}

/// A door with production's rules, and `files.test`, which answers so.
async fn open(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Door, FileServer) {
    let (authority, identity) = certified();
    let server = FileServer::start("127.0.0.2", Some(&identity), answer).await;
    let net = Net::of(&[("files.test", &[server.at])]);
    (Door::fetching(net.fetcher(&authority)).await, server)
}

async fn refused(door: &Door, path: &str) -> String {
    let text = door.refused(&at(path), 422, "invalid_attachment").await;
    assert!(text.starts_with("attachments[0].path "), "{path}: {text}");
    assert!(!text.contains("SECRET"), "{path}: {text}");
    text
}

#[tokio::test]
async fn a_file_is_fetched_before_its_email_is_accepted_and_kept_with_it() {
    let content: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let body = content.clone();
    let (door, server) =
        open(move |_| ok("Content-Type: application/pdf\r\nSet-Cookie: a=b\r\n", &body)).await;
    let id = door.accepted(&at("https://files.test/orders/order%207.pdf?sig=SECRET")).await;
    let head = server.seen().concat();
    assert!(head.starts_with("GET /orders/order%207.pdf?sig=SECRET HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\nhost: files.test\r\n"), "{head}");
    for not_told in ["authorization", "cookie", "referer"] {
        assert!(!head.to_lowercase().contains(not_told), "{head}");
    }
    drop(server);
    let files = door.get(&format!("/emails/{id}/attachments")).await.body;
    assert_eq!(files["data"][0]["filename"], "order 7.pdf");
    assert_eq!(files["data"][0]["content_type"], "application/pdf");
    assert_eq!(files["data"][0]["size"], 300_000);
    let stored = door.request(Method::GET, &format!("/emails/{id}/attachments/0/content"));
    assert_eq!(stored.send().await.unwrap().bytes().await.unwrap(), content);
}

#[tokio::test]
async fn the_callers_words_on_a_file_come_first_then_the_servers_then_its_name() {
    let (door, _server) = open(|head| {
        let kind = match head {
            head if head.contains("/typed") => "Content-Type: text/csv; charset=utf-8\r\n",
            head if head.contains("/odd") => "Content-Type: n\u{f6}nsense\r\n",
            _ => "Content-Type: application/octet-stream\r\n",
        };
        ok(kind, b"Hello")
    })
    .await;
    for (file, name, kind) in [
        (json!({"path": "https://files.test/typed/a.bin"}), "a.bin", "text/csv; charset=utf-8"),
        (json!({"path": "https://files.test/plain/a.png"}), "a.png", "image/png"),
        (json!({"path": "https://files.test/odd/a.pdf"}), "a.pdf", "application/pdf"),
        (json!({"path": "https://files.test/"}), "attachment", "application/octet-stream"),
        (json!({"path": "https://files.test/a%0D%0Ab"}), "attachment", "application/octet-stream"),
        (json!({"path": "https://files.test/x/..%2F..%2Fpasswd"}), "passwd", "application/octet-stream"),
        (json!({"path": "https://files.test/plain/a.png", "filename": "logo.gif"}), "logo.gif", "image/gif"),
        (
            json!({"path": "https://files.test/typed/a", "filename": "b", "content_type": "image/webp"}),
            "b",
            "image/webp",
        ),
        (
            json!({"path": "https://files.test/a", "content": [], "content_id": "logo"}),
            "a",
            "application/octet-stream",
        ),
    ] {
        let id = door.accepted(&with_file(file.clone())).await;
        let found = door.get(&format!("/emails/{id}/attachments/0")).await.body;
        assert_eq!((&found["filename"], &found["content_type"]), (&json!(name), &json!(kind)), "{file}");
        assert_eq!(found["size"], 5);
        assert_eq!(found["content_id"], file["content_id"]);
    }
}

#[tokio::test]
async fn what_is_not_a_public_https_address_is_refused_and_nobody_is_asked() {
    let (authority, _) = certified();
    let inside = FileServer::start("127.0.0.1", None, |_| ok("", b"SECRET")).await;
    let net = Net::of(&[
        ("inside.test", &[inside.at]),
        ("metadata.test", &["169.254.169.254:80".parse().unwrap()]),
        ("mapped.test", &["[::ffff:10.0.0.1]:443".parse().unwrap()]),
    ]);
    let door = Door::fetching(net.fetcher(&authority)).await;
    let not_found = refused(&door, "https://nowhere.test/a").await;
    for path in ["https://inside.test/a", "https://metadata.test/latest", "https://mapped.test/"] {
        assert_eq!(refused(&door, path).await, not_found, "what is closed is told as what is not there");
    }
    let port = inside.at.port();
    for (path, says) in [
        ("", "must be the address of a file"),
        ("order.pdf", "must be the address of a file"),
        ("file:///etc/passwd", "must be the address of a file"),
        ("http://files.test/a", "must begin with https://"),
        ("https://user:SECRET@files.test/a", "must not hold a user name"),
        (&format!("https://inside.test:{port}/"), "must not name a port"),
        ("https://127.0.0.1/", "has a host that is not found"),
        ("https://[::1]/", "has a host that is not found"),
        ("https://2852039166/latest/meta-data/", "has a host that is not found"),
        ("https://[64:ff9b::a9fe:a9fe]/", "has a host that is not found"),
    ] {
        let text = refused(&door, path).await;
        assert!(text.contains(says), "{path}: {text}");
    }
    assert_eq!(inside.seen().len(), 0);
    assert_eq!(door.t.states().await, "none");
}

/// What is checked is what is connected to: a name that is public when it is first asked for, and this machine's the
/// next time, is asked for once.
#[tokio::test]
async fn a_name_that_moves_between_two_questions_leads_nowhere_else() {
    let (authority, identity) = certified();
    let outside = FileServer::start("127.0.0.2", Some(&identity), |_| ok("", b"public")).await;
    let inside = FileServer::start("127.0.0.1", Some(&identity), |_| ok("", b"SECRET")).await;
    let net = Net::of(&[("files.test", &[outside.at, inside.at])]);
    let door = Door::fetching(net.fetcher(&authority)).await;
    for _ in 0..10 {
        door.accepted(&at("https://files.test/a")).await;
        refused(&door, "https://files.test/a").await;
    }
    assert_eq!((outside.seen().len(), inside.seen().len()), (10, 0));
    assert_eq!(net.asked.lock().unwrap().len(), 20, "each connection is one question");
    let stored = "SELECT count(*) FROM facteur.attachments WHERE content = 'public'";
    assert_eq!(door.t.number(stored).await, 10);
}

#[tokio::test]
async fn a_redirect_is_held_to_the_same_rules() {
    let (authority, identity) = certified();
    let store = authority.issue("store.test").unwrap();
    let inside = FileServer::start("127.0.0.1", None, |_| ok("", b"SECRET")).await;
    let port = inside.at.port();
    let files = FileServer::start("127.0.0.2", Some(&identity), move |head| match head {
        head if head.contains("/away") => moved("https://store.test/b.pdf?sig=1"),
        head if head.contains("/beside") => moved("/c.pdf"),
        head if head.contains("/c.pdf") => ok("", b"beside"),
        head if head.contains("/round") => moved("/round"),
        head if head.contains("/inside") => moved("https://inside.test/"),
        head if head.contains("/number") => moved("https://127.0.0.1/"),
        head if head.contains("/plain") => moved("http://store.test/b.pdf"),
        head if head.contains("/port") => moved(&format!("https://store.test:{port}/")),
        head if head.contains("/login") => moved("https://user:SECRET@store.test/"),
        head if head.contains("/file") => moved("file:///etc/passwd"),
        _ => Reply::Bytes(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
    })
    .await;
    let other = FileServer::start("127.0.0.3", Some(&store), |_| ok("", b"away")).await;
    let net =
        Net::of(&[("files.test", &[files.at]), ("store.test", &[other.at]), ("inside.test", &[inside.at])]);
    let door = Door::fetching(net.fetcher(&authority)).await;
    for (path, content) in [("away", "away"), ("beside", "beside")] {
        let id = door.accepted(&at(&format!("https://files.test/{path}"))).await;
        let stored = door.request(Method::GET, &format!("/emails/{id}/attachments/0/content"));
        assert_eq!(stored.send().await.unwrap().text().await.unwrap(), content);
    }
    let before = files.seen().len();
    refused(&door, "https://files.test/round").await;
    assert_eq!(files.seen().len(), before + 4, "three redirects are followed");
    for path in ["inside", "number", "plain", "port", "login", "file", "nowhere"] {
        refused(&door, &format!("https://files.test/{path}")).await;
    }
    assert_eq!((inside.seen().len(), other.seen().len()), (0, 1));
    assert_eq!(door.t.states().await, "queued 2");
}

#[tokio::test]
async fn a_server_that_means_no_good_is_refused_in_our_words() {
    let (door, server) = open(|head| match head {
        head if head.contains("/missing") => {
            Reply::Bytes(b"HTTP/1.1 404 SECRET\r\nX-A: SECRET\r\nContent-Length: 6\r\n\r\nSECRET".to_vec())
        }
        head if head.contains("/partial") => {
            Reply::Bytes(b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx".to_vec())
        }
        head if head.contains("/short") => {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nSECRET".to_vec())
        }
        head if head.contains("/huge") => {
            Reply::Stuck(b"HTTP/1.1 200 OK\r\nContent-Length: 40000001\r\n\r\n".to_vec())
        }
        head if head.contains("/packed") => ok("Content-Encoding: gzip\r\n", b"SECRET"),
        head if head.contains("/endless") => Reply::Endless,
        head if head.contains("/wrapped") => ok("", &vec![b'x'; 26_214_400]),
        _ => Reply::Bytes(b"SECRET\r\n\r\n".to_vec()),
    })
    .await;
    for (path, says) in [
        ("missing", "answers with status 404"),
        ("partial", "answers with status 206"),
        ("short", "broke off"),
        ("huge", "at most 40000000 bytes"),
        ("endless", "at most 40000000 bytes"),
        ("packed", "compressed"),
        ("nonsense", "broke off"),
    ] {
        let text = refused(&door, &format!("https://files.test/{path}")).await;
        assert!(text.contains(says), "{path}: {text}");
    }
    // All of it together is the e-mail's own limit.
    let text = door.refused(&at("https://files.test/wrapped"), 422, "validation_error").await;
    assert!(text.starts_with("the e-mail is 26214411 bytes long"), "{text}");
    assert_eq!(server.seen().len(), 8, "nothing is asked for twice");
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_refused() {
    let (authority, _) = certified();
    for identity in [
        authority.issue("other.test").unwrap(),
        authority.issue_expired("files.test").unwrap(),
        Identity::self_signed("files.test").unwrap(),
        TestAuthority::new().unwrap().issue("files.test").unwrap(),
    ] {
        let server = FileServer::start("127.0.0.2", Some(&identity), |_| ok("", b"x")).await;
        let net = Net::of(&[("files.test", &[server.at])]);
        let door = Door::fetching(net.fetcher(&authority)).await;
        let text = refused(&door, "https://files.test/a").await;
        assert!(text.contains("whose certificate is not accepted"), "{text}");
        assert_eq!(server.seen().len(), 0);
    }
}

#[tokio::test]
async fn a_server_that_stands_still_does_not_hold_the_request() {
    let (authority, identity) = certified();
    let server = FileServer::start("127.0.0.2", Some(&identity), |head| match head {
        head if head.contains("/silent") => Reply::Stuck(Vec::new()),
        _ => Reply::Stuck(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx".to_vec()),
    })
    .await;
    let net = Net::of(&[("files.test", &[server.at])]);
    let rules = Fetching { patience: Duration::from_secs(1), ..production() };
    let fetcher = Fetcher::reaching(rules, net, authority.roots().unwrap());
    let door = Door::fetching(fetcher).await;
    let text = refused(&door, "https://files.test/silent").await;
    assert!(text.contains("must arrive within 1 s"), "{text}");
    // One second for all of them.
    let many: Vec<Value> = (0..20).map(|i| json!({"path": format!("https://files.test/half/{i}")})).collect();
    let begun = std::time::Instant::now();
    let text = door.refused(&email(json!({"attachments": many})), 422, "invalid_attachment").await;
    assert!(text.starts_with("attachments[0].path takes too long"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(door.t.states().await, "none");
}

#[tokio::test]
async fn a_repeated_key_fetches_nothing() {
    let (door, server) = open(|_| ok("", b"Hello")).await;
    let send = |path: &'static str, key: &'static str, body: Value| {
        answer(door.request(Method::POST, path).header("idempotency-key", key).json(&body))
    };
    let body = at("https://files.test/a");
    let first = send("/emails", "k", body.clone()).await;
    let again = send("/emails", "k", body.clone()).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "{}", again.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    send("/emails", "k", at("https://files.test/b")).await.refused(409, "invalid_idempotent_request");
    assert_eq!(server.seen().len(), 1);
    let batch = json!([body, email(json!({}))]);
    let first = send("/emails/batch", "k", batch.clone()).await;
    let again = send("/emails/batch", "k", batch.clone()).await;
    assert_eq!((first.status, &again.body), (200, &first.body), "{}", first.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    send("/emails/batch", "k", json!([body])).await.refused(409, "invalid_idempotent_request");
    assert_eq!(server.seen().len(), 2);
    assert_eq!(door.t.states().await, "queued 3");
}

#[tokio::test]
async fn a_batch_fetches_a_file_once_and_what_it_lacks_is_named() {
    let (door, server) = open(|head| match head {
        head if head.contains("/missing") => {
            Reply::Bytes(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        head if head.contains("/large") => ok("", &vec![b'x'; 20_000_000]),
        _ => ok("", b"Hello"),
    })
    .await;
    let batch = |mode: &'static str, body: Value| {
        answer(
            door.request(Method::POST, "/emails/batch")
                .header("x-batch-validation", mode)
                .header("idempotency-key", body.to_string().len().to_string())
                .json(&body),
        )
    };
    let (good, bad) = (at("https://files.test/a"), at("https://files.test/missing"));
    let all = batch("strict", json!(vec![good.clone(); 100])).await;
    assert_eq!(all.body["data"].as_array().unwrap().len(), 100, "{}", all.body);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(door.t.number("SELECT count(*) FROM facteur.attachments WHERE content = 'Hello'").await, 100);
    let text = batch("strict", json!([good, bad, good])).await.refused(422, "invalid_attachment");
    assert!(text.starts_with("emails[1]: attachments[0].path is not to be had"), "{text}");
    assert_eq!(door.t.states().await, "queued 100");
    // The first that is left carries the key of all.
    let some = json!([bad, good, email(json!({"to": "nobody"})), good]);
    let answered = batch("permissive", some.clone()).await;
    assert_eq!(answered.body["data"].as_array().unwrap().len(), 2, "{}", answered.body);
    let indexes: Vec<u64> =
        answered.body["errors"].as_array().unwrap().iter().map(|e| e["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [0, 2]);
    assert_eq!(batch("permissive", some).await.header("idempotent-replayed"), Some("true"));
    assert_eq!(door.t.states().await, "queued 102");
    // What one file is to several counts as often.
    let text = batch("strict", json!(vec![at("https://files.test/large"); 3])).await;
    let text = text.refused(422, "invalid_attachment");
    assert!(text.starts_with("emails[2]: attachments[0].path is too large"), "{text}");
}

#[tokio::test]
async fn this_machine_is_fetched_from_in_development_if_it_is_said() {
    let server = FileServer::start("127.0.0.1", None, |_| ok("", b"Hello")).await;
    let path = format!("http://{}/a.txt", server.at);
    let rules = Limits::open().fetching;
    let closed = Door::fetching(Fetcher::new(rules)).await;
    refused(&closed, &path).await;
    assert_eq!(server.seen().len(), 0);
    let said = Fetching { loopback: true, ..rules };
    let open = Door::fetching(Fetcher::new(said)).await;
    open.accepted(&at(&path)).await;
    open.accepted(&at(&path.replace("127.0.0.1", "localhost"))).await;
    assert_eq!(server.seen().len(), 2);
    let reach = Arc::new(Internet { loopback: true });
    let strict = Fetcher::reaching(production(), reach, TestAuthority::new().unwrap().roots().unwrap());
    let text = refused(&Door::fetching(strict).await, &path).await;
    assert!(text.contains("must begin with https://"), "{text}");
}
