//! HTTP clients: more than there are connections, and such that hang up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use facteur::testing::{Script, SmtpServer};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::http::{Answer, percentile, post, refused_of, request, request_with_file, serve};
use crate::process::hasty;

const OUTCOMES: &str = "SELECT count(*) FROM facteur.outcomes";

/// 200 clients over 4 connections, beside 32 sending slots in the same process. For longer than a
/// request may wait, the table that only acceptance writes to is locked.
pub(crate) async fn r18(scale: Scale) -> Figures {
    const CLIENTS: usize = 200;
    let load = scale.pick(Duration::from_secs(6), Duration::from_secs(30));
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let mut environment = hasty(&database.url, &server.relay());
    environment.extend([
        ("API_DATABASE_CONNECTIONS", "4".to_owned()),
        ("WORKER_CONCURRENCY", "32".to_owned()),
        ("SMTP_MAX_CONNECTIONS", "32".to_owned()),
    ]);
    let (_process, address) = serve(&[], &environment).await;
    // Not from the door: what the workers have to do while it is shut.
    let later = time::OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    let backlog = database.enqueue_each(200, |email| email.scheduled_at(later)).await.len();
    let end = Instant::now() + load;
    let clients = join_all((0..CLIENTS).map(|client| knock(address, client, end)));
    let (answers, sent_while_locked) = tokio::join!(clients, lock_the_door(&database));
    let refused_after = refused_of(address, 20).await;
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    let of = |status| answers.iter().flatten().filter(|answer| answer.status == status).count();
    let (accepted, unavailable) = (of(202), of(503));
    let without_retry_after =
        answers.iter().flatten().filter(|answer| answer.status == 503 && !answer.retry_after).count();
    let mut times: Vec<_> = answers.iter().flatten().map(|answer| answer.took).collect();
    let told_to_return = answers.iter().flatten().filter(|answer| answer.status == 503);
    let slowest_503 = told_to_return.map(|answer| answer.took).max().unwrap_or_default();
    let drained = database.until_drained(Duration::from_secs(100)).await;
    let mut figures = Figures::new();
    figures
        .show("requests", answers.len())
        .at_least("answers_202", accepted, CLIENTS)
        .at_least("answers_503", unavailable, 1)
        .exactly("other_or_none", answers.len() - accepted - unavailable, 0)
        .exactly("503_without_retry_after", without_retry_after, 0)
        .show("p50_ms", percentile(&mut times, 50).as_millis())
        .show("p99_ms", percentile(&mut times, 99).as_millis())
        .show("503_max_ms", slowest_503.as_millis())
        // At most 2 s for a connection, then at most 2 s for the lock.
        .at_most("max_ms", percentile(&mut times, 100).as_millis(), 5_000)
        .at_least("sent_while_door_stuck", sent_while_locked, 100)
        .exactly("refused_after_load", refused_after, 0)
        .must(drained.is_some(), "the queue is drained within 100 s");
    Account::of(&database, &server.accepted()).await.into_figures(backlog + accepted + 20, &mut figures);
    figures
}

/// One request after the other until `end`; none of them for ever.
async fn knock(address: SocketAddr, client: usize, end: Instant) -> Vec<Option<Answer>> {
    let mut answers = Vec::new();
    while Instant::now() < end {
        let to = format!("client{client}@x.test");
        let answer = tokio::time::timeout(Duration::from_secs(20), post(address, &to)).await;
        answers.push(answer.ok().and_then(Result::ok));
    }
    answers
}

/// Longer than a request waits for a connection.
const LOCKED: Duration = Duration::from_millis(2_500);

/// Nothing can be accepted for a while; how many mails the worker sent meanwhile.
async fn lock_the_door(database: &Database) -> i64 {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.idempotency IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let before = database.number(OUTCOMES).await;
    database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    tokio::time::sleep(LOCKED).await;
    let sent = database.number(OUTCOMES).await - before;
    lock.rollback().await.unwrap();
    sent
}

/// Clients that write their request and vanish, each at another moment.
pub(crate) async fn r19(scale: Scale) -> Figures {
    let posts = scale.pick(1_000, 5_000);
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let (process, address) = serve(&[], &hasty(&database.url, &server.relay())).await;
    let usual = usual_time(address).await;
    let stop = CancellationToken::new();
    let storm = async {
        let all = futures_util::stream::iter(0..posts);
        // Two at a time: as much as the machine can serve, because nobody waits for it to be done.
        all.for_each_concurrent(2, |i| vanish(address, i, usual * 2)).await;
        stop.cancel();
    };
    let ((), mut patient) = tokio::join!(storm, wait_for_answers(address, &stop));
    let refused_after = refused_of(address, 50).await;
    let drained = database.until_drained(Duration::from_secs(60)).await;
    let in_transaction = "SELECT count(*) FROM pg_stat_activity
                          WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let accepted = database.number("SELECT count(*) FROM facteur.emails").await;
    let half = database
        .number(
            "SELECT count(*) FROM facteur.emails e
             FULL JOIN (SELECT email_id FROM facteur.deliveries UNION ALL SELECT email_id FROM facteur.outcomes) d
               ON d.email_id = e.id
             FULL JOIN (SELECT email_id FROM facteur.events WHERE kind = 'accepted') a
               ON a.email_id = coalesce(e.id, d.email_id)
             WHERE e.id IS NULL OR d.email_id IS NULL OR a.email_id IS NULL",
        )
        .await;
    let with_file = database.number(&format!("{OUTCOMES} WHERE recipient LIKE 'gone-file%'")).await;
    let torn = database
        .number(
            "SELECT count(*) FROM facteur.outcomes o
             FULL JOIN (SELECT email_id, octet_length(content) AS bytes FROM facteur.attachments) f
               ON f.email_id = o.email_id
             WHERE (o.recipient LIKE 'gone-file%') IS DISTINCT FROM (f.bytes IS NOT NULL AND f.bytes = 3000)",
        )
        .await;
    let log = process.log();
    let mut figures = Figures::new();
    let gone = database.number(&format!("{OUTCOMES} WHERE recipient LIKE 'gone%'")).await;
    let sessions =
        database.number("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").await;
    figures
        .show("posts", posts)
        .show("database_sessions", sessions)
        .show("patient", patient.len())
        .at_most("patient_p50_us", percentile(&mut patient, 50).as_micros(), 300_000)
        .show("patient_max_us", percentile(&mut patient, 100).as_micros())
        .show("usual_us", usual.as_micros())
        .at_least("accepted_all_the_same", gone, 1)
        .at_most("of_posts", gone, posts as i64 - 1)
        .exactly("idle_in_transaction", database.number(in_transaction).await, 0)
        .exactly("orphans", half, 0)
        .at_least("with_attachment", with_file, 1)
        .exactly("attachments_torn", torn, 0)
        .exactly("25P02", log.matches("current transaction is aborted").count(), 0)
        .exactly("errors_logged", log.matches("\"level\":\"ERROR\"").count(), 0)
        .exactly("refused_after", refused_after, 0)
        .must(drained.is_some(), "the queue is drained within 60 s");
    Account::of(&database, &server.accepted()).await.into_figures(accepted as usize, &mut figures);
    figures
}

/// A client that does wait, among those that do not: what its requests take.
async fn wait_for_answers(address: SocketAddr, stop: &CancellationToken) -> Vec<Duration> {
    let mut times = Vec::new();
    while !stop.is_cancelled() {
        let answer = post(address, "patient@x.test").await.unwrap();
        assert!(answer.status == 202 || answer.status == 503 && answer.retry_after, "{answer:?}");
        times.push(answer.took);
    }
    times
}

/// What a request takes that is waited for.
async fn usual_time(address: SocketAddr) -> Duration {
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(post(address, "usual@x.test").await.unwrap().took);
    }
    percentile(&mut times, 50)
}

/// Writes a request, every other one with an attachment, and resets the connection after some part of
/// `most`; every tenth in the middle of it.
async fn vanish(address: SocketAddr, i: usize, most: Duration) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = match (i / 10 + i) % 2 {
        0 => request(&format!("gone{i}@x.test")),
        _ => request_with_file(&format!("gone-file{i}@x.test")),
    };
    let part = if i % 10 == 9 { request.len() / 2 } else { request.len() };
    stream.write_all(&request.as_bytes()[..part]).await.unwrap();
    let pause = Duration::from_micros(uuid::Uuid::new_v4().as_u128() as u64 % most.as_micros() as u64);
    // A thread's clock is finer than the runtime's, whose smallest step is a millisecond.
    tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await.unwrap();
    stream.set_zero_linger().unwrap();
}
