//! The server takes a mail and its answer is lost: nobody can know.

use std::collections::HashMap;
use std::time::Duration;

use facteur::delivery::Tick;
use facteur::email::OnUnknown;
use facteur::testing::{AcceptedMail, Fault, Script, SmtpServer, Stage};
use facteur::transport::smtp::Deadlines;

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::smtp_worker::{self, emptied, worker};
use crate::transport::deadlines;

/// No copy may follow sooner.
const PATIENCE: i64 = 300;

/// From the moment at which it was written down that nobody can know, to the second.
const SOONEST: &str = "SELECT coalesce(extract(epoch FROM min(d.run_at - e.at)), 0)::bigint
    FROM facteur.deliveries d JOIN facteur.events e USING (email_id) WHERE e.kind = 'unknown'";

/// What became of the mails of one run, all of which lost their first answer.
#[derive(Default)]
struct Run {
    mails: usize,
    /// Seconds until the first of them is tried again.
    soonest: i64,
    /// Attempts made although nothing was due.
    too_early: usize,
    parked: i64,
    /// Sent twice, byte for byte the same.
    identical: usize,
    copies: usize,
    account: Option<Account>,
}

pub(crate) async fn r08(scale: Scale) -> Figures {
    let mails = scale.pick(8, 50);
    let database = Database::new().await;
    let mut figures = Figures::new();
    for (name, fault) in [("silent", Fault::stall()), ("reset", Fault::reset())] {
        let retried = run(emptied(&database).await, mails, fault.clone(), OnUnknown::Retry).await;
        let held = run(emptied(&database).await, mails, fault, OnUnknown::Hold).await;
        figures
            .at_least(&format!("{name}_not_before_s"), retried.soonest, PATIENCE)
            .exactly(&format!("{name}_too_early"), retried.too_early + held.too_early, 0)
            .exactly(&format!("{name}_identical"), retried.identical, retried.mails)
            .exactly(&format!("{name}_copies"), retried.copies, retried.mails)
            .exactly(&format!("{name}_held"), held.parked, held.mails as i64)
            .exactly(&format!("{name}_held_copies"), held.copies, 0);
        let account = retried.account.unwrap();
        figures.must(account.lost == 0 && account.uncounted == 0, format!("{name}: {account:?}")).must(
            account.counted == account.duplicates,
            format!("{name}: each copy is counted: {account:?}"),
        );
    }
    figures
}

async fn run(database: &Database, mails: usize, fault: Fault, on_unknown: OnUnknown) -> Run {
    let script = Script::new().at(Stage::EndOfData, fault.accepting()).times(mails);
    let server = SmtpServer::start(script).await.unwrap();
    let short = Deadlines { end_of_data: Duration::from_millis(300), ..deadlines(Duration::from_secs(10)) };
    let worker = worker(database, &server.relay(), short);
    database.enqueue_each(mails, |email| email.on_unknown(on_unknown)).await;
    let attempts = worker.drain().await.unwrap();
    let soonest = database.number(SOONEST).await;
    let mut run = Run { mails, soonest, ..Run::default() };
    run.too_early = attempts - mails + ticked(worker.tick().await.unwrap());
    // The row moves, and time does not.
    database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    // So much that nobody can know opened the breaker; a process that starts may try one mail before its time.
    let again = smtp_worker::worker(database, &server.relay(), short).drain().await.unwrap();
    run.parked = database.number("SELECT count(*) FROM facteur.deliveries WHERE state = 'unknown'").await;
    assert_eq!(again as i64 + run.parked, mails as i64, "each is tried again or waits for a person");
    let taken = server.accepted();
    run.copies = taken.len() - mails;
    run.identical = pairs(&taken).values().filter(|copies| same(copies)).count();
    run.account = Some(Account::of(database, &taken).await);
    run
}

fn ticked(tick: Tick) -> usize {
    match tick {
        Tick::Idle => 0,
        Tick::Worked(n) => n,
    }
}

/// The copies of each mail.
fn pairs(taken: &[AcceptedMail]) -> HashMap<&[String], Vec<&AcceptedMail>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    taken.iter().for_each(|mail| all.entry(mail.to.as_slice()).or_default().push(mail));
    all
}

/// Two of them, with the same Message-ID and the same bytes.
fn same(copies: &[&AcceptedMail]) -> bool {
    matches!(copies, [one, two] if one.message_id().is_some() && one.content == two.content)
}
