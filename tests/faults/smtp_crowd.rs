//! A provider that allows four connections.

use std::time::Duration;

use facteur::settings::Relay;
use facteur::testing::{Counters, Fault, Script, SmtpServer, Stage};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::smtp_worker::{burnt_attempts, emptied, worker};
use crate::transport::deadlines;

const ALLOWED: usize = 4;

/// What came of it with so many connections configured.
struct Run {
    counters: Counters,
    burnt: i64,
    /// Times at which what was refused was tried again.
    rounds: usize,
    account: Account,
}

pub(crate) async fn r31(scale: Scale) -> Figures {
    let mails = scale.pick(200, 2_000);
    let database = Database::new().await;
    let kept = run(emptied(&database).await, mails, ALLOWED).await;
    let beyond = run(emptied(&database).await, mails, 2 * ALLOWED).await;
    let mut figures = Figures::new();
    figures
        .at_most("most_open", kept.counters.most_open, ALLOWED)
        .exactly("turned_away", kept.counters.turned_away, 0)
        .exactly("burnt_attempts", kept.burnt, 0)
        .exactly("lost", kept.account.lost, 0)
        .at_least("beyond_turned_away", beyond.counters.turned_away, 1)
        .exactly("beyond_burnt_attempts", beyond.burnt, 0)
        .exactly("beyond_rounds", beyond.rounds, 1)
        .exactly("beyond_lost", beyond.account.lost, 0);
    // Each connection that is configured in vain learns it once a minute.
    figures.must(beyond.counters.turned_away <= ALLOWED, "no more are tried than are configured");
    for run in [kept, beyond] {
        let Account { accepted, arrived, duplicates, .. } = run.account;
        figures.must((accepted, arrived) == (mails, mails), format!("all arrive: {:?}", run.account));
        figures.must(duplicates == 0, format!("once: {:?}", run.account));
    }
    figures
}

async fn run(database: &Database, mails: usize, connections: usize) -> Run {
    let script =
        Script::new().most_connections(ALLOWED).at(Stage::EndOfData, Fault::delay(Duration::from_millis(5)));
    let server = SmtpServer::start(script).await.unwrap();
    let relay = Relay { max_connections: connections, ..server.relay() };
    let worker = worker(database, &relay, deadlines(Duration::from_secs(10)));
    database.enqueue(mails).await;
    let mut rounds = 0;
    while worker.drain().await.unwrap() > 0 {
        rounds += 1;
        assert!(rounds < 100, "they never arrive");
        // The rows move, and time does not.
        database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    }
    let (counters, account) = (server.counters(), Account::of(database, &server.accepted()).await);
    Run { counters, burnt: burnt_attempts(database).await, rounds, account }
}
