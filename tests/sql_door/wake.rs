//! When mail by SQL leaves: with a worker that runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::delivery::{Shutdown, Worker};
use facteur::settings;
use facteur::testing::{Script, SmtpServer};
use facteur::transport::{Transport, smtp::SmtpTransport};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::both::refusal;
use crate::support::outbox::{TestOutbox, pace};

const SEND: &str =
    r#"SELECT facteur.send_email('ada@x.test', 'Hi', 'Hello', options => '{"from": "shop@x.test"}')"#;

/// A worker that runs and listens, and the server that it sends to.
struct Running {
    t: TestOutbox,
    server: SmtpServer,
    shutdown: Shutdown,
    ear: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(poll: Duration) -> Self {
        let t = TestOutbox::new().await;
        let server = SmtpServer::start(Script::new()).await.unwrap();
        let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
        let pace = settings::Worker { poll, ..pace() };
        let worker = Arc::new(Worker::new(t.outbox.clone(), transport, pace, "test"));
        let (shutdown, ear) = (Shutdown::default(), CancellationToken::new());
        tokio::spawn({
            let (outbox, ear) = (t.outbox.clone(), ear.clone());
            async move { outbox.listen(ear).await }
        });
        let worker = tokio::spawn(worker.run(shutdown.clone()));
        Self { t, server, shutdown, ear, worker }
    }

    async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.t.pool).await.unwrap();
    }

    /// Until so many have arrived; how long it took.
    async fn arrived(&self, count: usize) -> Duration {
        let begun = Instant::now();
        while self.server.accepted().len() < count {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} of {count}", self.server.accepted().len());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun.elapsed()
    }

    async fn stop(self) {
        self.ear.cancel();
        self.shutdown.begin.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.worker).await.expect("ends").unwrap();
    }
}

#[tokio::test]
async fn mail_by_sql_leaves_within_the_poll_interval() {
    let running = Running::start(Duration::from_secs(1)).await;
    // The first proves that it runs.
    running.sql(SEND).await;
    running.arrived(1).await;
    running.sql(SEND).await;
    let took = running.arrived(2).await;
    eprintln!("from the commit to the server, by polling alone: {took:?}");
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    running.stop().await;
}

#[tokio::test]
async fn after_the_commit_wake_brings_it_at_once() {
    let running = Running::start(Duration::from_secs(60)).await;
    let listens =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'";
    while running.t.number(listens).await == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    running.sql(SEND).await;
    running.sql("SELECT facteur.wake()").await;
    running.arrived(1).await;
    // From here on the poll is a minute away.
    running.sql(SEND).await;
    running.sql("SELECT facteur.wake()").await;
    let took = running.arrived(2).await;
    eprintln!("from facteur.wake() to the server: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    running.stop().await;
}

#[tokio::test]
async fn wake_is_refused_in_a_transaction_that_has_written() {
    let t = TestOutbox::new().await;
    let mut transaction = t.pool.begin().await.unwrap();
    sqlx::query("SELECT facteur.wake()").execute(&mut *transaction).await.unwrap();
    sqlx::query(SEND).execute(&mut *transaction).await.unwrap();
    let refused = sqlx::query("SELECT facteur.wake()").execute(&mut *transaction).await.unwrap_err();
    assert_eq!(refusal(&refused).code, "25001");
    assert!(refusal(&refused).message.contains("after the commit"));
}
