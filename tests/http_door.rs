//! The HTTP door over a real socket: development, and production with its tokens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use facteur::http::{self, Access, Api, Readiness, Role, mint};
use facteur::settings::JwtKey;
use facteur::telemetry::Exposition;
use facteur::{Outbox, email::EmailId};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use support::outbox::TestOutbox;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

struct Door {
    base: String,
    client: Client,
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    content_type: String,
    body: Value,
}

impl Door {
    async fn open(outbox: Outbox, access: Access) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let api = Api {
            outbox,
            access,
            sender: "noreply@local.test".into(),
            readiness: Readiness::default(),
            metrics: Exposition::default(),
            limits: facteur::settings::Limits::open(),
        };
        tokio::spawn(async move { axum::serve(listener, http::router(api)).await });
        Self { base, client: Client::builder().no_proxy().build().unwrap() }
    }

    async fn call(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (status, location) = (answer.status(), header("location"));
        let content_type = header("content-type").unwrap_or_default();
        let body = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null);
        Answer { status, location, content_type, body }
    }

    async fn post(&self, path: &str) -> Answer {
        self.call(Method::POST, path, None).await
    }
}

/// Every error has the one shape, whatever refused.
fn assert_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(answer.content_type, "application/json");
    assert_eq!(answer.body["statusCode"], status);
    assert!(answer.body["message"].is_string() && answer.body["name"].is_string(), "{}", answer.body);
}

#[tokio::test]
async fn in_development_a_test_mail_needs_no_token_and_no_body() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let answer = door.post("/api/test-email?to=test@local.test").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.content_type, "application/json");
    assert_eq!(answer.body["status"], "queued");
    assert_eq!(answer.body["to"], "test@local.test");
    let id: EmailId = answer.body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(answer.location, Some(format!("/emails/{id}")));
    assert_eq!(t.text("SELECT recipient FROM facteur.deliveries").await, "test@local.test");

    let shown = door.call(Method::GET, &format!("/emails/{id}"), None).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert_eq!(shown.body["last_event"], "queued");
    assert_eq!(shown.body["to"][0], "test@local.test");
    assert!(shown.body["html"].as_str().unwrap().contains("It works."));
}

#[tokio::test]
async fn what_is_refused_is_named_and_nothing_is_queued() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    for query in [
        "",
        "?to=",
        "?to=nobody",
        "?to=a@x.test&to=b@x.test",
        "?to=a%0d%0aBcc:e@x.test",
        "?to=a@x.test%0d%0aBcc:e@x",
        "?to=a+b@x.test",
        "?to=%FF@x.test",
        "?to=Ada%20%3Ca@x.test%3E",
    ] {
        let answer = door.post(&format!("/api/test-email{query}")).await;
        assert_error(&answer, 422);
        assert!(answer.body["message"].as_str().unwrap().starts_with("to "), "{query}: {}", answer.body);
    }
    assert_error(&door.post("/api/test-email?to=a@x.test&cc=b@x.test").await, 422);
    assert_error(&door.call(Method::GET, "/api/test-email?to=a@x.test", None).await, 405);
    assert_error(&door.post("/nowhere").await, 404);
    assert_error(&door.call(Method::GET, "/emails/not-an-id", None).await, 422);
    let unknown = "/emails/01a20465-e8e1-77c8-8dd7-5f3c3711aa36";
    assert_error(&door.call(Method::GET, unknown, None).await, 404);
    assert_eq!(t.states().await, "none");
}

#[tokio::test]
async fn in_production_a_token_of_role_admin_or_system_is_needed() {
    let t = TestOutbox::new().await;
    let secret = "q8Jw2ZrT5yVbN1mKc4LxP7sDf0GhA3eU";
    let key = JwtKey::new(secret.to_owned().into()).expect("a good key");
    let other = JwtKey::new("Zk3Wq9LmT2xRb7VcYp5NsJd8FhGa4Ue6".to_owned().into()).expect("a good key");
    let door = Door::open(t.outbox.clone(), Access::Bearer(key.clone())).await;
    let now = OffsetDateTime::now_utc();
    let hour = time::Duration::HOUR;
    let bearer = |key, at| format!("Bearer {}", mint(key, Role::Admin, hour, at).unwrap());
    let path = "/api/test-email?to=test@local.test";

    let stale = bearer(&key, now - 2 * hour);
    let foreign = bearer(&other, now);
    let mut refusals = Vec::new();
    for token in
        [None, Some("Bearer"), Some("Bearer x.y.z"), Some("Basic YTpi"), Some(&*stale), Some(&*foreign)]
    {
        let answer = door.call(Method::POST, path, token).await;
        assert_error(&answer, 401);
        refusals.push(answer.body);
    }
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "one body for every cause: {refusals:?}");

    assert_error(&door.call(Method::POST, path, Some(&with_role(secret, "viewer", now))).await, 403);
    assert_error(&door.call(Method::POST, path, Some(&with_role(secret, "Admin", now))).await, 403);
    assert_error(&door.call(Method::GET, "/emails/01a20465-e8e1-77c8-8dd7-5f3c3711aa36", None).await, 401);
    assert_eq!(t.states().await, "none", "nothing was queued so far");

    for role in [Role::Admin, Role::System] {
        let token = format!("Bearer {}", mint(&key, role, hour, now).unwrap());
        assert_eq!(
            door.call(Method::POST, path, Some(&token)).await.status,
            StatusCode::ACCEPTED,
            "{role:?}"
        );
    }
    let localhost =
        door.call(Method::POST, "/api/test-email?to=me@localhost", Some(&bearer(&key, now))).await;
    assert_error(&localhost, 422);
    assert_eq!(t.states().await, "queued 2");
}

/// A token that holds, with a role of one's own.
fn with_role(secret: &str, role: &str, now: OffsetDateTime) -> String {
    let claims = serde_json::json!({
        "iss": "facteur", "aud": "facteur", "role": role,
        "iat": now.unix_timestamp(), "exp": now.unix_timestamp() + 3_600,
    });
    let encode = |bytes: &[u8]| base64_url(bytes);
    let message =
        format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, message.as_bytes());
    format!("Bearer {message}.{}", encode(tag.as_ref()))
}

fn base64_url(bytes: &[u8]) -> String {
    let standard = base64(bytes);
    standard.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(number >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

#[tokio::test]
async fn without_a_database_nothing_is_accepted() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&format!("postgres://nobody@{nobody}/none"))
        .unwrap();
    let door = Door::open(Outbox::new(pool), Access::Open).await;
    assert_error(&door.post("/api/test-email?to=test@local.test").await, 503);
    assert_error(&door.call(Method::GET, "/readyz", None).await, 503);
    assert_eq!(door.call(Method::GET, "/healthz", None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    door.post("/api/test-email?to=test@local.test").await;
    t.execute("UPDATE facteur.deliveries SET run_at = now() - interval '90 seconds'").await;
    let ready = door.call(Method::GET, "/readyz", None).await;
    assert_eq!(ready.status, StatusCode::OK);
    let waited = ready.body["oldest_due_seconds"].as_u64().unwrap();
    assert!((90..100).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_no_database_connection_along() {
    let t = TestOutbox::new().await;
    // The handler stops where it is being given its connection, and tells when it is dropped there.
    let (waiting, mut handlers) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    let pool = PgPoolOptions::new().max_connections(1).before_acquire(move |_, _| {
        let (go_on, gate) = oneshot::channel();
        waiting.send(go_on).unwrap();
        Box::pin(async move { Ok(gate.await.is_ok()) })
    });
    let pool = pool.connect(t.url()).await.unwrap();
    let door = Door::open(Outbox::new(pool), Access::Open).await;
    let mut client = TcpStream::connect(door.base.trim_start_matches("http://")).await.unwrap();
    let request = "POST /api/test-email?to=gone@local.test HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut handler = handlers.recv().await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let dropped = tokio::time::timeout(Duration::from_millis(500), handler.closed()).await;
    assert!(dropped.is_err(), "the handler was dropped while it was given a connection");
    handler.send(()).unwrap();
    let queued = async {
        while t.number("SELECT count(*) FROM facteur.deliveries").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), queued).await.unwrap();
    assert_eq!(t.text("SELECT recipient FROM facteur.deliveries").await, "gone@local.test");
}
