//! Migrations are safe: at once, cut off, under traffic, and beside an older program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool};
use support::postgres::TestDatabase;

struct Empty {
    database: TestDatabase,
    pool: PgPool,
}

impl Empty {
    async fn new() -> Self {
        let database = TestDatabase::create("empty", |_| async {}).await;
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self { database, pool }
    }

    /// As another process has it.
    async fn pool(&self) -> PgPool {
        PgPool::connect(self.database.url()).await.unwrap()
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// Everything is there once, and an e-mail can be queued.
    async fn is_whole(&self) {
        let applied = self.number("SELECT count(*) FROM facteur.migrations WHERE success").await;
        assert_eq!(usize::try_from(applied).unwrap(), files().len());
        let weeks = self
            .number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'facteur.emails'::regclass")
            .await;
        assert_eq!(weeks, 6, "five weeks, and the rest");
        let email =
            facteur::Email::builder("a@local.test", "b@local.test", "Hello", "Hello").build().unwrap();
        facteur::enqueue(&self.pool, &email).await.unwrap();
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        until(|| async { self.number(locks).await == 0 }, "the lock is given back").await;
    }

    /// The backends that wait for a lock here.
    async fn waiting(&self) -> Vec<i32> {
        let sql = "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted AND locktype = 'relation'
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap()
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
}

/// The migrations, by name.
fn files() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Brings the schema to an earlier version, as the program of that time did.
async fn migrate_to(pool: &PgPool, version: i64) {
    let mut migrator = Migrator::new(folder()).await.unwrap();
    migrator.dangerous_set_table_name("facteur.migrations");
    migrator.create_schema("facteur");
    migrator.run_to(version, pool).await.unwrap();
}

/// Asks until it is so.
async fn until<F: Future<Output = bool>>(so: impl Fn() -> F, what: &str) {
    let asked = Instant::now();
    while !so().await {
        assert!(asked.elapsed() < Duration::from_secs(20), "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_all_come_up() {
    for _ in 0..5 {
        let empty = Empty::new().await;
        let mut processes = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let pool = empty.pool().await;
            processes.spawn(async move { facteur::migrate(&pool).await });
        }
        for result in processes.join_all().await {
            result.unwrap();
        }
        empty.is_whole().await;
    }
}

#[tokio::test]
async fn a_schema_that_somebody_else_makes_at_the_same_time_is_used() {
    let empty = Empty::new().await;
    let mut other = empty.pool.begin().await.unwrap();
    sqlx::query("CREATE SCHEMA facteur").execute(&mut *other).await.unwrap();
    let pool = empty.pool().await;
    let migrating = tokio::spawn(async move { facteur::migrate(&pool).await });
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE SCHEMA%'";
    until(|| async { empty.number(waits).await == 1 }, "CREATE SCHEMA waits for the other").await;
    // IF NOT EXISTS does not help here: this one now fails on a unique index.
    other.commit().await.unwrap();
    migrating.await.unwrap().unwrap();
    empty.is_whole().await;
}

#[tokio::test]
async fn a_migration_that_is_cut_off_is_taken_up_by_the_next() {
    for patience in [5, 15, 30, 60, 90, 120, 200] {
        let empty = Empty::new().await;
        let pool = empty.pool().await;
        // The future is dropped in the middle of whatever it does, and its connection with it.
        let _ = tokio::time::timeout(Duration::from_millis(patience), facteur::migrate(&pool)).await;
        facteur::migrate(&pool).await.unwrap();
        empty.is_whole().await;
    }
}

#[tokio::test]
async fn a_migration_whose_connection_is_killed_leaves_nothing_half_done() {
    let empty = Empty::new().await;
    migrate_to(&empty.pool, 1).await;
    let mut busy = empty.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.deliveries").execute(&mut *busy).await.unwrap();
    let pool = empty.pool().await;
    let migrating = tokio::spawn(async move { facteur::migrate(&pool).await });
    until(|| async { !empty.waiting().await.is_empty() }, "the migration is in the middle").await;
    let pid = empty.waiting().await[0];
    empty.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    migrating.await.unwrap().unwrap_err();
    assert_eq!(empty.number("SELECT count(*) FROM facteur.migrations").await, 1);
    busy.rollback().await.unwrap();
    facteur::migrate(&empty.pool).await.unwrap();
    empty.is_whole().await;
}

#[tokio::test]
async fn a_migration_gives_way_to_traffic_and_comes_again() {
    let empty = Empty::new().await;
    migrate_to(&empty.pool, 1).await;
    let mut busy = empty.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.deliveries").execute(&mut *busy).await.unwrap();
    let pool = empty.pool().await;
    let migrating = tokio::spawn(async move { facteur::migrate(&pool).await });
    // Each attempt has a connection of its own: two were seen, so that one gave up.
    let mut seen = HashSet::new();
    let mut longest = Duration::ZERO;
    let mut since = None;
    while seen.len() < 2 {
        let waiting = empty.waiting().await;
        since = if waiting.is_empty() { None } else { since.or_else(|| Some(Instant::now())) };
        longest = longest.max(since.map_or(Duration::ZERO, |since| since.elapsed()));
        seen.extend(waiting);
        assert!(!migrating.is_finished(), "it must wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eprintln!("a migration queued for a lock for {longest:?} at most");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    busy.rollback().await.unwrap();
    migrating.await.unwrap().unwrap();
    empty.is_whole().await;
}

#[tokio::test]
async fn an_older_program_starts_against_a_newer_schema() {
    let empty = Empty::new().await;
    facteur::migrate(&empty.pool).await.unwrap();
    empty
        .execute(
            "INSERT INTO facteur.migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, '\\x00', 0)",
        )
        .await;
    facteur::migrate(&empty.pool).await.unwrap();
}

#[tokio::test]
async fn migrating_needs_one_connection_and_leaves_the_pool_as_it_was() {
    let empty = Empty::new().await;
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let pool = options.acquire_timeout(Duration::from_secs(5)).connect(empty.database.url()).await.unwrap();
    facteur::migrate(&pool).await.unwrap();
    facteur::migrate(&pool).await.unwrap();
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    empty.is_whole().await;
}

#[tokio::test]
async fn a_schema_with_mail_in_it_is_brought_up_to_date() {
    let empty = Empty::new().await;
    migrate_to(&empty.pool, 1).await;
    empty
        .execute(
            "INSERT INTO facteur.emails (id, message_id, date, boundary, sender, recipients, subject, text_body)
             SELECT facteur.uuid_from(now()), 'a@x.test', now(), 'facteur0123456789abcdef', '{}', '[]', 'Old', 'Old';
             INSERT INTO facteur.deliveries (email_id, position, recipient, expires_at)
             SELECT id, 0, 'b@x.test', now() + interval '1 day' FROM facteur.emails",
        )
        .await;
    facteur::migrate(&empty.pool).await.unwrap();
    assert_eq!(empty.number("SELECT count(*) FROM facteur.emails").await, 1);
    empty.is_whole().await;
}

#[test]
fn every_migration_after_the_first_is_impatient() {
    for (name, sql) in files().iter().skip(1) {
        let first = sql.lines().find(|line| !line.is_empty() && !line.starts_with("--"));
        assert_eq!(first, Some("SET LOCAL lock_timeout = '2s';"), "{name}");
    }
}
