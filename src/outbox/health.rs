use std::time::Duration;

use metrics::gauge;

use super::{Outbox, OutboxError};
use crate::telemetry::families::{CONNECTIONS, CONNECTIONS_MAX};

/// How the queue and what keeps it going look, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Deliveries that are due; 10,000 stands for all above.
    pub due: i64,
    /// Deliveries whose time is to come; 10,000 stands for all above.
    pub scheduled: i64,
    /// Deliveries that are leased.
    pub sending: i64,
    /// Deliveries that wait for a person; none when the table is too large to look.
    pub unknown: Option<i64>,
    /// How long the oldest due delivery has been waiting; zero when none is.
    pub oldest_due: Duration,
    /// The age of the oldest transaction that this role can see holding vacuum back.
    pub oldest_snapshot: Duration,
    /// How many transactions ago the oldest snapshot was taken that holds vacuum back, slots and standbys included.
    pub oldest_snapshot_transactions: i64,
    /// Worker processes whose session has not expired.
    pub workers_alive: i64,
}

impl Outbox {
    /// Counts the connections of this outbox's pool under that name: `api` or `worker`.
    pub(crate) fn count_connections(&self, pool: &'static str) {
        let (open, idle) = (self.pool().size() as usize, self.pool().num_idle());
        // Two numbers that are read one after the other may not fit together.
        gauge!(CONNECTIONS, "pool" => pool, "state" => "used").set(open.saturating_sub(idle) as f64);
        gauge!(CONNECTIONS, "pool" => pool, "state" => "idle").set(idle.min(open) as f64);
        gauge!(CONNECTIONS_MAX, "pool" => pool).set(f64::from(self.pool().options().get_max_connections()));
    }

    /// How the queue looks: one statement that reads a bounded part of it, however long it is.
    ///
    /// # Errors
    /// The database cannot be reached, or has no outbox yet.
    pub async fn health(&self) -> Result<Health, OutboxError> {
        let row = sqlx::query!(
            r#"
            -- LIMIT bounds what a long queue costs; ORDER BY keeps to the index while vacuum is behind.
            SELECT (
              SELECT count(*) FROM (
                SELECT FROM generate_series(0, 3) AS p (priority)
                CROSS JOIN LATERAL (
                  SELECT FROM facteur.deliveries d
                  WHERE d.state = 'queued' AND d.priority = p.priority::smallint AND d.run_at <= now()
                  ORDER BY d.run_at LIMIT 10000
                ) one_priority LIMIT 10000
              ) due
            ) AS "due!", (
              SELECT count(*) FROM (
                SELECT FROM generate_series(0, 3) AS p (priority)
                CROSS JOIN LATERAL (
                  SELECT FROM facteur.deliveries d
                  WHERE d.state = 'queued' AND d.priority = p.priority::smallint AND d.run_at > now()
                  ORDER BY d.run_at LIMIT 10000
                ) one_priority LIMIT 10000
              ) scheduled
            ) AS "scheduled!", (
              SELECT count(*) FROM facteur.deliveries WHERE state = 'sending'
            ) AS "sending!",
            -- No index has these alone: 64 MB, some 400,000 deliveries, is the most that is read through for them.
            CASE WHEN pg_relation_size('facteur.deliveries') < 64 * 1024 * 1024 THEN (
              SELECT count(*) FROM facteur.deliveries WHERE state = 'unknown'
            ) END AS unknown, (
              SELECT coalesce(max(extract(epoch FROM now() - oldest.run_at)), 0)::float8
              FROM generate_series(0, 3) AS p (priority)
              CROSS JOIN LATERAL (
                SELECT run_at FROM facteur.deliveries d
                WHERE d.state = 'queued' AND d.priority = p.priority::smallint AND d.run_at <= now()
                ORDER BY run_at LIMIT 1
              ) oldest
            ) AS "oldest_due!", (
              SELECT coalesce(max(extract(epoch FROM clock_timestamp() - since)), 0)::float8
              FROM (
                -- A vacuum shows a snapshot too, and holds no other one back.
                SELECT xact_start AS since FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
                  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
                UNION ALL
                SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
              ) held
            ) AS "oldest_snapshot!", (
              SELECT coalesce(max(age(xid)), 0)::bigint
              FROM (
                SELECT unnest(ARRAY[backend_xmin, backend_xid]) AS xid FROM pg_stat_activity
                -- A standby that feeds back shows its snapshot at the walsender, which has no database.
                WHERE (datname = current_database() OR backend_type = 'walsender') AND pid <> pg_backend_pid()
                  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
                UNION ALL
                SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()
                UNION ALL
                -- Whoever reads it or nobody: a slot that was left behind holds on for ever.
                SELECT xmin FROM pg_replication_slots WHERE database IS NULL OR database = current_database()
              ) held
            ) AS "oldest_snapshot_transactions!", (
              SELECT count(*) FROM facteur.worker_sessions WHERE expires_at > now()
            ) AS "workers_alive!"
            "#
        )
        .fetch_one(&self.line)
        .await?;
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(Health {
            due: row.due,
            scheduled: row.scheduled,
            sending: row.sending,
            unknown: row.unknown,
            oldest_due: seconds(row.oldest_due),
            oldest_snapshot: seconds(row.oldest_snapshot),
            oldest_snapshot_transactions: row.oldest_snapshot_transactions,
            workers_alive: row.workers_alive,
        })
    }
}
