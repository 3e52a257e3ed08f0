//! Many dead recipients: neither the connection's fault nor the way's.

use std::sync::Arc;
use std::time::Duration;

use facteur::delivery::Shutdown;
use facteur::settings::Relay;
use facteur::testing::{Fault, Script, SmtpServer, Stage};

use crate::case::{Figures, Scale};
use crate::database::{Database, email_to};
use crate::smtp_worker::worker;
use crate::transport::deadlines;

/// Refusals between two good mails: more in a row than a broken way out is granted.
const IN_A_ROW: usize = 10;
const CONNECTIONS: usize = 4;

pub(crate) async fn r30(scale: Scale) -> Figures {
    let good = scale.pick(20, 100);
    let database = Database::new().await;
    let script =
        Script::new().at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user")).for_recipient("nobody@x.test");
    let server = SmtpServer::start(script).await.unwrap();
    for n in 0..good {
        for _ in 0..IN_A_ROW {
            database.outbox.enqueue(&email_to("nobody@x.test").build().unwrap()).await.unwrap();
        }
        database.outbox.enqueue(&email_to(&format!("mail{n}@x.test")).build().unwrap()).await.unwrap();
    }
    let relay = Relay { max_connections: CONNECTIONS, ..server.relay() };
    let worker = worker(&database, &relay, deadlines(Duration::from_secs(10)));
    let shutdown = Shutdown::default();
    // As it runs, because only then does it leave a broken way out alone.
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    let drained = database.until_drained(Duration::from_secs(60)).await;
    shutdown.begin.cancel();
    running.await.unwrap();
    let resets: usize = server.conversations().iter().map(|one| one.count("RSET\r\n")).sum();
    let mut figures = Figures::new();
    figures
        .exactly("refused", outcomes(&database, "failed").await, (good * IN_A_ROW) as i64)
        .exactly("good_sent", outcomes(&database, "sent").await, good as i64)
        .exactly("arrived", server.accepted().len(), good)
        .at_most("connections_opened", server.counters().opened, CONNECTIONS)
        // Each refusal but the last of a connection is followed by one.
        .at_least("resets", resets, good * IN_A_ROW - CONNECTIONS)
        // The shortest time for which a way out is left alone is ten seconds.
        .at_most("longest_gap_ms", database.number(LONGEST_GAP).await, 5_000)
        .must(drained.is_some(), "all of it ends within a minute");
    figures
}

async fn outcomes(database: &Database, state: &str) -> i64 {
    database.number(&format!("SELECT count(*) FROM facteur.outcomes WHERE final = '{state}'")).await
}

const LONGEST_GAP: &str = "SELECT coalesce(max(extract(epoch FROM gap) * 1000), 0)::bigint FROM (
    SELECT finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS gap FROM facteur.outcomes) gaps";
