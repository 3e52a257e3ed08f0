use super::{Outbox, OutboxError};

/// What a sweep of the reaper found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Deliveries back in the queue.
    pub requeued: i64,
    /// Held deliveries whose content may have left: parked for a person.
    pub parked: i64,
    /// Deliveries whose last attempt was lost with its worker.
    pub failed: i64,
}

impl Outbox {
    /// Takes back what dead workers had leased: lease over, or session expired or gone.
    ///
    /// Any process may do it at any time; each row is taken by one. The attempt stays counted, so that
    /// an e-mail that kills its worker ends. At most 500 a sweep.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn reap(&self) -> Result<Reaped, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH dead AS MATERIALIZED (
              SELECT d.email_id, d.position
              FROM facteur.deliveries d
              LEFT JOIN facteur.worker_sessions w ON w.id = d.worker_id AND w.expires_at > now()
              WHERE d.state = 'sending' AND (d.lease_until < now() OR w.id IS NULL)
              ORDER BY d.email_id, d.position
              LIMIT 500
              FOR UPDATE OF d SKIP LOCKED
            ),
            back AS (
              UPDATE facteur.deliveries d
              SET state = CASE WHEN d.hold_unknown AND d.data_started THEN 'unknown' ELSE 'queued' END::facteur.delivery_state,
                  run_at = now() + make_interval(secs => least(300, 5 * 2 ^ least(d.attempt, 6))),
                  lease_until = NULL, worker_id = NULL
              FROM dead
              WHERE d.email_id = dead.email_id AND d.position = dead.position
                AND (d.attempt < d.max_attempts OR (d.hold_unknown AND d.data_started))
              RETURNING d.email_id, d.position, d.attempt, d.lease_token, d.state
            ),
            gone AS (
              DELETE FROM facteur.deliveries d
              USING dead
              WHERE d.email_id = dead.email_id AND d.position = dead.position
                AND d.attempt >= d.max_attempts AND NOT (d.hold_unknown AND d.data_started)
              RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token
            ),
            outcome AS (
              INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, attempts)
              SELECT email_id, position, recipient, 'failed', 'worker_lost', attempt FROM gone
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token)
              SELECT email_id, position, CASE state WHEN 'unknown' THEN 'held' ELSE 'lease_lost' END, attempt, lease_token FROM back
              UNION ALL
              SELECT email_id, position, 'failed', attempt, lease_token FROM gone
            ),
            old AS (
              -- Long after its leases were taken back, a dead session is nobody's any more.
              DELETE FROM facteur.worker_sessions WHERE expires_at < now() - interval '1 hour'
            )
            SELECT (SELECT count(*) FROM back WHERE state = 'queued') AS "requeued!",
                   (SELECT count(*) FROM back WHERE state = 'unknown') AS "parked!",
                   (SELECT count(*) FROM gone) AS "failed!"
            "#,
        )
        .fetch_one(&self.line)
        .await?;
        let reaped = Reaped { requeued: row.requeued, parked: row.parked, failed: row.failed };
        if reaped != Reaped::default() {
            tracing::warn!(
                requeued = reaped.requeued,
                parked = reaped.parked,
                failed = reaped.failed,
                "took back what a lost worker had leased"
            );
        }
        Ok(reaped)
    }
}
