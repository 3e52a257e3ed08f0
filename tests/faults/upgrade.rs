//! Yesterday's program and today's on one database, and the schema changed between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use facteur::Outbox;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::http::{Answer, percentile, post, serve, serve_of};
use crate::process::{Process, hasty};

/// The last state before the first migration that followed the first.
const OLD: &str = "9c3a192";

/// Where its build is kept, and the program once it is built.
fn old_program() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("faults-old/debug/facteur")
}

/// Out of the history, once; takes minutes.
fn build_old() -> bool {
    let script = format!(
        "set -e; mkdir -p target/faults-old/source; git archive {OLD} | tar -x -C target/faults-old/source
         cd target/faults-old/source; SQLX_OFFLINE=true cargo build --locked --quiet --bin facteur --target-dir .."
    );
    let build = Command::new("sh").args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR")).status();
    build.is_ok_and(|status| status.success())
}

/// The old door and the old worker are at work when the new worker starts, and migrates; then both
/// are, and in the end only the new.
pub(crate) async fn r38(scale: Scale) -> Figures {
    let mut figures = Figures::new();
    let old = old_program();
    if !old.exists() && (scale == Scale::Short || !build_old()) {
        figures.show("left_out", "the old program is not built here: --full builds it, where the history is");
        return figures;
    }
    let each = Duration::from_secs(scale.pick(2, 20));
    let url = empty_database().await;
    let slow = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(5)));
    let (before, after) =
        (SmtpServer::start(slow.clone()).await.unwrap(), SmtpServer::start(slow).await.unwrap());
    let (yesterday, today) = (hasty(&url, &before.relay()), hasty(&url, &after.relay()));
    let (mut old_door, address) = serve_of(&old, &["--no-worker"], &yesterday).await;
    let mut old_worker = Process::start_of(&old, &["worker"], &yesterday);
    let pool = PgPool::connect(&url).await.unwrap();
    let database = Database { outbox: Outbox::new(pool.clone()), pool, url };
    let migrations = "SELECT count(*) FROM facteur.migrations";
    let at_first = database.number(migrations).await;
    let stop = CancellationToken::new();
    let caller = tokio::spawn(call(address, stop.clone()));
    tokio::time::sleep(each).await;
    let new_worker = Process::start(&["worker"], &today);
    let migrated = database
        .until(&format!("SELECT least(count(*) - {at_first}, 1) FROM facteur.migrations"), 1, LONG)
        .await;
    let (new_door, new_address) = serve(&["--no-worker"], &today).await;
    let sent_by_old = before.accepted().len();
    let new_caller = tokio::spawn(call(new_address, stop.clone()));
    tokio::time::sleep(each).await;
    let sent_by_old_since = before.accepted().len() - sent_by_old;
    stop.cancel();
    let (answers, new_answers) = (caller.await.unwrap(), new_caller.await.unwrap());
    let mut unclean = 0;
    for process in [&mut old_door, &mut old_worker] {
        process.signal("TERM");
        unclean += usize::from(!process.ended(LONG).await.is_some_and(|(status, _)| status.success()));
    }
    let drained = database.until_drained(Duration::from_secs(60)).await;
    let mut stalls: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    let accepted = answers.iter().chain(&new_answers).filter(|answer| answer.status == 202).count();
    let errors = |process: &Process| process.log().matches("\"level\":\"ERROR\"").count();
    figures
        .at_least("migrations_between", database.number(migrations).await - at_first, 1)
        .must(migrated.is_some(), "the new program migrates under the old ones")
        .exactly("refused", answers.len() + new_answers.len() - accepted, 0)
        .at_most("longest_stall_ms", percentile(&mut stalls, 100).as_millis(), 1_000)
        .show("usual_ms", percentile(&mut stalls, 50).as_millis())
        .at_least("sent_by_old_since", sent_by_old_since, 1)
        .at_least("sent_by_new", after.accepted().len(), 1)
        .exactly("old_errors", errors(&old_door) + errors(&old_worker), 0)
        .exactly("new_errors", errors(&new_door) + errors(&new_worker), 0)
        .exactly("old_ended_badly", unclean, 0)
        .must(drained.is_some(), "the queue is drained within 60 s");
    let taken = [before.accepted(), after.accepted()].concat();
    Account::of(&database, &taken).await.into_figures(accepted, &mut figures);
    figures
}

const LONG: Duration = Duration::from_secs(30);

/// One request after the other.
async fn call(address: SocketAddr, stop: CancellationToken) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !stop.is_cancelled() {
        answers.push(post(address, &format!("mail{}@x.test", answers.len())).await.unwrap());
    }
    answers
}

/// Without a schema: the first program that starts makes its own.
async fn empty_database() -> String {
    let neighbour = Database::new().await;
    let name = format!("faults_{}", uuid::Uuid::new_v4().simple());
    neighbour.execute(&format!("CREATE DATABASE {name}")).await;
    let (server, _) = neighbour.url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}
