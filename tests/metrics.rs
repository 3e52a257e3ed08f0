//! What is counted, and `GET /metrics` over a real socket.
//!
//! Each test has a recorder of its own, in force on its own thread: the runtime of `#[tokio::test]` has no other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use facteur::Outbox;
use facteur::delivery::{Route, Shutdown, Tick, Worker};
use facteur::http::{self, Access, Api, Readiness, Role, mint};
use facteur::settings::{JwtKey, Pace, Way};
use facteur::telemetry::{DATABASE, Exposition, Family, Kind, PROCESS, recorder};
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::{Transport, smtp::SmtpTransport};
use metrics::{LocalRecorderGuard, set_default_local_recorder};
use reqwest::{Client, Response, StatusCode};
use sqlx::postgres::PgPoolOptions;
use support::outbox::{TestOutbox, email_to, pace};
use time::OffsetDateTime;
use tokio::net::TcpListener;

/// A door whose process counts from now to the end of the test.
struct Door {
    url: String,
    client: Client,
    _counting: LocalRecorderGuard<'static>,
}

impl Door {
    async fn open(outbox: Outbox, access: Access) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (recorder, metrics) = recorder();
        let _counting = set_default_local_recorder(Box::leak(Box::new(recorder)));
        let url = open(outbox, access, metrics).await;
        Self { url, client: Client::builder().no_proxy().build().unwrap(), _counting }
    }

    async fn get(&self, token: Option<&str>) -> Response {
        let request = self.client.get(&self.url);
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap()
    }

    async fn scrape(&self) -> Scrape {
        let answer = self.get(None).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        Scrape::parse(&answer.text().await.unwrap())
    }

    /// Looks again until it shows this value.
    async fn until(&self, name: &str, value: f64) {
        let shown = async { while self.scrape().await.sum(name, &[]) != Some(value) {} };
        let shown = tokio::time::timeout(Duration::from_secs(20), shown).await;
        shown.unwrap_or_else(|_| panic!("{name} does not become {value}"));
    }
}

async fn open(outbox: Outbox, access: Access, metrics: Exposition) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let (sender, readiness) = ("noreply@local.test".into(), Readiness::default());
    let limits = facteur::settings::Limits::open();
    let api = Api { outbox, access, sender, readiness, metrics, limits };
    tokio::spawn(async move { axum::serve(listener, http::router(api)).await });
    url
}

type Labels = BTreeMap<String, String>;

/// The text, read strictly: a sample belongs to the family whose HELP and TYPE stand above it.
#[derive(Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    samples: Vec<(String, Labels, f64)>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let (mut scrape, mut helped) = (Self::default(), BTreeSet::new());
        let mut family = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(helped.contains(name), "TYPE without HELP: {line}");
                assert!(scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                family = name.to_owned();
            } else {
                let (name, labels, value) = sample(line);
                let suffixes: &[&str] = match scrape.types[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.iter().any(|s| name == format!("{family}{s}")), "under {family}: {line}");
                scrape.samples.push((name, labels, value));
            }
        }
        scrape
    }

    /// All samples with these labels among theirs, added up; none when there is none.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&(String, Labels, f64)| {
            sample.0 == name && labels.iter().all(|(k, v)| sample.1.get(*k).is_some_and(|has| has == v))
        };
        self.samples.iter().filter(fits).map(|sample| sample.2).reduce(|a, b| a + b)
    }
}

/// `name{label="value",…} 1`.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
    };
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (label, value) = label.split_once('=').expect("a label's value");
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).expect("quotes");
        (label.to_owned(), value.to_owned())
    });
    (name.to_owned(), labels.collect(), value.parse().expect("a number"))
}

/// One way out, with a quota of ten a day.
fn limited(server: &SmtpServer) -> Route {
    let relay = server.relay();
    let smtp = SmtpTransport::new(&relay).unwrap();
    let quota = Some(Pace { mails: 10, per: Duration::from_secs(86_400) });
    Route::over(vec![(Way { quota, ..Way::of_relay(relay) }, Transport::Smtp(smtp))])
}

fn worker(t: &TestOutbox, server: &SmtpServer) -> Arc<Worker> {
    let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
    Arc::new(Worker::new(t.outbox.clone(), transport, pace(), "test"))
}

#[tokio::test]
async fn a_mail_that_is_sent_is_counted_once() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let nobody = Fault::reply(550, "5.1.1 no such user");
    let script = Script::new().at(Stage::Rcpt, nobody).for_recipient("nobody@x.test");
    let server = SmtpServer::start(script).await.unwrap();
    t.enqueue(email_to("ada@x.test").cc("bob@x.test").bcc("nobody@x.test")).await;
    let worker = Arc::new(Worker::new(t.outbox.clone(), limited(&server), pace(), "test"));
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(3));
    assert_eq!(worker.tick().await.unwrap(), Tick::Idle);

    let scrape = door.scrape().await;
    let way = format!("smtp:127.0.0.1:{}", server.addr().port());
    let through = ("transport", way.as_str());
    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    assert_eq!(sum("facteur_accepted_total", &[]), Some(1.0));
    assert_eq!(sum("facteur_settled_total", &[("state", "sent"), through]), Some(2.0));
    assert_eq!(sum("facteur_settled_total", &[("state", "failed"), through]), Some(1.0));
    assert_eq!(sum("facteur_settled_total", &[]), Some(3.0));
    assert_eq!(sum("facteur_attempts_total", &[("class", "sent"), ("code", "2xx"), through]), Some(2.0));
    assert_eq!(sum("facteur_attempts_total", &[("class", "reject"), ("code", "5xx"), through]), Some(1.0));
    assert_eq!(sum("facteur_send_seconds_count", &[through]), Some(3.0));
    assert_eq!(sum("facteur_claim_seconds_count", &[]), Some(2.0));
    assert_eq!(sum("facteur_quota_limit", &[through]), Some(10.0));
    assert_eq!(sum("facteur_quota_remaining", &[through]), Some(7.0));
    let pool = |state: &str| sum("facteur_database_connections", &[("pool", "api"), ("state", state)]);
    let (used, idle) = (pool("used").unwrap(), pool("idle").unwrap());
    assert!(used + idle >= 1.0 && used + idle <= sum("facteur_database_connections_max", &[]).unwrap());
    assert_eq!(sum("facteur_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert!(sum("facteur_send_seconds_bucket", &[("le", "60")]).is_some(), "a histogram, not a summary");
    for zero in ["facteur_in_flight", "facteur_lease_lost_total", "facteur_duplicates_possible_total"] {
        assert_eq!(sum(zero, &[]), Some(0.0), "{zero}: there from the start");
    }
    for family in PROCESS.iter().chain(DATABASE) {
        is_as_described(&scrape, family);
    }
    assert_eq!(scrape.types.len(), PROCESS.len() + DATABASE.len(), "no family but those");
}

/// The family is there, of its type, with its labels and no others.
fn is_as_described(scrape: &Scrape, family: &Family) {
    assert_eq!(scrape.types.get(family.name), Some(&kind(family).to_owned()), "{}", family.name);
    let own = |name: &str| {
        scrape.types[family.name] == "histogram" && name.starts_with(family.name) || name == family.name
    };
    for (name, labels, _) in scrape.samples.iter().filter(|(name, ..)| own(name)) {
        let shown: BTreeSet<&str> =
            labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
        assert_eq!(shown, family.labels.iter().map(|(label, _)| *label).collect(), "{name}");
        for (label, values) in family.labels.iter().filter(|(_, values)| !values.is_empty()) {
            assert!(values.split('|').any(|value| value == labels[*label]), "{name}: {labels:?}");
        }
    }
}

fn kind(family: &Family) -> &'static str {
    match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

#[tokio::test]
async fn a_mail_taken_under_a_lease_that_was_lost_may_be_doubled_and_is_counted() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    t.enqueue(email_to("ada@x.test")).await;
    let worker = worker(&t, &server);
    // No outcome can be written until the lease is somebody else's.
    let mut block = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.outcomes IN SHARE MODE").execute(&mut *block).await.unwrap();
    let theft = async {
        server.wait_for(1).await;
        t.execute("UPDATE facteur.deliveries SET lease_token = lease_token + 1").await;
        block.rollback().await.unwrap();
    };
    let (tick, ()) = tokio::join!(worker.tick(), theft);
    assert_eq!(tick.unwrap(), Tick::Worked(1));
    assert_eq!(t.states().await, "sending 1");
    let scrape = door.scrape().await;
    assert_eq!(scrape.sum("facteur_lease_lost_total", &[("had_250", "true")]), Some(1.0));
    assert_eq!(scrape.sum("facteur_lease_lost_total", &[("had_250", "false")]), Some(0.0));
    assert_eq!(scrape.sum("facteur_duplicates_possible_total", &[]), Some(1.0));
    assert_eq!(scrape.sum("facteur_settled_total", &[]), None, "nothing was settled");
    assert_eq!(scrape.sum("facteur_attempts_total", &[("class", "sent")]), Some(1.0));
}

#[tokio::test]
async fn a_mail_without_an_answer_is_tried_again_and_counted() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let script = Script::new().at(Stage::EndOfData, Fault::reset().accepting());
    let server = SmtpServer::start(script).await.unwrap();
    t.enqueue(email_to("ada@x.test")).await;
    worker(&t, &server).tick().await.unwrap();
    let scrape = door.scrape().await;
    assert_eq!(scrape.sum("facteur_attempts_total", &[("class", "unknown"), ("code", "none")]), Some(1.0));
    assert_eq!(scrape.sum("facteur_settled_total", &[("state", "unknown")]), Some(1.0));
    assert_eq!(scrape.sum("facteur_duplicates_possible_total", &[]), Some(1.0));
}

#[tokio::test]
async fn a_mail_whose_outcome_can_never_be_written_may_be_doubled_and_is_counted() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    t.enqueue(email_to("ada@x.test")).await;
    // Somebody's hand: an outcome of a delivery that is still to come.
    t.execute(
        "INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, attempts)
         SELECT email_id, position, recipient, 'failed', 'by_hand', 0 FROM facteur.deliveries",
    )
    .await;
    let shutdown = Shutdown::default();
    let running = tokio::spawn(worker(&t, &server).run(shutdown.clone()));
    door.until("facteur_duplicates_possible_total", 1.0).await;
    shutdown.begin.cancel();
    running.await.unwrap();
    let scrape = door.scrape().await;
    assert_eq!(scrape.sum("facteur_settled_total", &[]), Some(0.0), "nothing was written");
    let pool =
        |state: &str| scrape.sum("facteur_database_connections", &[("pool", "worker"), ("state", state)]);
    assert!(pool("used").unwrap() + pool("idle").unwrap() >= 1.0, "the worker's pool is shown too");
    assert_eq!(scrape.sum("facteur_unwritten_outcomes", &[]), Some(0.0), "and nothing waits");
}

#[tokio::test]
async fn what_is_taken_back_from_a_lost_worker_is_counted() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    t.enqueue(email_to("back@x.test").cc("gone@x.test")).await;
    t.claim(t.session().await).await;
    t.execute("UPDATE facteur.deliveries SET attempt = max_attempts WHERE recipient = 'gone@x.test'").await;
    t.execute("DELETE FROM facteur.worker_sessions").await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let shutdown = Shutdown::default();
    let running = tokio::spawn(worker(&t, &server).run(shutdown.clone()));
    door.until("facteur_reaped_total", 2.0).await;
    let scrape = door.scrape().await;
    assert_eq!(scrape.sum("facteur_reaped_total", &[("result", "requeued")]), Some(1.0));
    assert_eq!(scrape.sum("facteur_reaped_total", &[("result", "failed")]), Some(1.0));
    shutdown.begin.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn outcomes_that_wait_for_the_database_are_shown() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    t.enqueue(email_to("ada@x.test").cc("bob@x.test")).await;
    let mut block = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.outcomes IN SHARE MODE").execute(&mut *block).await.unwrap();
    let shutdown = Shutdown::default();
    let running = tokio::spawn(worker(&t, &server).run(shutdown.clone()));
    door.until("facteur_unwritten_outcomes", 2.0).await;
    block.rollback().await.unwrap();
    door.until("facteur_unwritten_outcomes", 0.0).await;
    assert_eq!(door.scrape().await.sum("facteur_settled_total", &[("state", "sent")]), Some(2.0));
    shutdown.begin.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_on_its_way_is_shown() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    // Never greets.
    let server = SmtpServer::start(Script::new().at(Stage::Banner, Fault::stall())).await.unwrap();
    t.enqueue(email_to("ada@x.test").cc("bob@x.test")).await;
    let worker = worker(&t, &server);
    let sending = tokio::spawn(async move { worker.tick().await });
    door.until("facteur_in_flight", 2.0).await;
    assert_eq!(door.scrape().await.sum("facteur_queue_deliveries", &[("state", "sending")]), Some(2.0));
    sending.abort();
    door.until("facteur_in_flight", 0.0).await;
}

#[tokio::test]
async fn the_queue_is_shown_by_state_and_age() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let queue = |scrape: &Scrape| {
        ["queued_due", "scheduled", "sending", "unknown"]
            .map(|state| scrape.sum("facteur_queue_deliveries", &[("state", state)]).unwrap())
    };
    let empty = door.scrape().await;
    assert_eq!(queue(&empty), [0.0; 4]);
    assert_eq!(empty.sum("facteur_oldest_due_seconds", &[]), Some(0.0));
    assert_eq!(empty.sum("facteur_workers_alive", &[]), Some(0.0));

    t.session().await;
    let dead = "INSERT INTO facteur.worker_sessions (id, host, version, expires_at)
                VALUES (gen_random_uuid(), 'dead', '0', now() - interval '1 second')";
    t.execute(dead).await;
    for (priority, n) in [(0, 2), (1, 1), (3, 4)] {
        for _ in 0..n {
            t.enqueue(email_to(&format!("p{priority}@x.test"))).await;
        }
    }
    for change in [
        "priority = 0, run_at = now() - interval '90 seconds' WHERE recipient = 'p0@x.test'",
        "priority = 3, run_at = now() + interval '1 hour' WHERE recipient = 'p3@x.test'",
        "state = 'unknown', hold_unknown = true WHERE recipient = 'p1@x.test'",
    ] {
        t.execute(&format!("UPDATE facteur.deliveries SET {change}")).await;
    }
    let shown = door.scrape().await;
    assert_eq!(queue(&shown), [2.0, 4.0, 0.0, 1.0]);
    let waited = shown.sum("facteur_oldest_due_seconds", &[]).unwrap();
    assert!((90.0..120.0).contains(&waited), "{waited}");
    assert_eq!(shown.sum("facteur_workers_alive", &[]), Some(1.0));
    t.claim(t.session().await).await;
    assert_eq!(queue(&door.scrape().await), [0.0, 4.0, 2.0, 1.0]);
}

#[tokio::test]
async fn a_long_queue_is_counted_up_to_ten_thousand() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    t.execute(
        "INSERT INTO facteur.deliveries (email_id, position, priority, run_at, expires_at, recipient)
         SELECT gen_random_uuid(), 0, i % 4, now() + (i % 2 - 0.5) * interval '1 hour', now() + interval '1 day', 'a@x.test'
         FROM generate_series(1, 24000) i",
    )
    .await;
    let scrape = door.scrape().await;
    for state in ["queued_due", "scheduled"] {
        assert_eq!(scrape.sum("facteur_queue_deliveries", &[("state", state)]), Some(10_000.0), "{state}");
    }
}

#[tokio::test]
async fn a_transaction_that_holds_vacuum_back_is_seen_by_its_age() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let age = async || door.scrape().await.sum("facteur_oldest_snapshot_seconds", &[]).unwrap();
    assert_eq!(age().await, 0.0);
    let transactions = async || door.scrape().await.sum("facteur_oldest_snapshot_transactions", &[]).unwrap();
    let mut reader = t.pool.begin().await.unwrap();
    for read in ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM facteur.emails"] {
        sqlx::query(read).execute(&mut *reader).await.unwrap();
    }
    let first = age().await;
    assert!(first > 0.0);
    assert!(age().await > first, "it grows");
    let before = transactions().await;
    for _ in 0..20 {
        t.execute("CREATE TABLE IF NOT EXISTS a (b int)").await;
        t.execute("INSERT INTO a VALUES (1)").await;
    }
    assert!(transactions().await >= before + 20.0, "and so many transactions passed");
    reader.rollback().await.unwrap();
    assert_eq!(age().await, 0.0);
    assert!(transactions().await < before + 20.0);
}

/// What Prometheus's own programs say of a real scrape. Debian's package `prometheus` has them; ./test says when they are missing.
#[tokio::test]
async fn promtool_has_nothing_against_a_scrape() {
    let Some(promtool) = support::prometheus::promtool() else { return };
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    t.enqueue(email_to("ada@x.test")).await;
    let worker = Arc::new(Worker::new(t.outbox.clone(), limited(&server), pace(), "test"));
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(1));
    let text = door.get(None).await.text().await.unwrap();
    assert!(text.contains("facteur_claim_seconds_bucket"), "{text}");
    let (good, said) = support::prometheus::check(&promtool, &["check", "metrics"], &text);
    assert!(good && said.trim().is_empty(), "{said}");
    let (good, said) = support::prometheus::check(
        &promtool,
        &["check", "metrics"],
        &text.replace("# HELP facteur_in", "# X"),
    );
    assert!(!good && said.contains("facteur_in_flight"), "it can fail: {said}");
}

#[tokio::test]
async fn while_the_database_is_away_the_scrape_succeeds_and_says_so() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy(&format!("postgres://nobody@{nobody}/none"))
        .unwrap();
    let door = Door::open(Outbox::new(pool), Access::Open).await;
    let scrape = door.scrape().await;
    assert_eq!(scrape.sum("facteur_database_up", &[]), Some(0.0));
    assert_eq!(scrape.sum("facteur_accepted_total", &[]), Some(0.0));
    let shown: Vec<_> = DATABASE.iter().filter(|family| scrape.types.contains_key(family.name)).collect();
    assert_eq!(shown.len(), 1, "nothing is made up: {shown:?}");
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_given_up_in_time() {
    let t = TestOutbox::new().await;
    let door = Door::open(t.outbox.clone(), Access::Open).await;
    let mut block = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.deliveries IN ACCESS EXCLUSIVE MODE").execute(&mut *block).await.unwrap();
    let scrape = tokio::time::timeout(Duration::from_secs(8), door.scrape()).await.expect("in time");
    assert_eq!(scrape.sum("facteur_database_up", &[]), Some(0.0));
    block.rollback().await.unwrap();
    assert_eq!(door.scrape().await.sum("facteur_database_up", &[]), Some(1.0), "and it comes back");
}

#[tokio::test]
async fn in_production_the_metrics_want_a_token() {
    let t = TestOutbox::new().await;
    let key = JwtKey::new("q8Jw2ZrT5yVbN1mKc4LxP7sDf0GhA3eU".to_owned().into()).expect("a good key");
    let door = Door::open(t.outbox.clone(), Access::Bearer(key.clone())).await;
    for token in [None, Some("x.y.z")] {
        let answer = door.get(token).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!((&body["statusCode"], &body["name"]), (&401.into(), &"missing_api_key".into()));
    }
    for role in [Role::Admin, Role::System] {
        let token = mint(&key, role, time::Duration::HOUR, OffsetDateTime::now_utc()).unwrap();
        let answer = door.get(Some(&token)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{role:?}");
        assert!(answer.text().await.unwrap().contains("facteur_database_up 1"), "{role:?}");
    }
}

/// The tables of the paper, as `name type label=value|value …`.
fn documented() -> BTreeSet<String> {
    let paper = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let paper = std::fs::read_to_string(paper).unwrap();
    let rows = paper.lines().filter(|line| line.starts_with("| `facteur_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].replace('`', "").replace(" = ", "=").replace(", ", "|").replace(';', "");
        format!("{} {} {labels}", cells[1].trim_matches('`'), cells[2]).trim().to_owned()
    })
    .collect()
}

#[test]
fn the_paper_has_every_family_with_its_type_and_labels_and_no_other() {
    let label = |(label, values): &(&str, &str)| match *values {
        "" => (*label).to_owned(),
        values => format!("{label}={values}"),
    };
    let families = PROCESS.iter().chain(DATABASE).map(|family| {
        let labels: Vec<String> = family.labels.iter().map(label).collect();
        format!("{} {} {}", family.name, kind(family), labels.join(" ")).trim().to_owned()
    });
    assert_eq!(documented(), families.collect());
}
