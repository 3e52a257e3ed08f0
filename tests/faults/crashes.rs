//! Processes that die at a named place.

use std::fmt::Write;
use std::time::Duration;

use facteur::email::OnUnknown;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use futures_util::{StreamExt, stream};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::process::{Process, hasty};

/// As many as a worker sends at once.
const SLOTS: usize = 16;

/// Each place, and what a death there may cost.
const POINTS: &[(&str, Cost)] = &[
    ("after_claim", Cost::Nothing),
    ("after_connect", Cost::Nothing),
    ("after_mail", Cost::Nothing),
    ("after_rcpt", Cost::Nothing),
    ("after_data", Cost::Nothing),
    ("mid_body", Cost::Nothing),
    ("before_dot", Cost::Nothing),
    ("after_dot", Cost::Copies),
    ("after_reply", Cost::Copies),
    ("during_commit", Cost::Copies),
    ("after_commit", Cost::Nothing),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    Nothing,
    /// The server may have taken what was in flight.
    Copies,
}

/// A worker dies at each place; the next one ends its work.
pub(crate) async fn r02(scale: Scale) -> Figures {
    at_every_point(scale, OnUnknown::Retry).await
}

/// The same for mail that a person wants to decide about.
pub(crate) async fn r03(scale: Scale) -> Figures {
    at_every_point(scale, OnUnknown::Hold).await
}

async fn at_every_point(scale: Scale, on_unknown: OnUnknown) -> Figures {
    let rounds = scale.pick(1, 13);
    let mut figures = Figures::new();
    let mut table = String::from("      place          mails  arrived  lost  copies  counted  parked");
    let (mut deaths, mut mails, mut lost, mut uncounted, mut parked) = (0, 0, 0, 0, 0);
    let (mut early, mut late) = (0, 0);
    // Each has a database and a server of its own; a few at a time, because most of it is waiting.
    let accounts = stream::iter(POINTS).map(|(point, _)| die_at(point, rounds, on_unknown)).buffered(4);
    let accounts: Vec<_> = accounts.collect().await;
    for ((point, cost), (account, died)) in POINTS.iter().zip(accounts) {
        deaths += died;
        mails += account.accepted;
        lost += account.lost;
        uncounted += account.uncounted;
        parked += account.live;
        match cost {
            Cost::Nothing => early += account.duplicates,
            Cost::Copies => late += account.duplicates,
        }
        figures.must(account.duplicates <= SLOTS * died, format!("{point}: at most {SLOTS} copies a death"));
        let Account { accepted, arrived, lost, duplicates, counted, live, .. } = account;
        write!(table, "\n      {point:<14} {accepted:>5}  {arrived:>7}  {lost:>4}  {duplicates:>6}  {counted:>7}  {live:>6}")
            .unwrap();
    }
    figures.detail = Some(table);
    figures
        .show("places", POINTS.len())
        .exactly("deaths", deaths, POINTS.len() * rounds)
        .show("mails", mails);
    figures.exactly("lost", lost, 0).exactly("copies_where_none_may_be", early, 0);
    match on_unknown {
        OnUnknown::Retry => {
            figures.at_least("copies_where_nobody_can_know", late, 1).exactly("parked", parked, 0)
        }
        OnUnknown::Hold => {
            figures.exactly("copies_where_nobody_can_know", late, 0).at_least("parked", parked, 1)
        }
    };
    figures.exactly("uncounted", uncounted, 0);
    figures
}

/// So many times: mail is queued, and its worker dies at the first arrival there. How many did.
async fn die_at(point: &str, rounds: usize, on_unknown: OnUnknown) -> (Account, usize) {
    let database = Database::new().await;
    // Slow enough that all slots are at the same stage.
    let script = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(30)));
    let server = SmtpServer::start(script).await.unwrap();
    let mut deadly = hasty(&database.url, &server.relay());
    deadly.push(("WORKER_CONCURRENCY", SLOTS.to_string()));
    let mut died = 0;
    // The rest of a batch may be in flight when the first of it is written down: one at a time tells.
    let batch = if point == "after_commit" { 1 } else { SLOTS };
    let body = "A line of a long letter, which goes out in more than one piece.\n".repeat(600);
    for _ in 0..rounds {
        database.enqueue_each(batch, |email| email.html(&*body).on_unknown(on_unknown)).await;
        let mut worker = Process::start(&["worker", "--crash-at", point], &deadly);
        let ended = worker.ended(Duration::from_secs(15)).await;
        died += usize::from(ended.is_some_and(|(status, _)| !status.success()));
        drop(worker);
        take_back(&database).await;
    }
    let _next = Process::start(&["worker"], &deadly);
    let drained = database.until_drained(Duration::from_secs(60)).await;
    assert!(drained.is_some(), "{point}: not drained");
    (Account::of(&database, &server.accepted()).await, died)
}

/// What the dead held is due at once: rows are moved, not time.
async fn take_back(database: &Database) {
    database.execute("DELETE FROM facteur.worker_sessions").await;
    while database.outbox.reap().await.unwrap() != facteur::outbox::Reaped::default() {}
    database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
}

/// One mail of many kills its worker each time, another breaks its renderer.
pub(crate) async fn r23(scale: Scale) -> Figures {
    let mails = scale.pick(300, 1_000);
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    database.enqueue(mails - 1).await;
    let poison = database.enqueue_each(1, |email| email.to("poison@x.test")).await[0];
    // Three attempts are enough to show it; the other recipient of the same e-mail has all of its own.
    database
        .execute("UPDATE facteur.deliveries SET max_attempts = 3 WHERE recipient = 'poison@x.test'")
        .await;
    let environment = hasty(&database.url, &server.relay());
    let mut restarts = 0;
    for _ in 0..10 {
        let mut worker =
            Process::start(&["worker", "--crash-at", "before_render:poison@x.test"], &environment);
        let dead = "SELECT count(*) FROM facteur.outcomes WHERE recipient = 'poison@x.test'";
        while worker.ended(Duration::from_millis(100)).await.is_none() && database.number(dead).await == 0 {}
        if database.number(dead).await > 0 {
            break;
        }
        restarts += 1;
        drop(worker);
        take_back(&database).await;
    }
    let _last = Process::start(&["worker"], &environment);
    let drained = database.until_drained(Duration::from_secs(60)).await;
    let mut figures = Figures::new();
    let account = Account::of(&database, &server.accepted()).await;
    figures.show("mails", mails).must(drained.is_some(), "the queue is drained");
    // The e-mail has two recipients; each is a delivery of its own.
    account.into_figures(mails + 1, &mut figures);
    let reason = format!(
        "SELECT coalesce(string_agg(final || ':' || reason || ':' || attempts, ','), 'none') FROM facteur.outcomes
         WHERE email_id = '{poison}' AND recipient = 'poison@x.test'"
    );
    figures
        .exactly("poison", database.text(&reason).await, "failed:worker_lost:3".to_owned())
        .exactly("restarts", restarts, 3)
        .exactly("others_sent", account.arrived, mails);
    panicking(&mut figures).await;
    figures
}

/// A renderer that panics takes no neighbour along, and no process.
async fn panicking(figures: &mut Figures) {
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    database.enqueue(20).await;
    let environment = hasty(&database.url, &server.relay());
    let mut worker =
        Process::start(&["worker", "--crash-at", "panic:before_render:mail7@x.test"], &environment);
    let sent = database.until("SELECT count(*) FROM facteur.outcomes", 19, Duration::from_secs(20)).await;
    let retried = database.number("SELECT count(*) FROM facteur.events WHERE kind = 'retry'").await;
    figures
        .must(sent.is_some(), "the other 19 are sent")
        .exactly("panicked_and_tried_again", retried, 1)
        .must(worker.ended(Duration::ZERO).await.is_none(), "the process lives on");
}
