//! A flood of urgent mail over mail that can wait.

use std::sync::Arc;
use std::time::Duration;

use facteur::delivery::{Shutdown, Worker};
use facteur::email::Priority;
use facteur::settings;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::{Transport, smtp::SmtpTransport};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::{Database, KEEP, email_to};

/// Urgent mail comes at a steady pace, and a thousand mails of the lowest priority lie before it.
pub(crate) async fn r27(scale: Scale) -> Figures {
    let (patient, pace, seconds) = scale.pick((300, 60, 6), (1_000, 60, 40));
    let database = Database::new().await;
    let script = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(50)));
    let server = SmtpServer::start(script).await.unwrap();
    database.enqueue_each(patient, |email| email.priority(Priority::Low)).await;
    let relay = settings::Relay { max_connections: 16, ..server.relay() };
    let transport = Transport::Smtp(SmtpTransport::new(&relay).unwrap());
    let (pool, shutdown) = (worker_settings(), Shutdown::default());
    let worker = Arc::new(Worker::new(database.outbox.clone(), transport, pool, "faults"));
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let mut clock = tokio::time::interval(Duration::from_secs(1) / pace);
    let flood = pace * seconds;
    let mut calls = Vec::new();
    for i in 0..flood {
        clock.tick().await;
        let outbox = database.outbox.clone();
        let urgent = email_to(&format!("urgent{i}@x.test")).priority(Priority::Urgent).build().unwrap();
        calls.push(tokio::spawn(async move { outbox.enqueue(&urgent).await.unwrap() }));
    }
    let early = "SELECT count(*) FROM facteur.outcomes o WHERE o.recipient LIKE 'mail%'";
    let early = database.number(early).await;
    for call in calls {
        call.await.unwrap();
    }
    let drained = database.until_drained(Duration::from_secs(60)).await;
    shutdown.begin.cancel();
    running.await.unwrap();

    let mut figures = Figures::new();
    let waited = |who: &str, percentile: f64| {
        format!(
            "SELECT (1000 * percentile_cont({percentile}) WITHIN GROUP (
                     ORDER BY extract(epoch FROM o.finished_at - e.created_at)))::bigint
             FROM facteur.outcomes o JOIN facteur.emails e ON e.id = o.email_id WHERE o.recipient LIKE '{who}%'"
        )
    };
    figures
        .show("urgent", flood)
        .show("a_second", pace)
        .show("urgent_p50_ms", database.number(&waited("urgent", 0.5)).await)
        .at_most("urgent_p99_ms", database.number(&waited("urgent", 0.99)).await, 1_000)
        .show("low", patient)
        .at_least("low_sent_during_the_flood", early, 1)
        .show("low_longest_ms", database.number(&waited("mail", 1.0)).await)
        .must(drained.is_some(), "all is sent in the end");
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(patient + flood as usize, &mut figures);
    figures
}

fn worker_settings() -> settings::Worker {
    settings::Worker {
        concurrency: 16,
        poll: Duration::from_secs(1),
        lease: Duration::from_secs(120),
        heartbeat: Duration::from_secs(5),
        session_expiry: Duration::from_secs(30),
        grace: Duration::from_secs(10),
        keep: KEEP,
    }
}
