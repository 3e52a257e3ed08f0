//! The bell between processes, over a path that goes silent.

use std::time::{Duration, Instant};

use facteur::Outbox;
use facteur::delivery::{Shutdown, Worker};
use facteur::settings;
use facteur::testing::{Script, SmtpServer, TcpProxy};
use facteur::transport::{Transport, smtp::SmtpTransport};
use futures_util::FutureExt;
use sqlx::postgres::PgConnectOptions;
use tokio::time::timeout;

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::{Database, email_to};
use crate::http::percentile;
use crate::keys::address_of;

/// How often the queue is looked at when no bell rings.
const POLL: Duration = Duration::from_secs(1);

/// A worker that polls once a second and is woken by another process; then the path of the bell,
/// and only that, is a black hole; then it is a path again.
pub(crate) async fn r32(scale: Scale) -> Figures {
    // The liveness check goes by the deadline of statements: 10 s + 5 s by default.
    let (deadline, mails, silence) = scale.pick(
        (Duration::from_millis(500), 4, Duration::from_secs(2)),
        (Duration::from_secs(10), 20, Duration::from_secs(25)),
    );
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let proxy = TcpProxy::start(address_of(&database.url)).await.unwrap();
    let through: PgConnectOptions = database.url.parse().unwrap();
    let through = through.host("127.0.0.1").port(proxy.addr().port());
    let stop = Shutdown::default();
    let here = Outbox::new(database.pool.clone()).with_deadline(deadline).listening_at(through.clone());
    let settings = settings::Worker {
        concurrency: 4,
        poll: POLL,
        lease: Duration::from_secs(120),
        heartbeat: Duration::from_secs(5),
        session_expiry: Duration::from_secs(30),
        grace: Duration::from_secs(2),
        keep: settings::Keep {
            sent: Duration::from_secs(30 * 86_400),
            failed: Duration::from_secs(90 * 86_400),
        },
    };
    let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
    let worker = std::sync::Arc::new(Worker::new(here.clone(), transport, settings, "faults"));
    let working = tokio::spawn(worker.run(stop.clone()));
    let listening = tokio::spawn({
        let stop = stop.begin.clone();
        async move { here.listen(stop).await }
    });
    let announcing = tokio::spawn({
        // Another process: a bell of its own, whose ringing it passes on.
        let (there, stop) = (database.outbox.clone(), stop.begin.clone());
        async move { there.announce(stop).await }
    });
    // One more ear, with nothing on its bell but what it hears itself.
    let ear = Outbox::new(database.pool.clone()).with_deadline(deadline).listening_at(through);
    let hearing = tokio::spawn({
        let (ear, stop) = (ear.clone(), stop.begin.clone());
        async move { ear.listen(stop).await }
    });
    ear.woken().await;
    let mut before = latencies(&database, &server, mails).await;
    proxy.stall();
    let opened = proxy.opened();
    let mut during = latencies(&database, &server, mails).await;
    tokio::time::sleep(silence).await;
    let tried = proxy.opened() - opened;
    let _rung_before = ear.woken().now_or_never();
    let resumed = Instant::now();
    proxy.resume();
    // Nobody announces anything: it rings because the connection is back.
    let swept = timeout(Duration::from_secs(40), ear.woken()).await.is_ok().then(|| resumed.elapsed());
    let fast_again = until_fast(&database, &server, resumed).await;
    let mut after = latencies(&database, &server, mails).await;
    stop.begin.cancel();
    let _ = tokio::join!(working, listening, announcing, hearing);
    let mut figures = Figures::new();
    let poll = POLL.as_millis();
    figures
        .at_most("before_p50_ms", percentile(&mut before, 50).as_millis(), poll / 4)
        .at_least("silent_p50_ms", percentile(&mut during, 50).as_millis(), poll / 4)
        .at_most("silent_max_ms", percentile(&mut during, 100).as_millis(), poll + 500)
        .at_least("reconnections_tried", tried, 2)
        .must(swept.is_some(), "a connection that is back is followed by a look at the queue")
        .at_most("swept_after_ms", swept.unwrap_or_default().as_millis(), 30_000)
        .at_most("fast_again_after_ms", fast_again.as_millis(), 30_000)
        .at_most("after_p50_ms", percentile(&mut after, 50).as_millis(), poll / 4);
    let all = database.number("SELECT count(*) FROM facteur.emails").await;
    Account::of(&database, &server.accepted()).await.into_figures(all as usize, &mut figures);
    figures
}

/// From the acceptance in another process to the server, for one mail after the other.
async fn latencies(database: &Database, server: &SmtpServer, mails: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..mails {
        let before = server.accepted().len();
        let begun = Instant::now();
        database.outbox.enqueue(&email_to("bell@x.test").build().unwrap()).await.unwrap();
        while server.accepted().len() == before {
            assert!(begun.elapsed() < Duration::from_secs(20), "the mail does not come");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(begun.elapsed());
    }
    times
}

/// How long until three mails in a row come faster than polls explain.
async fn until_fast(database: &Database, server: &SmtpServer, since: Instant) -> Duration {
    let mut in_a_row = 0;
    while in_a_row < 3 && since.elapsed() < Duration::from_secs(60) {
        let fast = latencies(database, server, 1).await[0] < POLL / 4;
        in_a_row = if fast { in_a_row + 1 } else { 0 };
    }
    since.elapsed()
}
