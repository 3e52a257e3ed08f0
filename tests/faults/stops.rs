//! Processes that are asked to stop, with mail in flight.

use std::time::Duration;

use facteur::testing::{Fault, Script, SmtpServer, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::process::{Process, hasty};

const SLOTS: usize = 16;

/// SIGTERM under load: what is in flight ends, nothing is begun, nothing is counted as an attempt.
pub(crate) async fn r12(scale: Scale) -> Figures {
    let reply_after = Duration::from_secs(scale.pick(1, 5));
    let mails = 200;
    let database = Database::new().await;
    let script = Script::new().at(Stage::EndOfData, Fault::delay(reply_after));
    let server = SmtpServer::start(script).await.unwrap();
    database.enqueue(mails).await;
    let mut environment = hasty(&database.url, &server.relay());
    environment.extend([("WORKER_CONCURRENCY", SLOTS.to_string()), ("HTTP_PORT", "0".into())]);
    let mut process = Process::start(&["serve"], &environment);
    let kept_alive = client(&process).await;
    server.wait_until(|server| server.counters().mails >= SLOTS).await;

    process.signal("TERM");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = server.counters().mails;
    let (status, took) = process.ended(Duration::from_secs(40)).await.expect("it ends");
    drop(kept_alive);
    let mut figures = Figures::new();
    figures
        .show("mails", mails)
        .show("in_flight", SLOTS)
        .exactly("begun_100_ms_after_the_signal_or_later", server.counters().mails - begun, 0)
        .must(status.success(), format!("exit code 0, not {status}"))
        .at_most("exit_ms", took.as_millis(), reply_after.as_millis() + 2_500)
        .exactly("attempts_burnt", database.number(BURNT).await, 0)
        .exactly("left_leased", database.number(LEASED).await, 0);
    let account = Account::of(&database, &server.accepted()).await;
    figures.exactly("false_sent", account.false_sent, 0).exactly("duplicates", account.duplicates, 0);
    twice(&mut figures).await;
    figures
}

/// Given back, and yet with an attempt on its account.
const BURNT: &str = "SELECT count(*) FROM facteur.deliveries WHERE state = 'queued' AND attempt > 0";
const LEASED: &str = "SELECT count(*) FROM facteur.deliveries WHERE state = 'sending'";

/// A client that asked once, and keeps its connection.
async fn client(process: &Process) -> TcpStream {
    let address = process.logged("\"address\":\"").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    stream
}

/// The second signal does not wait for anything.
async fn twice(figures: &mut Figures) {
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new().at(Stage::EndOfData, Fault::stall())).await.unwrap();
    database.enqueue(SLOTS).await;
    let mut process = Process::start(&["worker"], &hasty(&database.url, &server.relay()));
    server.wait_until(|server| server.counters().mails >= SLOTS).await;
    process.signal("TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.signal("TERM");
    let (_, took) = process.ended(Duration::from_secs(40)).await.expect("it ends");
    figures.at_most("second_signal_exit_ms", took.as_millis(), 1_000);
}

/// SIGTERM with a server that has gone silent, half of the mails before their last byte.
pub(crate) async fn r13(scale: Scale) -> Figures {
    let grace = Duration::from_secs(scale.pick(3, 10));
    let database = Database::new().await;
    let half = Script::new().at(Stage::EndOfData, Fault::stall().accepting());
    // Mail to odd addresses stalls before the content, the other half awaits its last reply.
    let script = (1..SLOTS).step_by(2).fold(half, |script, i| {
        script.at(Stage::Rcpt, Fault::stall()).for_recipient(&format!("mail{i}@x.test"))
    });
    let server = SmtpServer::start(script).await.unwrap();
    database.enqueue(SLOTS).await;
    let mut environment = hasty(&database.url, &server.relay());
    environment.push(("SHUTDOWN_GRACE", format!("{}s", grace.as_secs())));
    let mut process = Process::start(&["worker"], &environment);
    server.wait_for(SLOTS / 2).await;
    server.wait_until(|server| server.counters().mails >= SLOTS).await;
    process.signal("TERM");
    let (status, took) = process.ended(Duration::from_secs(40)).await.expect("it ends");
    let mut figures = Figures::new();
    let unknown = "SELECT count(*) FROM facteur.events WHERE kind = 'unknown'";
    let released = "SELECT count(*) FROM facteur.events WHERE kind = 'released'";
    figures
        .show("in_flight", SLOTS)
        .show("grace_s", grace.as_secs())
        .at_most("exit_ms", took.as_millis(), grace.as_millis() + 1_000)
        .must(status.success(), format!("exit code 0, not {status}"))
        .exactly("released", database.number(released).await, SLOTS as i64 / 2)
        .exactly("unknown", database.number(unknown).await, SLOTS as i64 / 2)
        .exactly("left_leased", database.number(LEASED).await, 0);
    let due_soon = "SELECT count(*) FROM facteur.deliveries d
                    WHERE EXISTS (SELECT FROM facteur.events e WHERE e.email_id = d.email_id AND e.kind = 'unknown')
                      AND d.run_at < now() + interval '4 minutes'";
    figures.exactly("unknown_and_tried_again_within_4_min", database.number(due_soon).await, 0);
    figures
}
