//! The worker from the queue to a real SMTP server, step by step.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::Outbox;
use facteur::delivery::{Shutdown, Tick, Worker};
use facteur::email::OnUnknown;
use facteur::inbox::{Inbox, InboxSettings};
use facteur::settings::{self, Credentials, Relay, Tls};
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::{Transport, smtp::SmtpTransport};
use sqlx::postgres::PgPoolOptions;
use support::outbox::{TestOutbox, email_to, pace};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A mail server that takes everything, and a page that tells what it took.
struct Catcher {
    relay: Relay,
    page: String,
    stop: CancellationToken,
    _folder: TempFolder,
}

struct TempFolder(std::path::PathBuf);

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Catcher {
    async fn start() -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::new_v4().to_string());
        let any = ([127, 0, 0, 1], 0).into();
        let inbox = Inbox::bind(InboxSettings {
            http: any,
            smtp: any,
            folder: folder.clone(),
            api: "http://localhost:8000".into(),
        })
        .await
        .unwrap();
        let relay = relay_at(inbox.smtp_addr().port());
        let page = format!("http://{}", inbox.http_addr());
        let stop = CancellationToken::new();
        tokio::spawn(inbox.run(stop.clone()));
        Self { relay, page, stop, _folder: TempFolder(folder) }
    }

    async fn get(&self, path: &str) -> serde_json::Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{}{path}", self.page)).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// The subjects and recipients of what arrived.
    async fn recipients(&self) -> Vec<String> {
        let list = self.get("/api/messages").await;
        let mut all: Vec<String> = list
            .as_array()
            .or_else(|| list["messages"].as_array())
            .expect("a list")
            .iter()
            .map(|mail| mail["to"][0].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn relay_at(port: u16) -> Relay {
    Relay {
        host: "127.0.0.1".into(),
        port,
        tls: Tls::None,
        credentials: None,
        hello_name: None,
        max_connections: 8,
    }
}

fn worker(t: &TestOutbox, relay: &Relay, pace: settings::Worker) -> Arc<Worker> {
    use_ring();
    let transport = Transport::Smtp(SmtpTransport::new(relay).unwrap());
    Arc::new(Worker::new(t.outbox.clone(), transport, pace, "test"))
}

/// reqwest is built without a choice of cryptography.
fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A port where nobody listens.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_step_sends_what_is_due_and_writes_it_down() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    let worker = worker(&t, &catcher.relay, pace());
    assert_eq!(worker.tick().await.unwrap(), Tick::Idle);
    let id = t.enqueue(email_to("ada@x.test").cc("bob@x.test").bcc("eve@x.test")).await;
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(3));
    assert_eq!(worker.tick().await.unwrap(), Tick::Idle);
    assert_eq!(t.states().await, "sent 3");
    let mail = catcher.get("/api/messages/wait?to=ada@x.test").await;
    let message_id = format!("<{}>", t.text("SELECT message_id FROM facteur.emails").await);
    let headers = mail["headers"].as_array().unwrap();
    assert!(
        headers.iter().any(|h| h["name"] == "Message-ID" && h["value"] == message_id.as_str()),
        "{headers:?}"
    );
    assert!(headers.iter().any(|h| h["name"] == "X-Entity-Ref-ID" && h["value"] == id.to_string().as_str()));
    assert_eq!(t.number("SELECT count(*) FROM facteur.events WHERE kind = 'sent'").await, 3);
}

#[tokio::test]
async fn a_relay_that_is_down_costs_time_and_no_mail() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    let down = worker(&t, &relay_at(closed_port().await), pace());
    assert_eq!(down.tick().await.unwrap(), Tick::Worked(1));
    assert_eq!(t.states().await, "queued 1");
    let wait = t.number("SELECT extract(epoch FROM run_at - now())::bigint FROM facteur.deliveries").await;
    assert!((7..=12).contains(&wait), "the first retry is after about 10 s: {wait}");
    assert_eq!(t.events(id).await, "accepted, retry");
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    let catcher = Catcher::start().await;
    assert_eq!(worker(&t, &catcher.relay, pace()).drain().await.unwrap(), 1);
    assert_eq!(t.states().await, "sent 1");
    assert_eq!(t.number("SELECT attempts::bigint FROM facteur.outcomes").await, 2);
}

#[tokio::test]
async fn mail_that_expired_is_not_sent() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    t.enqueue(email_to("otp@x.test")).await;
    t.execute("UPDATE facteur.deliveries SET expires_at = now() - interval '1 second'").await;
    worker(&t, &catcher.relay, pace()).drain().await.unwrap();
    assert_eq!(t.text("SELECT final || ' ' || reason FROM facteur.outcomes").await, "failed expired");
    assert!(catcher.recipients().await.is_empty());
}

#[tokio::test]
async fn a_row_that_nobody_can_render_fails_alone() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    for to in ["good@x.test", "unreadable@x.test", "panics@x.test"] {
        t.enqueue(email_to(to)).await;
    }
    let of = |to: &str| format!("id IN (SELECT email_id FROM facteur.deliveries WHERE recipient = '{to}')");
    t.execute(&format!("UPDATE facteur.emails SET sender = '{{}}' WHERE {}", of("unreadable@x.test"))).await;
    // lettre panics on a line end in a name; the door refuses such a name, a row by hand need not.
    t.execute(&format!(
        r#"UPDATE facteur.emails SET sender = '{{"name": "a\nb", "address": "a@x.test"}}' WHERE {}"#,
        of("panics@x.test")
    ))
    .await;
    assert_eq!(worker(&t, &catcher.relay, pace()).drain().await.unwrap(), 3);
    assert_eq!(catcher.recipients().await, ["good@x.test"]);
    assert_eq!(t.states().await, "failed 1, queued 1, sent 1");
    assert_eq!(
        t.text("SELECT recipient FROM facteur.deliveries").await,
        "panics@x.test",
        "tried again, in vain, later"
    );
}

#[tokio::test]
async fn two_workers_send_each_mail_once() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    let mut all: Vec<String> = (0..120).map(|i| format!("a{i:03}@x.test")).collect();
    for to in &all {
        t.enqueue(email_to(to)).await;
    }
    let (one, two) = (worker(&t, &catcher.relay, pace()), worker(&t, &catcher.relay, pace()));
    let (a, b) = tokio::join!(one.drain(), two.drain());
    assert_eq!(a.unwrap() + b.unwrap(), 120);
    all.sort();
    assert_eq!(catcher.recipients().await, all);
    assert_eq!(t.states().await, "sent 120");
}

#[tokio::test]
async fn a_running_worker_wakes_at_once_and_ends_in_order() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    let worker = worker(&t, &catcher.relay, pace());
    let shutdown = Shutdown::default();
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    // The first mail proves that it runs; the poll is a minute away for the second.
    t.enqueue(email_to("first@x.test")).await;
    catcher.get("/api/messages/wait?to=first@x.test&timeout=10s").await;
    let begun = Instant::now();
    t.enqueue(email_to("second@x.test")).await;
    catcher.get("/api/messages/wait?to=second@x.test&timeout=10s").await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "from enqueue to the inbox: {took:?}");
    shutdown.begin.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("ends").unwrap();
    assert_eq!(t.states().await, "sent 2");
    assert_eq!(t.number("SELECT count(*) FROM facteur.worker_sessions").await, 0);
}

/// Greets, takes commands, and never answers the final dot.
async fn silent_after_the_dot() -> (Relay, tokio::sync::mpsc::UnboundedReceiver<()>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = relay_at(listener.local_addr().unwrap().port());
    let (dot, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let dot = dot.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut reply = "220 test";
                loop {
                    stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    reply = if line.starts_with("DATA") { "354 go" } else { "250 ok" };
                    if reply == "354 go" {
                        stream.write_all(b"354 go\r\n").await.unwrap();
                        while line != ".\r\n" {
                            line.clear();
                            stream.read_line(&mut line).await.unwrap();
                        }
                        dot.send(()).unwrap();
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    (relay, seen)
}

#[tokio::test]
async fn what_awaits_its_last_reply_when_time_is_up_is_unknown_and_not_sent_again_at_once() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("retry@x.test")).await;
    t.enqueue(email_to("hold@x.test").on_unknown(OnUnknown::Hold)).await;
    let (relay, mut dots) = silent_after_the_dot().await;
    let grace = Duration::from_millis(400);
    let worker = worker(&t, &relay, settings::Worker { grace, ..pace() });
    let shutdown = Shutdown::default();
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    dots.recv().await.unwrap();
    dots.recv().await.unwrap();
    let begun = Instant::now();
    shutdown.begin.cancel();
    running.await.unwrap();
    assert!(begun.elapsed() < grace + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(
        t.text("SELECT recipient FROM facteur.deliveries WHERE state = 'unknown'").await,
        "hold@x.test"
    );
    let wait =
        "SELECT extract(epoch FROM run_at - now())::bigint FROM facteur.deliveries WHERE state = 'queued'";
    let wait = t.number(wait).await;
    assert!(wait >= 290, "not before five minutes: {wait} s");
}

#[tokio::test]
async fn what_has_not_come_to_its_last_byte_when_time_is_up_goes_back_uncounted() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("ada@x.test")).await;
    // Accepts connections and never greets.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = relay_at(listener.local_addr().unwrap().port());
    let grace = Duration::from_millis(400);
    let worker = worker(&t, &relay, settings::Worker { grace, ..pace() });
    let shutdown = Shutdown::default();
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    let _connection = listener.accept().await.unwrap();
    shutdown.begin.cancel();
    running.await.unwrap();
    assert_eq!(t.states().await, "queued 1");
    assert_eq!(t.number("SELECT attempt::bigint FROM facteur.deliveries").await, 0);
    assert_eq!(
        t.number("SELECT count(*) FROM facteur.deliveries WHERE run_at <= now()").await,
        1,
        "due at once"
    );
}

#[tokio::test]
async fn what_a_dead_worker_held_is_sent_by_the_next() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    t.enqueue(email_to("ada@x.test")).await;
    let dead = t.session().await;
    t.claim(dead).await;
    let next = worker(&t, &catcher.relay, pace());
    assert_eq!(next.tick().await.unwrap(), Tick::Idle, "the lease holds");
    t.execute("UPDATE facteur.worker_sessions SET expires_at = now() - interval '1 s' WHERE host = 'test'")
        .await;
    // The next one's own session was just aged too: it says again that it lives.
    let next = worker(&t, &catcher.relay, pace());
    t.outbox.reap().await.unwrap();
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    assert_eq!(next.tick().await.unwrap(), Tick::Worked(1));
    assert_eq!(t.states().await, "sent 1");
}

#[tokio::test]
async fn a_process_without_a_worker_wakes_those_of_others() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    // Another process: the same database, another bell.
    let door = facteur::Outbox::new(t.pool.clone());
    let worker = worker(&t, &catcher.relay, pace());
    let (stop, shutdown) = (CancellationToken::new(), Shutdown::default());
    let announcing = tokio::spawn({
        let (door, stop) = (door.clone(), stop.clone());
        async move { door.announce(stop).await }
    });
    let listening = tokio::spawn({
        let (outbox, stop) = (t.outbox.clone(), stop.clone());
        async move { outbox.listen(stop).await }
    });
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    // The first is seen by the sweep that follows LISTEN, if not by its announcement; the poll is a minute away.
    for to in ["first@x.test", "second@x.test", "third@x.test"] {
        door.enqueue(&email_to(to).build().unwrap()).await.unwrap();
        catcher.get(&format!("/api/messages/wait?to={to}&timeout=10s")).await;
    }
    stop.cancel();
    shutdown.begin.cancel();
    running.await.unwrap();
    announcing.await.unwrap();
    listening.await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_discards_nothing() {
    let t = TestOutbox::new().await;
    for i in 0..5 {
        t.enqueue(email_to(&format!("a{i}@x.test"))).await;
    }
    let server = SmtpServer::start(Script::new().login("user", "right")).await.unwrap();
    let login = |password: &str| Credentials {
        username: "user".to_owned().into(),
        password: password.to_owned().into(),
    };
    let wrong = Relay { credentials: Some(login("wrong")), ..server.relay() };
    assert_eq!(worker(&t, &wrong, pace()).tick().await.unwrap(), Tick::Worked(5));
    assert_eq!(t.states().await, "queued 5");
    assert_eq!(
        t.number("SELECT max(attempt)::bigint FROM facteur.deliveries").await,
        0,
        "no attempt is used"
    );
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    let right = Relay { credentials: Some(login("right")), ..server.relay() };
    assert_eq!(worker(&t, &right, pace()).drain().await.unwrap(), 5);
    assert_eq!((t.states().await, server.accepted().len()), ("sent 5".to_owned(), 5));
}

#[tokio::test]
async fn a_recipient_that_does_not_exist_fails_alone() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("ada@x.test").cc("nobody@x.test").bcc("bob@x.test")).await;
    let nobody = Fault::reply(550, "5.1.1 no such user");
    let script = Script::new().at(Stage::Rcpt, nobody).for_recipient("nobody@x.test");
    let server = SmtpServer::start(script).await.unwrap();
    worker(&t, &server.relay(), pace()).drain().await.unwrap();
    assert_eq!(t.states().await, "failed 1, sent 2");
    let failed =
        "SELECT concat_ws(' ', recipient, reason, code, reply) FROM facteur.outcomes WHERE final = 'failed'";
    assert_eq!(t.text(failed).await, "nobody@x.test rejected 550 5.1.1 no such user");
}

#[tokio::test]
async fn a_copy_that_may_exist_has_an_event_and_the_second_is_the_same_to_the_byte() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test").html("<p>Thank you.</p>")).await;
    let taken_unanswered = Fault::reset().accepting();
    let server =
        SmtpServer::start(Script::new().at(Stage::EndOfData, taken_unanswered).on_mail(1)).await.unwrap();
    let worker = worker(&t, &server.relay(), pace());
    worker.tick().await.unwrap();
    let wait = t.number("SELECT extract(epoch FROM run_at - now())::bigint FROM facteur.deliveries").await;
    assert!(wait >= 290, "not before five minutes: {wait} s");
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    worker.drain().await.unwrap();
    assert_eq!(t.events(id).await, "accepted, unknown, sent");
    let accepted = server.accepted();
    assert_eq!(accepted.len(), 2);
    assert_eq!(accepted[0].content, accepted[1].content);
}

#[tokio::test]
async fn an_outcome_that_can_never_be_written_does_not_keep_the_others() {
    let (t, catcher) = (TestOutbox::new().await, Catcher::start().await);
    for to in ["one@x.test", "two@x.test", "three@x.test"] {
        t.enqueue(email_to(to)).await;
    }
    // Somebody's hand: an outcome of a delivery that is still to come.
    t.execute(
        "INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, attempts)
         SELECT email_id, position, recipient, 'failed', 'by_hand', 0 FROM facteur.deliveries WHERE recipient = 'two@x.test'",
    )
    .await;
    let worker = worker(&t, &catcher.relay, pace());
    let shutdown = Shutdown::default();
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    for to in ["one@x.test", "two@x.test", "three@x.test"] {
        catcher.get(&format!("/api/messages/wait?to={to}&timeout=10s")).await;
    }
    shutdown.begin.cancel();
    running.await.unwrap();
    assert_eq!(t.states().await, "failed 1, sending 1, sent 2");
}

#[tokio::test]
async fn mail_of_a_claim_whose_answer_was_lost_does_not_wait_for_the_end_of_its_lease() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
    // Of one connection, which knows the statement after the first tick: the next is sent in one go.
    let address = t.pool.connect_options();
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with((*address).clone());
    let outbox = Outbox::new(pool).with_deadline(Duration::from_millis(200));
    let worker = Worker::new(outbox, transport, pace(), "test");
    assert_eq!(worker.tick().await.unwrap(), Tick::Idle);
    let id = t.enqueue(email_to("a@x.test")).await;
    let mut blocker = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.deliveries").execute(&mut *blocker).await.unwrap();
    worker.tick().await.unwrap_err();
    blocker.rollback().await.unwrap();
    // The claim that nobody waits for any more goes through.
    let leased = async {
        while t.states().await != "sending 1" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), leased).await.unwrap();
    assert_eq!(worker.tick().await.unwrap(), Tick::Worked(1));
    assert_eq!(t.events(id).await, "accepted, released, sent");
    assert_eq!(t.number("SELECT attempts::bigint FROM facteur.outcomes").await, 1);
}

#[tokio::test]
async fn what_a_newer_email_superseded_while_it_was_sent_is_not_sent_again() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let worker = worker(&t, &server.relay(), pace());
    let code = |to: &str| email_to(to).supersedes("login-code:ada");
    let older = t.enqueue(code("older@x.test").on_unknown(OnUnknown::Hold)).await;
    let elsewhere = t.session().await;
    t.claim(elsewhere).await;
    t.enqueue(code("newer@x.test")).await;
    t.outbox.end_session(elsewhere).await.unwrap();
    t.outbox.reap().await.unwrap();
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    assert_eq!(worker.drain().await.unwrap(), 2, "both are claimed");
    assert_eq!(server.accepted().len(), 1, "and one is sent");
    assert_eq!(t.events(older).await, "accepted, lease_lost, cancelled");
    assert_eq!(t.states().await, "cancelled 1, sent 1");
}
