//! A migrated database of a case's own.

use std::time::Duration;

use facteur::email::EmailBuilder;
use facteur::settings::Keep;
use facteur::{Email, EmailId, Outbox};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::Mutex;

use crate::cluster::Cluster;

/// The server of the cases that leave theirs in peace.
static SHARED: Mutex<Option<Cluster>> = Mutex::const_new(None);

/// Its outbox, its pool, its address.
pub(crate) struct Database {
    pub(crate) outbox: Outbox,
    pub(crate) pool: PgPool,
    pub(crate) url: String,
}

impl Database {
    /// On the server that cases share.
    pub(crate) async fn new() -> Self {
        let server = Self::shared_url().await;
        Self::on(&server).await
    }

    /// On a server of the case's own.
    pub(crate) async fn on(server: &str) -> Self {
        Self::at(&Self::empty_on(server).await).await
    }

    /// The address of a database that nobody has migrated.
    pub(crate) async fn empty() -> String {
        Self::empty_on(&Self::shared_url().await).await
    }

    async fn empty_on(server: &str) -> String {
        let name = format!("faults_{}", uuid::Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(server).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        let (address, _) = server.rsplit_once('/').expect("a URL with a database");
        format!("{address}/{name}")
    }

    /// That which is there, at any address: through a proxy or a pooler, say.
    pub(crate) async fn at(url: &str) -> Self {
        let options = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(30));
        let pool = options.connect(url).await.unwrap();
        facteur::migrate(&pool).await.unwrap();
        Self { outbox: Outbox::new(pool.clone()), pool, url: url.to_owned() }
    }

    async fn shared_url() -> String {
        let mut shared = SHARED.lock().await;
        if shared.is_none() {
            *shared = Some(Cluster::start().await);
        }
        shared.as_ref().expect("started above").url().to_owned()
    }

    /// One number out of one statement.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }

    /// One text out of one statement.
    pub(crate) async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }

    /// Moves rows, not time.
    pub(crate) async fn execute(&self, sql: &str) -> u64 {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap().rows_affected()
    }

    /// Enqueues `n` mails to `mail<i>@x.test`, eight at a time.
    pub(crate) async fn enqueue(&self, n: usize) -> Vec<EmailId> {
        self.enqueue_each(n, |builder| builder).await
    }

    /// The same, each changed.
    pub(crate) async fn enqueue_each(
        &self,
        n: usize,
        change: impl Fn(EmailBuilder) -> EmailBuilder + Copy,
    ) -> Vec<EmailId> {
        use futures_util::StreamExt;
        let all = futures_util::stream::iter(0..n).map(|i| {
            let email = change(email_to(&format!("mail{i}@x.test"))).build().unwrap();
            async move { self.outbox.enqueue(&email).await.unwrap().id }
        });
        all.buffered(8).collect().await
    }

    /// Waits until a number is what it should be; looks ten times a second. How long it took.
    pub(crate) async fn until(&self, sql: &str, expected: i64, patience: Duration) -> Option<Duration> {
        let begun = std::time::Instant::now();
        while self.number(sql).await != expected {
            if begun.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(begun.elapsed())
    }

    /// Waits until nothing is queued or being sent.
    pub(crate) async fn until_drained(&self, patience: Duration) -> Option<Duration> {
        self.until("SELECT count(*) FROM facteur.deliveries WHERE state <> 'unknown'", 0, patience).await
    }
}

/// Longer than any case.
pub(crate) const KEEP: Keep = Keep { sent: Duration::from_secs(86_400), failed: Duration::from_secs(86_400) };

/// The plainest e-mail to somebody.
pub(crate) fn email_to(to: &str) -> EmailBuilder {
    Email::builder("Shop <shop@local.test>", to, "Your order", "Thank you.")
}

/// Ends the shared server: it must not outlive the program.
pub(crate) fn end_shared(runtime: &tokio::runtime::Runtime) {
    runtime.block_on(async { drop(SHARED.lock().await.take()) });
}
