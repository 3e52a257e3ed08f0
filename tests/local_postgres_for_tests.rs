//! The server that tests share, and the databases they get on it.
#![cfg(feature = "local")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and one tells its figures"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sqlx::{Connection, PgConnection};
use support::postgres::TestDatabase;

const KEY: &str = "test_of_templates";

static MIGRATIONS: AtomicUsize = AtomicUsize::new(0);

async fn migrate(url: String) {
    MIGRATIONS.fetch_add(1, Ordering::SeqCst);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE mails (id int)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn count(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM mails").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn databases_are_copies_that_do_not_see_each_other() {
    let begun = Instant::now();
    let one = TestDatabase::create(KEY, migrate).await;
    println!("first database: {:?}", begun.elapsed());
    let begun = Instant::now();
    let two = TestDatabase::create(KEY, migrate).await;
    println!("second database: {:?}", begun.elapsed());
    assert!(MIGRATIONS.load(Ordering::SeqCst) <= 1);

    let mut in_one = PgConnection::connect(one.url()).await.unwrap();
    let mut in_two = PgConnection::connect(two.url()).await.unwrap();
    sqlx::query("INSERT INTO mails VALUES (1)").execute(&mut in_one).await.unwrap();
    assert_eq!(count(&mut in_one).await, 1);
    assert_eq!(count(&mut in_two).await, 0);
}

#[tokio::test]
async fn database_goes_with_its_test_even_when_connections_are_left() {
    let watcher = TestDatabase::create(KEY, migrate).await;
    let mut watching = PgConnection::connect(watcher.url()).await.unwrap();
    let database = TestDatabase::create(KEY, migrate).await;
    let mut left = PgConnection::connect(database.url()).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut left).await.unwrap();
    let begun = Instant::now();
    drop(database);
    println!("drop: {:?}", begun.elapsed());
    let found = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(&mut watching)
        .await
        .unwrap();
    assert!(found.is_none());
}
