//! One trace from the request to the 250, across processes, as a collector sees it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "each test program uses a part")]
#[path = "program/running.rs"]
mod running;
mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use running::{Folder, Running, client, facteur, json};
use serde_json::Value;
use support::outbox::{TestOutbox, email_to};
use tokio::net::TcpListener;

/// A collector of OTLP over HTTP that keeps what it gets, in the JSON form of the protocol.
#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<Value>>>,
    endpoint: String,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { endpoint, ..Self::default() };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Each span, with the process that it comes from.
    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap();
        let of = |request: &Value| -> Vec<Span> {
            let resource = &request["resourceSpans"][0];
            let (name, process) = (
                attribute(&resource["resource"], "service.name"),
                attribute(&resource["resource"], "process.pid"),
            );
            assert_eq!(name, "shop-mail");
            let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
            spans.iter().map(|span| Span { process: process.clone(), span: span.clone() }).collect()
        };
        bodies.iter().flat_map(of).collect()
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    if headers.get("x-tenant").is_none_or(|tenant| tenant != "a b") {
        return StatusCode::FORBIDDEN;
    }
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    collector.bodies.lock().unwrap().push(serde_json::to_value(request).unwrap());
    StatusCode::OK
}

/// The value of an attribute, as a text.
fn attribute(of: &Value, key: &str) -> String {
    let all = of["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == key).map(|one| &one["value"]);
    let value = found.and_then(|value| value.as_object()?.values().next().cloned()).unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Debug)]
struct Span {
    process: String,
    span: Value,
}

impl Span {
    fn text(&self, field: &str) -> &str {
        self.span[field].as_str().unwrap()
    }
}

/// The one span of this name in a trace.
fn one<'a>(spans: &'a [Span], trace: &str, name: &str) -> &'a Span {
    let found: Vec<&Span> =
        spans.iter().filter(|s| s.text("traceId") == trace && s.text("name") == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?} of {spans:#?}");
    found[0]
}

fn process(t: &TestOutbox, arguments: &[&str], http: u16, smtp: u16, endpoint: &str) -> Running {
    let (http, smtp) = (http.to_string(), smtp.to_string());
    let variables = [
        ("APP_ENV", "development"),
        ("DATABASE_URL", t.url()),
        ("HTTP_PORT", &http),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &smtp),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ("OTEL_SERVICE_NAME", "shop-mail"),
        // Spans are not a matter of the log's level.
        ("RUST_LOG", "warn"),
    ];
    Running::start(facteur(&Folder::new(), arguments, &variables))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn until_ready(port: u16) {
    let begun = Instant::now();
    let ready = || async {
        client()
            .get(format!("http://127.0.0.1:{port}/readyz"))
            .send()
            .await
            .is_ok_and(|a| a.status().is_success())
    };
    while !ready().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const MAIL: &str = r#"{"from":"Zora Sender <zora-sender@local.test>","to":"Zelda <zelda-private@local.test>","subject":"Zebra crossing","text":"Zephyr of the west"}"#;

/// Hands a mail over by HTTP, under a trace of the caller's.
async fn send(port: u16) {
    let request = client().post(format!("http://127.0.0.1:{port}/emails"));
    let request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let (status, answer) = json(request.header("content-type", "application/json").body(MAIL)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn ends(mut process: Running) -> (Duration, String) {
    process.interrupt();
    let ended = tokio::task::spawn_blocking(move || {
        let (status, took) = process.wait();
        let log = process.log();
        assert!(status.success(), "{log}");
        (took, log)
    });
    ended.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_from_the_request_to_the_250_across_processes() {
    let (t, collector) = (TestOutbox::new().await, Collector::start().await);
    let refusing =
        Script::new().at(Stage::Rcpt, Fault::reply(550, "5.1.1 untraced")).for_recipient("untraced@x.test");
    let server = SmtpServer::start(refusing).await.unwrap();
    let (http, smtp) = (free_port(), server.addr().port());
    let door = process(&t, &["serve", "--no-worker"], http, smtp, &collector.endpoint);
    until_ready(http).await;
    send(http).await;
    let worker = process(&t, &["worker"], 0, smtp, &collector.endpoint);
    server.wait_for(1).await;
    // Handed over by a program that traces nothing, and after the other, which so has its own connection.
    t.enqueue(email_to("untraced@x.test")).await;
    server.wait_until(|server| server.counters().mails == 2).await;
    // At once: what was not sent yet is sent at the end.
    let (_, log) = ends(worker).await;
    assert!(!log.contains("spans were lost") && !log.contains("panicked"), "{log}");
    ends(door).await;

    let spans = collector.spans();
    let one = |name: &str| one(&spans, TRACE, name);
    let chain = ["POST /emails", "enqueue", "attempt", "send"];
    let mut parent = CALLER.to_owned();
    for name in chain {
        assert_eq!(one(name).text("parentSpanId"), parent, "{name} in {spans:#?}");
        parent = one(name).text("spanId").to_owned();
    }
    for stage in ["smtp connect", "smtp envelope", "smtp content", "smtp end-of-data"] {
        assert_eq!(one(stage).text("parentSpanId"), parent, "{stage}");
    }
    assert_eq!(attribute(&one("smtp end-of-data").span, "code"), "250");
    assert!(one("send").span.to_string().contains(r#"{"intValue":"250"}"#), "codes are numbers: {spans:#?}");
    assert_eq!(attribute(&one("POST /emails").span, "http.response.status_code"), "200");
    assert_eq!(attribute(&one("attempt").span, "state"), "sent");
    assert_ne!(attribute(&one("enqueue").span, "email"), "");
    assert_eq!(attribute(&one("attempt").span, "email"), attribute(&one("enqueue").span, "email"));
    assert_ne!(one("POST /emails").process, one("attempt").process);
    assert_eq!([2, 4, 5, 3].map(Value::from), chain.map(|name| one(name).span["kind"].clone()));
    for span in &spans {
        let time = |field: &str| span.text(field).parse::<u64>().unwrap();
        assert!(time("endTimeUnixNano") >= time("startTimeUnixNano"), "{span:?}");
    }

    let others: Vec<&Span> = spans.iter().filter(|span| span.text("traceId") != TRACE).collect();
    let own = others.iter().find(|span| span.text("name") == "attempt").expect("a trace of its own");
    assert_eq!(own.text("parentSpanId"), "");
    let refused = others.iter().find(|span| span.text("name") == "send").expect("it was tried");
    assert_eq!(
        (&refused.span["status"]["code"], attribute(&refused.span, "code")),
        (&Value::from(2), "550".into())
    );
    assert_ne!(one("send").span["status"]["code"], 2);
    assert!(!others.iter().any(|span| span.text("name").contains("readyz")), "probes are not traced");

    let kept = Value::from(collector.bodies.lock().unwrap().clone()).to_string();
    for private in ["zelda", "Zelda", "zora", "Zora", "Zebra", "Zephyr", "untraced", "@"] {
        assert!(!kept.contains(private), "{private} is in the spans");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_hinders_no_mail_and_no_end() {
    // Takes connections and never answers; and a port where nobody is.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (port, is_away) in [(silent.local_addr().unwrap().port(), false), (free_port(), true)] {
        let t = TestOutbox::new().await;
        let server = SmtpServer::start(Script::new()).await.unwrap();
        let http = free_port();
        let both = process(&t, &["serve"], http, server.addr().port(), &format!("http://127.0.0.1:{port}"));
        until_ready(http).await;
        for _ in 0..5 {
            send(http).await;
        }
        server.wait_for(5).await;
        let (took, log) = ends(both).await;
        assert!(took < Duration::from_secs(10), "{took:?}");
        let lost = log.contains("spans were lost");
        assert!(lost || !is_away && log.contains("could not be sent in time"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        assert!(!log.contains("127.0.0.1:") || !log.contains("v1/traces"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_keeps_no_trace_is_heeded() {
    let (t, collector) = (TestOutbox::new().await, Collector::start().await);
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let http = free_port();
    let both = process(&t, &["serve"], http, server.addr().port(), &collector.endpoint);
    until_ready(http).await;
    let request = client().post(format!("http://127.0.0.1:{http}/api/test-email?to=ada@local.test"));
    let (status, _) = json(request.header("traceparent", format!("00-{TRACE}-{CALLER}-00"))).await;
    assert_eq!(status, 202);
    server.wait_for(1).await;
    ends(both).await;
    assert_eq!(collector.spans().len(), 0, "it said that nobody keeps it");
    let stored = t.text("SELECT traceparent FROM facteur.emails").await;
    assert!(stored.starts_with(&format!("00-{TRACE}-")) && stored.ends_with("-00"), "{stored}");
}
