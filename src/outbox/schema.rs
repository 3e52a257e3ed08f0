use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection, PgPool};

use super::{Outbox, OutboxError};

/// With the settings of `sqlx.toml`: schema and record of migrations are Facteur's own.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!();
    // In a rolling upgrade an older program starts against a newer schema, which it can work with.
    migrations.set_ignore_missing(true);
    migrations
});

/// How often a migration that cannot have its locks is tried again: half a minute in all.
const RETRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// Brings the schema `facteur` up to date, and makes the partitions of the weeks to come.
///
/// Safe when several processes start at once: one does it, the others wait
/// (`tests/migrations.rs::processes_that_start_at_once_all_come_up`). One that was cut off is taken up
/// by the next. A migration waits 2 s at most for a lock, so that traffic never queues behind it for
/// longer, and is tried again for half a minute. The record of what was applied is in the same schema,
/// so that an application's own migrations are left alone. A newer schema is left as it is.
///
/// # Errors
/// The database cannot be reached, or refuses; what was applied before stays applied.
pub async fn migrate(pool: &PgPool) -> Result<(), OutboxError> {
    for _ in 0..RETRIES {
        match migrate_once(pool).await {
            Err(error) if is_in_the_way(&error) => {
                tracing::warn!(%error, "somebody is in the way of a migration; trying again");
                tokio::time::sleep(PAUSE).await;
            }
            result => return Ok(result?),
        }
    }
    Ok(migrate_once(pool).await?)
}

/// All of it on one connection, to which the lock that keeps other processes out belongs.
async fn migrate_once(pool: &PgPool) -> Result<(), MigrateError> {
    // Out of the pool: given up half-way it would go back with the lock, and nobody would migrate again.
    let mut connection = pool.acquire().await?.detach();
    MIGRATIONS.run_direct(None, &mut connection, false).await?;
    if let Err(error) = ensure_partitions(&mut connection).await {
        // What comes in meanwhile is taken all the same, and workers try again.
        tracing::warn!(%error, "partitions could not be made");
    }
    // Done is done, however the goodbye goes.
    let _ = connection.close().await;
    Ok(())
}

async fn ensure_partitions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT facteur.ensure_partitions()").fetch_one(connection).await?;
    Ok(())
}

/// Whether the same migration may well succeed in a moment: a lock was not had, or another process
/// made the same thing at the same time (`CREATE SCHEMA IF NOT EXISTS` fails on that).
fn is_in_the_way(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    // lock_not_available, deadlock_detected; unique_violation, duplicate schema, table, object, function, column.
    let passing = ["55P03", "40P01", "23505", "42P06", "42P07", "42710", "42723", "42701"];
    code.is_some_and(|code| passing.contains(&code.as_ref()))
}

impl Outbox {
    /// Whether every migration that this program knows has been applied.
    ///
    /// # Errors
    /// The database cannot be reached, or has no outbox at all.
    pub async fn is_current(&self) -> Result<bool, OutboxError> {
        let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
        // The migrator's own table, which no migration makes: the build does not know it.
        let applied = sqlx::query_scalar("SELECT max(version) FROM facteur.migrations WHERE success");
        let applied: Option<i64> = applied.fetch_one(&self.line).await?;
        Ok(applied >= newest)
    }

    /// Makes the partitions of this week and the next four where they are missing.
    ///
    /// Who enqueues does not wait for it: it takes no exclusive lock but on the default partitions
    /// (`tests/outbox_retention.rs::nobody_waits_long_while_weeks_are_made_dropped_and_compacted`).
    ///
    /// # Errors
    /// The database cannot be reached, or somebody holds a lock for longer than 250 ms.
    pub async fn ensure_partitions(&self) -> Result<(), OutboxError> {
        sqlx::query!("SELECT facteur.ensure_partitions()").fetch_one(&self.line).await?;
        Ok(())
    }
}
