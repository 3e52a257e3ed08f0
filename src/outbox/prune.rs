//! Retention: what ended goes by its outcome and its age.
//!
//! Weeks are the unit. Once a whole week is older than the shorter of the two times, it is dropped
//! (nothing in it is to be kept) or compacted (what is to be kept is copied, and takes the week's
//! place). So an e-mail with all of its parts lives between its time and its time plus 7 days, counted
//! from the end of its last delivery, and at most an hour more, the time between two runs. A week is
//! left whole while one of its deliveries has not ended (scheduled, or parked for a person), and a
//! week that somebody writes to or holds locks on is tried again at the next run.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use super::{Outbox, OutboxError};
use crate::settings::Keep;

const EVERY: Duration = Duration::from_secs(3_600);
/// Rows that one statement deletes, at most, so that its locks are short.
const BATCH: u32 = 1_000;

/// What a run of [`Outbox::prune`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Weeks of which nothing is left.
    pub weeks_dropped: u32,
    /// Weeks of which only what is kept longer is left.
    pub weeks_compacted: u32,
    /// Weeks that gave way to traffic, or changed while they were copied: the next run tries again.
    pub weeks_put_off: u32,
    /// Idempotency keys older than 24 hours, deleted.
    pub keys_deleted: u64,
    /// Names of what supersedes what, 24 hours after they were last used and with nothing of that name
    /// left in the queue, deleted.
    pub names_deleted: u64,
    /// Sensitive e-mails that ended without a settlement that wiped them: wiped.
    pub emails_wiped: u64,
    /// E-mails that fit in no week, and events that came in late, deleted.
    pub strays_deleted: u64,
    /// Another process was pruning: this one left the weeks to it.
    pub elsewhere: bool,
}

impl Pruned {
    fn is_something(&self) -> bool {
        Self { weeks_put_off: 0, elsewhere: false, ..*self } != Self::default()
    }

    /// Counts what became of a week, as `facteur.prune_week` names it.
    fn count(&mut self, did: &str) {
        match did {
            "dropped" => self.weeks_dropped += 1,
            "compacted" => self.weeks_compacted += 1,
            "busy" | "changed" => self.weeks_put_off += 1,
            "elsewhere" => self.elsewhere = true,
            _ => {}
        }
    }
}

impl Outbox {
    /// Prunes if nobody has within the hour, in whatever process.
    ///
    /// # Errors
    /// As [`prune`](Self::prune).
    pub async fn prune_in_turn(&self, keep: &Keep) -> Result<Pruned, OutboxError> {
        if !self.take_turn("prune", EVERY).await? {
            return Ok(Pruned::default());
        }
        let pruned = self.prune(keep).await;
        if !matches!(pruned, Ok(Pruned { weeks_put_off: 0, .. })) {
            self.give_turn_back("prune").await?;
        }
        pruned
    }

    /// Lets go of everything that was kept long enough: whole weeks, idempotency keys after 24 hours.
    ///
    /// Any process may do it at any time: each week is one's at a time, and the others leave at once.
    /// Enqueuers and workers are held up for less than a second, however much there is
    /// (`tests/outbox_retention.rs::nobody_waits_long_while_weeks_are_made_dropped_and_compacted`).
    ///
    /// # Errors
    /// The database cannot be reached. What was done stays done; a week is dropped or compacted as a
    /// whole or not at all.
    pub async fn prune(&self, keep: &Keep) -> Result<Pruned, OutboxError> {
        let mut pruned = Pruned {
            keys_deleted: self.delete_old_keys().await?,
            names_deleted: self.delete_old_names().await?,
            emails_wiped: self.wipe_sensitive().await?,
            ..Pruned::default()
        };
        self.prune_weeks(keep, &mut pruned).await?;
        if !pruned.elsewhere {
            pruned.strays_deleted = self.delete_old_strays(keep).await?;
        }
        if pruned.is_something() {
            let Pruned {
                weeks_dropped,
                weeks_compacted,
                weeks_put_off,
                keys_deleted,
                names_deleted,
                emails_wiped,
                strays_deleted,
                ..
            } = pruned;
            tracing::info!(
                weeks_dropped,
                weeks_compacted,
                weeks_put_off,
                keys_deleted,
                names_deleted,
                emails_wiped,
                strays_deleted,
                "pruned"
            );
        }
        Ok(pruned)
    }

    async fn delete_old_names(&self) -> Result<u64, OutboxError> {
        let deleted = sqlx::query!(
            "WITH old AS (
               SELECT n.scope, n.name FROM facteur.newest n
               WHERE n.at < now() - interval '24 hours'
                 AND NOT EXISTS (SELECT 1 FROM facteur.deliveries d WHERE d.supersedes = n.name)
               ORDER BY n.at LIMIT $1 FOR UPDATE SKIP LOCKED
             )
             DELETE FROM facteur.newest n USING old WHERE n.scope = old.scope AND n.name = old.name",
            i64::from(BATCH),
        );
        Ok(deleted.execute(&self.line).await?.rows_affected())
    }

    async fn delete_old_keys(&self) -> Result<u64, OutboxError> {
        let mut all = 0;
        loop {
            let deleted = sqlx::query!(
                "WITH old AS (
                   SELECT scope, key FROM facteur.idempotency WHERE created_at < now() - interval '24 hours'
                   ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED
                 )
                 DELETE FROM facteur.idempotency i USING old WHERE i.scope = old.scope AND i.key = old.key",
                i64::from(BATCH),
            )
            .execute(&self.line)
            .await?
            .rows_affected();
            all += deleted;
            if deleted < u64::from(BATCH) {
                return Ok(all);
            }
        }
    }

    /// The weeks, oldest first, on a connection of its own: a long copy must not take one of the
    /// worker's, whose heartbeat would wait for it.
    async fn prune_weeks(&self, keep: &Keep, pruned: &mut Pruned) -> Result<(), OutboxError> {
        let weeks = sqlx::query_scalar!(
            r#"SELECT facteur.old_weeks($1, $2) AS "week!""#,
            interval(keep.sent),
            interval(keep.failed)
        )
        .fetch_all(&self.line)
        .await?;
        if weeks.is_empty() {
            return Ok(());
        }
        // Past a pooler where there is a way: a copy may take minutes.
        let pool = self.line.pool.connect_options();
        let mut own = PgConnection::connect_with(self.ear.as_ref().unwrap_or(&pool)).await?;
        let named = self.line.named_statements;
        for week in weeks {
            match prune_week(&mut own, week, keep, named).await {
                Ok(did) => {
                    tracing::debug!(week = %week.date(), did, "looked through an old week");
                    pruned.count(&did);
                }
                // One week's trouble (somebody's view upon it, say) is no other's.
                Err(error) if error.as_database_error().is_some() => {
                    tracing::warn!(week = %week.date(), %error, "an old week could not be pruned");
                    pruned.weeks_put_off += 1;
                }
                Err(error) => return Err(error.into()),
            }
            if pruned.elsewhere {
                break;
            }
        }
        own.close().await?;
        Ok(())
    }

    async fn delete_old_strays(&self, keep: &Keep) -> Result<u64, OutboxError> {
        let mut all = 0;
        loop {
            let deleted = sqlx::query_scalar!(
                r#"SELECT facteur.prune_other($1, $2, $3) AS "deleted!""#,
                interval(keep.sent),
                interval(keep.failed),
                100
            )
            .fetch_one(&self.line.for_content())
            .await?;
            all += deleted.unsigned_abs();
            if deleted == 0 {
                return Ok(all);
            }
        }
    }
}

/// One week, in a transaction of its own: whole or not at all.
async fn prune_week(
    own: &mut PgConnection,
    week: OffsetDateTime,
    keep: &Keep,
    named: bool,
) -> Result<String, sqlx::Error> {
    // Committed by itself, so that whatever is written while this copies is noted.
    let watched = sqlx::query_scalar!(r#"SELECT facteur.watch_week($1) AS "watched!""#, week);
    if !watched.persistent(named).fetch_one(&mut *own).await? {
        return Ok("busy".to_owned());
    }
    // Whatever the role's default: each statement must see what was committed before it.
    let mut transaction = own.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    // A role's limit is meant for requests; this may copy for minutes.
    let unlimited = sqlx::query_scalar!("SELECT set_config('statement_timeout', '0', true)");
    unlimited.persistent(named).fetch_one(&mut *transaction).await?;
    let did = sqlx::query_scalar!(
        r#"SELECT facteur.prune_week($1, $2, $3) AS "did!""#,
        week,
        interval(keep.sent),
        interval(keep.failed)
    )
    .persistent(named)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(did)
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
