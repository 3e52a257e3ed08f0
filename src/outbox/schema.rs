use sqlx::PgPool;
use sqlx::migrate::Migrator;

use super::{Outbox, OutboxError};

/// With the settings of `sqlx.toml`: schema and record of migrations are Facteur's own.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// Brings the schema `facteur` up to date, and makes the partitions of the weeks to come.
///
/// Safe when several processes start at once: one does it, the others wait. The record of what was
/// applied is in the same schema, so that an application's own migrations are left alone.
///
/// # Errors
/// The database cannot be reached, or refuses; what was applied before stays applied.
pub async fn migrate(pool: &PgPool) -> Result<(), OutboxError> {
    MIGRATIONS.run(pool).await?;
    Ok(())
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
    /// # Errors
    /// The database cannot be reached, or somebody holds a lock for longer than 2 s.
    pub async fn ensure_partitions(&self) -> Result<(), OutboxError> {
        sqlx::query!("SELECT facteur.ensure_partitions()").fetch_one(&self.line).await?;
        Ok(())
    }
}
