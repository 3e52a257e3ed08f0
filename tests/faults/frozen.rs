//! Workers that are frozen, or too slow for their lease, while others go on.

use std::sync::Arc;
use std::time::Duration;

use facteur::delivery::{Shutdown, Worker};
use facteur::settings;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::{Transport, smtp::SmtpTransport};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::process::{Process, hasty};

const SLOTS: usize = 16;

/// Frozen before its last byte, and behind it; another worker takes over; then it wakes.
pub(crate) async fn r14(scale: Scale) -> Figures {
    let frozen = Duration::from_secs(scale.pick(3, 150));
    let mut figures = Figures::new();
    figures.show("frozen_s", frozen.as_secs()).show("in_flight", SLOTS);
    let account = freeze(Stage::Data, frozen, &mut figures).await;
    figures.exactly("lost_before_the_dot", account.lost, 0).exactly(
        "copies_before_the_dot",
        account.duplicates,
        0,
    );
    let account = freeze(Stage::EndOfData, frozen, &mut figures).await;
    figures
        .exactly("lost_behind_the_dot", account.lost, 0)
        .exactly("copies_behind_the_dot", account.duplicates, SLOTS)
        .exactly("uncounted", account.uncounted, 0);
    figures
}

/// Freezes a worker whose mails all await the reply at `stage`.
async fn freeze(stage: Stage, frozen: Duration, figures: &mut Figures) -> Account {
    let database = Database::new().await;
    let script = Script::new().at(stage, Fault::delay(Duration::from_millis(1_000)));
    let server = SmtpServer::start(script).await.unwrap();
    database.enqueue(SLOTS).await;
    let mut environment = hasty(&database.url, &server.relay());
    environment.push(("WORKER_CONCURRENCY", SLOTS.to_string()));
    let sleeper = Process::start(&["worker"], &environment);
    let waiting = match stage {
        Stage::Data => "DATA\r\n",
        _ => "\r\n.\r\n",
    };
    let heard = |server: &SmtpServer| {
        let conversations = server.conversations();
        conversations.iter().filter(|c| c.heard(waiting)).count() >= SLOTS
    };
    server.wait_until(heard).await;
    sleeper.signal("STOP");

    let _other = Process::start(&["worker"], &environment);
    let taken = "SELECT count(*) FROM facteur.events WHERE kind = 'lease_lost'";
    let reaped = database.until(taken, SLOTS as i64, Duration::from_secs(60)).await;
    database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    let drained = database.until_drained(Duration::from_secs(60)).await;
    tokio::time::sleep(frozen.saturating_sub(reaped.unwrap_or_default())).await;
    sleeper.signal("CONT");
    let late = "SELECT count(*) FROM facteur.events WHERE kind IN ('settled_late', 'sent_after_lease_lost')";
    let noticed = database.until(late, SLOTS as i64, Duration::from_secs(20)).await;
    figures
        .must(reaped.is_some(), "the other worker takes the leases over")
        .must(drained.is_some(), "the other worker sends all")
        .must(noticed.is_some(), "each late write is fenced, and has an event");
    Account::of(&database, &server.accepted()).await
}

/// A lease that ends before the server answers: two workers have the same mail, one may write.
pub(crate) async fn r15(scale: Scale) -> Figures {
    let mails = scale.pick(SLOTS, 5 * SLOTS);
    let database = Database::new().await;
    let script = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_secs(3)));
    let server = SmtpServer::start(script).await.unwrap();
    database.enqueue(mails).await;
    let hurried = settings::Worker { concurrency: mails, lease: Duration::from_secs(1), ..unhurried() };
    let (first, stop) = running(&database, &server, hurried);
    server.wait_for(mails).await;
    let over = "SELECT count(*) FROM facteur.deliveries WHERE lease_until < now()";
    database.until(over, mails as i64, Duration::from_secs(10)).await.expect("the leases end");
    while database.outbox.reap().await.unwrap() != facteur::outbox::Reaped::default() {}
    database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    let (second, stop_second) =
        running(&database, &server, settings::Worker { concurrency: mails, ..unhurried() });
    server.wait_for(2 * mails).await;
    let drained = database.until_drained(Duration::from_secs(20)).await;
    for (stop, worker) in [(stop, first), (stop_second, second)] {
        stop.begin.cancel();
        worker.await.unwrap();
    }
    let mut figures = Figures::new();
    figures.show("mails", mails).must(drained.is_some(), "all ends");
    let counted = "SELECT count(*) FROM facteur.events WHERE kind = 'sent_after_lease_lost'";
    let counted = usize::try_from(database.number(counted).await).unwrap();
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(mails, &mut figures);
    let outcomes = database.number("SELECT count(*) FROM facteur.outcomes").await;
    figures
        .exactly("outcomes", outcomes, mails as i64)
        .exactly("counted_late", counted, account.duplicates)
        .at_least("late_writes", counted, mails);
    figures
}

fn unhurried() -> settings::Worker {
    settings::Worker {
        concurrency: SLOTS,
        poll: Duration::from_millis(100),
        lease: Duration::from_secs(120),
        // Beats keep the session alive, and come too seldom to renew a lease of a second.
        heartbeat: Duration::from_secs(10),
        session_expiry: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        keep: crate::database::KEEP,
    }
}

fn running(
    database: &Database,
    server: &SmtpServer,
    pace: settings::Worker,
) -> (tokio::task::JoinHandle<()>, Shutdown) {
    let relay = settings::Relay { max_connections: 200, ..server.relay() };
    let transport = Transport::Smtp(SmtpTransport::new(&relay).unwrap());
    let worker = Arc::new(Worker::new(database.outbox.clone(), transport, pace, "faults"));
    let shutdown = Shutdown::default();
    (tokio::spawn(worker.run(shutdown.clone())), shutdown)
}
