//! Postgres goes away, and comes back.

use std::time::{Duration, Instant};

use facteur::testing::{Fault, Script, SmtpServer, Stage};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::cluster::{Cluster, Stop};
use crate::database::Database;
use crate::http::{lines, percentile};
use crate::process::{Process, hasty};

const OUTCOMES: &str = "SELECT count(*) FROM facteur.outcomes";

/// Two workers drain a queue; Postgres is restarted under them, in order and as by a power cut.
pub(crate) async fn r04(scale: Scale) -> Figures {
    let (mails, each) = scale.pick((2_000, 1), (10_000, 3));
    let mut cluster = Cluster::start().await;
    let database = Database::on(cluster.url()).await;
    let script = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(5)));
    let server = SmtpServer::start(script).await.unwrap();
    let accepted = database.enqueue(mails).await;
    let mut environment = hasty(&database.url, &server.relay());
    // Longer than an outage: a copy is then the restart's and not the haste's.
    environment.push(("WORKER_SESSION_EXPIRY", "10s".to_owned()));
    let mut workers = [(); 2].map(|()| Process::start(&["worker"], &environment));
    let (mut outages, mut resumed) = (Vec::new(), Vec::new());
    let mut in_flight = 0;
    for i in 0..2 * each {
        server_took(&server, mails * (i + 1) / (2 * each + 2)).await;
        let begun = Instant::now();
        cluster.stop(if i % 2 == 0 { Stop::Fast } else { Stop::Immediate }).await;
        cluster.start_again().await;
        outages.push(begun.elapsed());
        in_flight += database.number("SELECT count(*) FROM facteur.deliveries WHERE state = 'sending'").await;
        resumed.push(until_more(&database).await);
    }
    let at_last_restart = server.counters().mails;
    let drained = database.until_drained(Duration::from_secs(120)).await;
    let mut dead = 0;
    for worker in &mut workers {
        dead += usize::from(worker.ended(Duration::ZERO).await.is_some());
    }
    let mut figures = Figures::new();
    figures.show("restarts", 2 * each).show("taken_at_last_restart", at_last_restart);
    figures.must(at_last_restart < mails, "the last restart came before the work was done");
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(accepted.len(), &mut figures);
    figures
        .show("in_flight_at_restarts", in_flight)
        .must(account.duplicates as i64 <= in_flight, "no more copies than mails in flight at the restarts")
        .exactly("workers_dead", dead, 0)
        .must(drained.is_some(), "the queue is drained within 120 s")
        .show("outage_max_s", format!("{:.1}", percentile(&mut outages, 100).as_secs_f64()))
        .show("resume_p50_ms", percentile(&mut resumed, 50).as_millis())
        .at_most("resume_max_ms", percentile(&mut resumed, 100).as_millis(), 10_000)
        .show("drained_s", drained.unwrap_or_default().as_secs());
    figures
}

/// 32 mails have left and their replies are on the way when Postgres goes; it comes back after them.
pub(crate) async fn r05(scale: Scale) -> Figures {
    const HELD: usize = 32;
    let (down, expiry) = scale.pick((3, "30s"), (60, "150s"));
    let mut cluster = Cluster::start().await;
    let database = Database::on(cluster.url()).await;
    let held_back = Fault::delay(Duration::from_secs(2));
    let script = Script::new().at(Stage::EndOfData, held_back).times(HELD);
    let server = SmtpServer::start(script).await.unwrap();
    let accepted = database.enqueue(2 * HELD).await;
    let mut environment = hasty(&database.url, &server.relay());
    environment.extend([
        ("WORKER_CONCURRENCY", HELD.to_string()),
        ("SMTP_MAX_CONNECTIONS", HELD.to_string()),
        ("WORKER_SESSION_EXPIRY", expiry.to_owned()),
        ("WORKER_LEASE", "180s".to_owned()),
    ]);
    let mut worker = Process::start(&["worker"], &environment);
    server.wait_for(HELD).await;
    let written_before = database.number(OUTCOMES).await;
    cluster.stop(Stop::Fast).await;
    let begun_before = server.counters().mails;
    tokio::time::sleep(Duration::from_secs(down)).await;
    let begun_meanwhile = server.counters().mails - begun_before;
    cluster.start_again().await;
    let back = Instant::now();
    let written =
        database.until(&format!("{OUTCOMES} WHERE final = 'sent'"), 2 * HELD as i64, PATIENCE).await;
    let mut figures = Figures::new();
    figures
        .show("down_s", down)
        .exactly("held", begun_before, HELD)
        .exactly("written_before", written_before, 0)
        .exactly("begun_while_down", begun_meanwhile, 0);
    let log = worker.log();
    let tries = lines(&log, "outcomes could not be written; trying again");
    let unwritten = tries.filter_map(|line| line["outcomes"].as_u64()).max().unwrap_or_default();
    figures
        .at_least("unwritten_batch_max", unwritten, 1)
        .must(written.is_some(), "every outcome is written within 60 s of the return")
        .show("all_written_s", format!("{:.1}", back.elapsed().as_secs_f64()))
        .exactly("workers_dead", usize::from(worker.ended(Duration::ZERO).await.is_some()), 0);
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(accepted.len(), &mut figures);
    figures.must(account.duplicates == 0, "no copy while the leases hold");
    figures
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the server has been asked to take so many mails.
async fn server_took(server: &SmtpServer, mails: usize) {
    let end = Instant::now() + PATIENCE;
    while server.counters().mails < mails {
        assert!(Instant::now() < end, "only {} of {mails} mails", server.counters().mails);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How long until one more outcome is written.
async fn until_more(database: &Database) -> Duration {
    let (begun, before) = (Instant::now(), database.number(OUTCOMES).await);
    while database.number(OUTCOMES).await == before && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}
