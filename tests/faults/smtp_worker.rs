//! A worker in this process, over a scripted server.

use std::sync::Arc;
use std::time::Duration;

use facteur::delivery::Worker;
use facteur::settings::{self, Relay};
use facteur::transport::Transport;
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use rustls::RootCertStore;

use crate::database::Database;

/// At the pace of the design, to be driven step by step.
pub(crate) fn worker(database: &Database, relay: &Relay, deadlines: Deadlines) -> Arc<Worker> {
    let way = SmtpTransport::with_roots(relay, RootCertStore::empty(), deadlines).unwrap();
    let pace = settings::Worker {
        keep: crate::database::KEEP,
        concurrency: 16,
        poll: Duration::from_millis(200),
        lease: Duration::from_secs(120),
        heartbeat: Duration::from_secs(5),
        session_expiry: Duration::from_secs(30),
        grace: Duration::from_secs(10),
    };
    Arc::new(Worker::new(database.outbox.clone(), Transport::Smtp(way), pace, "faults"))
}

/// The same database with nothing in it: sooner there than a new one.
pub(crate) async fn emptied(database: &Database) -> &Database {
    database.execute("TRUNCATE facteur.emails, facteur.deliveries, facteur.outcomes, facteur.events, facteur.newest, facteur.to_wipe").await;
    database
}

/// Attempts that were counted beyond the one that each mail needs.
pub(crate) async fn burnt_attempts(database: &Database) -> i64 {
    let sql = "SELECT coalesce(sum(attempts - 1), 0)::bigint FROM facteur.outcomes";
    let live = "SELECT coalesce(sum(attempt), 0)::bigint FROM facteur.deliveries";
    database.number(sql).await + database.number(live).await
}
