//! Processes that die.

use std::time::Duration;

use facteur::testing::{Fault, Script, SmtpServer, Stage};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::process::{Process, hasty};

/// Two workers over one queue; every so often one of them is killed and started again.
pub(crate) async fn r01(scale: Scale) -> Figures {
    let (mails, kills) = scale.pick((2_000, 6), (10_000, 20));
    let database = Database::new().await;
    let record = tempfile("r01");
    let script = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(5)));
    let server = SmtpServer::start(script.record_in(&record)).await.unwrap();
    let accepted = database.enqueue(mails).await;
    let environment = hasty(&database.url, &server.relay());
    let mut workers = [(); 2].map(|()| Process::start(&["worker"], &environment));
    let mut in_flight = 0;
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(scale.pick(700, 1_500))).await;
        let victim = &mut workers[kill % 2];
        victim.kill();
        in_flight += database.number("SELECT count(*) FROM facteur.deliveries WHERE state = 'sending'").await;
        *victim = Process::start(&["worker"], &environment);
    }
    let at_work = server.accepted().len();
    let drained = database.until_drained(Duration::from_secs(200)).await;
    let mut figures = Figures::new();
    figures.show("mails", mails).show("kills", kills).show("taken_at_last_kill", at_work);
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(accepted.len(), &mut figures);
    figures
        .show("in_flight_at_kills", in_flight)
        .must(account.duplicates as i64 <= in_flight, "no more copies than mails in flight at the kills")
        .must(at_work < mails, "the last kill came before the work was done")
        .must(drained.is_some(), "the queue is drained within 200 s")
        .show("drained_s", drained.unwrap_or_default().as_secs());
    let on_disk = std::fs::read_to_string(&record).unwrap().lines().count();
    figures.exactly("recorded_on_disk", on_disk, server.accepted().len());
    let _ = std::fs::remove_file(record);
    figures
}

fn tempfile(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("faults-{name}-{}.jsonl", uuid::Uuid::new_v4()))
}
