//! An outbox in a database of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use facteur::email::EmailBuilder;
use facteur::outbox::{ClaimedDelivery, SessionId};
use facteur::{Email, EmailId, Outbox, settings};
use sqlx::{AssertSqlSafe, PgPool};

use super::postgres::TestDatabase;

/// A migrated database and its outbox; dropped at the end of the test.
pub(crate) struct TestOutbox {
    pub(crate) outbox: Outbox,
    pub(crate) pool: PgPool,
    database: TestDatabase,
}

impl TestOutbox {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create(&fingerprint(), migrate).await;
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { outbox: Outbox::new(pool.clone()), pool, database }
    }

    pub(crate) fn url(&self) -> &str {
        self.database.url()
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

    /// A session that is alive.
    pub(crate) async fn session(&self) -> SessionId {
        let session = SessionId::new();
        self.outbox.heartbeat(session, "test", Duration::from_secs(30), LEASE, &[]).await.unwrap();
        session
    }

    pub(crate) async fn enqueue(&self, email: EmailBuilder) -> EmailId {
        self.outbox.enqueue(&email.build().unwrap()).await.unwrap().id
    }

    /// Claims everything that is due.
    pub(crate) async fn claim(&self, session: SessionId) -> Vec<ClaimedDelivery> {
        self.outbox.claim(session, 1_000, LEASE, 0).await.unwrap()
    }

    /// Each state's deliveries, live and ended: `queued 1, sent 2`.
    pub(crate) async fn states(&self) -> String {
        self.text(
            "SELECT coalesce(string_agg(state || ' ' || n, ', ' ORDER BY state), 'none') FROM (
               SELECT state, count(*) AS n FROM (
                 SELECT state::text FROM facteur.deliveries
                 UNION ALL SELECT final::text FROM facteur.outcomes) s (state)
               GROUP BY state) c",
        )
        .await
    }

    /// What happened, in order: `accepted, retry, sent`.
    pub(crate) async fn events(&self, id: EmailId) -> String {
        let sql = format!(
            "SELECT coalesce(string_agg(kind, ', ' ORDER BY at), '') FROM facteur.events WHERE email_id = '{id}'"
        );
        self.text(&sql).await
    }
}

pub(crate) const LEASE: Duration = Duration::from_secs(120);

/// What the design keeps: 30 days, and 90 of what failed.
pub(crate) const KEEP: settings::Keep =
    settings::Keep { sent: Duration::from_secs(30 * 24 * 3600), failed: Duration::from_secs(90 * 24 * 3600) };

/// The pace of the design, with a poll that no test waits for.
pub(crate) fn pace() -> settings::Worker {
    settings::Worker {
        concurrency: 16,
        poll: Duration::from_secs(60),
        lease: LEASE,
        heartbeat: Duration::from_secs(5),
        session_expiry: Duration::from_secs(30),
        grace: Duration::from_secs(10),
        keep: KEEP,
    }
}

/// The plainest e-mail to somebody.
pub(crate) fn email_to(to: &str) -> EmailBuilder {
    Email::builder("Shop <shop@local.test>", to, "Your order", "Thank you.")
}

async fn migrate(url: String) {
    let pool = PgPool::connect(&url).await.unwrap();
    facteur::migrate(&pool).await.unwrap();
    pool.close().await;
}

/// Changes with the migrations, so that the template does; and with the week, which has tables of its own.
fn fingerprint() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    files.iter().for_each(|file| context.update(&std::fs::read(file).unwrap()));
    let (year, week, _) = time::OffsetDateTime::now_utc().to_iso_week_date();
    context.update(format!("{year} {week}").as_bytes());
    context.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
