//! A path that dies without a word: in the middle of a mail, and under a connection that idles.

use std::time::{Duration, Instant};

use facteur::settings::Relay;
use facteur::testing::{Script, SmtpServer, TcpProxy};
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use facteur::transport::{Outcome, Parcel, Stage};
use rustls::RootCertStore;

use crate::case::{Figures, Scale};
use crate::database::{Database, email_to};
use crate::smtp_worker::{burnt_attempts, worker};
use crate::transport::{FROM, MESSAGE, OpenGate, deadlines};

/// Of the stage that must notice, in the short form.
const DEADLINE: Duration = Duration::from_secs(1);
/// Of all other stages.
const LONG: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn r10(scale: Scale) -> Figures {
    let database = [Database::new().await, Database::new().await];
    // Each time the others are too long to be the one that notices.
    let Deadlines { noop, doubted, .. } = Deadlines::default();
    let noop = Deadlines {
        noop: scale.pick(DEADLINE, noop),
        doubted: scale.pick(Duration::from_millis(100), doubted),
        ..deadlines(LONG)
    };
    let command = Deadlines { command: DEADLINE, ..deadlines(LONG) };
    let (body, idle, in_use) = tokio::join!(
        mid_body(),
        vanished(&database[0], noop, noop.doubted + Duration::from_millis(100)),
        vanished(&database[1], command, Duration::ZERO),
    );
    let mut figures = Figures::new();
    let (outcome, took) = body;
    let retried = matches!(&outcome, Outcome::Retry(report, _) if report.stage == Stage::Body);
    figures
        .show("mid_body_s", seconds(took))
        .must(retried, format!("a mail that stops in its body is tried again: {outcome:?}"))
        .must(took <= DEADLINE + SECOND, "the body's deadline ends it");
    for (name, found, deadline) in [("idle", &idle, noop.noop), ("in_use", &in_use, command.command)] {
        figures
            .show(&format!("{name}_noticed_s"), seconds(found.took))
            .exactly(&format!("{name}_sent"), found.sent, 2)
            .exactly(&format!("{name}_burnt_attempts"), found.burnt, 0)
            .must(found.dead_and_new == (1, 1), format!("{name}: a dead and a new connection: {found:?}"))
            .must(found.took >= deadline, format!("{name}: the peer was gone: {found:?}"))
            .must(found.took <= deadline + SECOND, format!("{name}: noticed in time: {found:?}"));
    }
    figures
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

/// The path stops while the content is on it. How long the sender takes to give up from then.
async fn mid_body() -> (Outcome, Duration) {
    let server = SmtpServer::start(Script::new().receive_buffer(65_536)).await.unwrap();
    let proxy = TcpProxy::start(server.addr()).await.unwrap();
    let relay = Relay { port: proxy.addr().port(), ..server.relay() };
    let short = Deadlines { body: DEADLINE, ..deadlines(LONG) };
    let way = SmtpTransport::with_roots(&relay, RootCertStore::empty(), short).unwrap();
    // More than all systems on the way take in on their own.
    let large = [MESSAGE, "A line that is one of many.\r\n".repeat(800_000).as_bytes()].concat();
    let sending = async {
        let parcel =
            Parcel { from: FROM, to: "ada@example.test", message: &large, email: &crate::transport::EMAIL };
        let outcome = way.send(parcel, &OpenGate).await;
        (outcome, Instant::now())
    };
    let breaking = async {
        proxy.slow(4_000_000);
        let has_content = |server: &SmtpServer| {
            server.conversations().first().is_some_and(|one| one.heard("A line that is one of many"))
        };
        server.wait_until(has_content).await;
        proxy.stall();
        Instant::now()
    };
    let ((outcome, ended), broken) = tokio::join!(sending, breaking);
    assert_eq!(server.accepted().len(), 0);
    (outcome, ended.saturating_duration_since(broken))
}

#[derive(Debug)]
struct Found {
    /// From the second mail's turn to its end.
    took: Duration,
    sent: i64,
    burnt: i64,
    /// Connections at the proxy when all is over: the dead one was given up, the new one is kept.
    dead_and_new: (usize, usize),
}

/// One mail, then the peer vanishes, then the connection idles, then the next mail.
async fn vanished(database: &Database, deadlines: Deadlines, idles: Duration) -> Found {
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let proxy = TcpProxy::start(server.addr()).await.unwrap();
    let relay = Relay { port: proxy.addr().port(), ..server.relay() };
    let worker = worker(database, &relay, deadlines);
    database.outbox.enqueue(&email_to("ada@x.test").build().unwrap()).await.unwrap();
    worker.tick().await.unwrap();
    proxy.half_open();
    server.wait_until(|server| server.counters().open == 0).await;
    // Who comes from now on reaches the server; the one that is there never will.
    proxy.resume();
    tokio::time::sleep(idles).await;
    database.outbox.enqueue(&email_to("bob@x.test").build().unwrap()).await.unwrap();
    let begun = Instant::now();
    worker.tick().await.unwrap();
    let took = begun.elapsed();
    // The dead one is closed by a task that may still have to run.
    let end = Instant::now() + SECOND;
    while proxy.open() > 1 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Found {
        took,
        sent: database.number("SELECT count(*) FROM facteur.outcomes WHERE final = 'sent'").await,
        burnt: burnt_attempts(database).await,
        dead_and_new: (proxy.opened() - proxy.open(), proxy.open()),
    }
}
