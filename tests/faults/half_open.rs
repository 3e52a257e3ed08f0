//! The path between a worker and Postgres goes silent, while SMTP works.

use std::time::{Duration, Instant};

use facteur::testing::{Fault, Script, SmtpServer, Stage, TcpProxy};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::keys::address_of;
use crate::process::{Process, hasty};

/// Mails that the cut-off worker holds: half before their content, half behind their last byte.
const HELD: usize = 16;

/// What the worker is told, and what follows from it.
struct Pace {
    environment: Vec<(&'static str, String)>,
    expiry: Duration,
    silence: Duration,
    /// When the replies to DATA and to the last byte come: the session may be over, and is not quite.
    replies: (Duration, Duration),
}

impl Pace {
    fn of(scale: Scale) -> Self {
        let seconds = Duration::from_secs;
        let (expiry, silence, replies) = scale.pick(
            (seconds(2), seconds(7), (Duration::from_millis(2_500), Duration::from_millis(500))),
            (seconds(30), seconds(60), (seconds(25), seconds(5))),
        );
        let environment = scale.pick(
            vec![("DATABASE_TIMEOUT", "1s".to_owned())],
            // As they are when nothing is said.
            vec![("WORKER_HEARTBEAT", "5s".to_owned()), ("WORKER_SESSION_EXPIRY", "30s".to_owned())],
        );
        Self { environment, expiry, silence, replies }
    }
}

/// One worker behind a proxy that becomes a black hole, one beside it; each sends to a server of its own.
pub(crate) async fn r16(scale: Scale) -> Figures {
    const SENDING: &str = "SELECT count(*) FROM facteur.deliveries WHERE state = 'sending'";
    let pace = Pace::of(scale);
    let database = Database::new().await;
    let proxy = TcpProxy::start(address_of(&database.url)).await.unwrap();
    let script = Script::new()
        .at(Stage::Data, Fault::delay(pace.replies.0))
        .times(HELD / 2)
        .at(Stage::EndOfData, Fault::delay(pace.replies.1))
        .times(HELD / 2);
    let (cut_off, beside) =
        (SmtpServer::start(script).await.unwrap(), SmtpServer::start(Script::new()).await.unwrap());
    let direct = address_of(&database.url).to_string();
    let through = database.url.replace(&direct, &proxy.addr().to_string());
    let start = |url: &str, server: &SmtpServer| {
        let mut environment = hasty(url, &server.relay());
        environment.extend(pace.environment.clone());
        Process::start(&["worker"], &environment)
    };
    database.enqueue(HELD).await;
    let mut first = start(&through, &cut_off);
    cut_off.wait_until(|server| server.counters().mails == HELD && server.accepted().len() == HELD / 2).await;
    proxy.stall();
    let begun = Instant::now();
    // More to do: nobody but the other may take it.
    database.enqueue(HELD).await;
    let second = start(&database.url, &beside);
    tokio::time::sleep_until((begun + pace.expiry).into()).await;
    let at_expiry = cut_off.accepted().len();
    let lost = "SELECT count(*) FROM facteur.events WHERE kind = 'lease_lost'";
    database.until(lost, HELD as i64, pace.expiry + Duration::from_secs(20)).await;
    let reaped = begun.elapsed();
    tokio::time::sleep_until((begun + pace.silence).into()).await;
    let (late_dots, begun_meanwhile) =
        (cut_off.accepted().len() - at_expiry, cut_off.counters().mails - HELD);
    // Rows are moved, not time: what was taken back waits 10 s otherwise.
    database.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    let taken_over = database.until_drained(Duration::from_secs(30)).await;
    drop(second);
    proxy.resume();
    let resumed = Instant::now();
    let accepted = 2 * HELD + database.enqueue(HELD).await.len();
    let worked_again = database.until_drained(Duration::from_secs(60)).await;
    let back = resumed.elapsed();
    let mut figures = Figures::new();
    figures
        .show("silence_s", pace.silence.as_secs())
        .exactly("begun_while_cut_off", begun_meanwhile, 0)
        .exactly("last_bytes_after_expiry", late_dots, 0)
        .at_most("reaped_after_s", seconds(reaped), pace.expiry.as_secs_f64() + 10.0)
        .must(taken_over.is_some(), "the other worker does what the first could not")
        .must(worked_again.is_some(), "the first works again once the path is back")
        .show("works_again_after_s", seconds(back))
        .exactly("workers_dead", usize::from(first.ended(Duration::ZERO).await.is_some()), 0)
        .exactly("left_sending", database.number(SENDING).await, 0);
    let taken = [cut_off.accepted(), beside.accepted()].concat();
    let account = Account::of(&database, &taken).await;
    account.into_figures(accepted, &mut figures);
    figures.at_most("copies_of_unwritten", account.duplicates, HELD / 2);
    figures
}

/// With one decimal.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
