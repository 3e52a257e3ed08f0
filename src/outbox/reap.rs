use time::OffsetDateTime;
use uuid::Uuid;

use super::{DeliveryId, LeaseToken, Outbox, OutboxError, SessionId};

/// What a sweep of the reaper found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Deliveries back in the queue.
    pub requeued: i64,
    /// Held deliveries whose content may have left: parked for a person.
    pub parked: i64,
    /// Deliveries whose last attempt was lost with its worker, and withdrawn ones that may have been sent.
    pub failed: i64,
    /// Withdrawn deliveries that were certainly not sent.
    pub cancelled: i64,
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
        self.reap_holding(None).await
    }

    /// The same, and what was accepted before `since` is parked instead of queued again: after a restore, what
    /// was being sent at the time of the backup.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn reap_holding(&self, since: Option<OffsetDateTime>) -> Result<Reaped, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH dead AS MATERIALIZED (
              SELECT d.email_id, d.position, d.recipient, d.attempt, d.lease_token,
                     -- Of held mail it is known whether its content was begun; of the rest, nothing.
                     d.may_have_left OR d.data_started OR NOT d.hold_unknown AS may_have_left,
                     CASE WHEN d.hold_unknown AND d.data_started THEN 'held'
                          WHEN d.cancel_requested THEN 'withdrawn'
                          WHEN EXISTS (
                            SELECT 1 FROM facteur.emails e WHERE e.id = d.email_id AND e.created_at < $1
                          ) THEN 'held'
                          WHEN d.attempt >= d.max_attempts THEN 'failed'
                          ELSE 'lease_lost' END AS kind
              FROM facteur.deliveries d
              LEFT JOIN facteur.worker_sessions w ON w.id = d.worker_id AND w.expires_at > now()
              WHERE d.state = 'sending' AND (d.lease_until < now() OR w.id IS NULL)
              ORDER BY d.email_id, d.position
              LIMIT 500
              FOR UPDATE OF d SKIP LOCKED
            ),
            back AS (
              UPDATE facteur.deliveries d
              SET state = CASE dead.kind WHEN 'held' THEN 'unknown' ELSE 'queued' END::facteur.delivery_state,
                  run_at = now() + make_interval(secs => least(300, 5 * 2 ^ least(d.attempt, 6))),
                  may_have_left = dead.may_have_left,
                  hold_unknown = d.hold_unknown OR dead.kind = 'held',
                  lease_until = NULL, worker_id = NULL
              FROM dead
              WHERE d.email_id = dead.email_id AND d.position = dead.position
                AND dead.kind IN ('held', 'lease_lost')
              RETURNING d.email_id, d.position, d.attempt, d.lease_token, dead.kind
            ),
            gone AS (
              DELETE FROM facteur.deliveries d
              USING dead
              WHERE d.email_id = dead.email_id AND d.position = dead.position
                AND dead.kind IN ('withdrawn', 'failed')
              RETURNING dead.*,
                        CASE WHEN dead.kind = 'withdrawn' AND NOT dead.may_have_left
                          THEN 'cancelled' ELSE 'failed' END AS final
            ),
            outcome AS (
              INSERT INTO facteur.outcomes
                (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
              SELECT email_id, position, recipient, final::facteur.final_state,
                     CASE WHEN kind = 'failed' THEN 'worker_lost'
                          WHEN final = 'failed' THEN 'unknown' ELSE 'withdrawn' END,
                     attempt, lease_token, may_have_left
              FROM gone
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, detail)
              SELECT email_id, position, kind, attempt, lease_token,
                     CASE WHEN kind = 'held' AND $1::timestamptz IS NOT NULL
                       THEN 'was being sent, or would be, at a start with MAIL_HOLD_ON_START' END
              FROM back
              UNION ALL
              SELECT email_id, position, final, attempt, lease_token,
                     CASE kind WHEN 'withdrawn' THEN 'withdrawn' END
              FROM gone
            ),
            old AS (
              -- Long after its leases were taken back, a dead session is nobody's any more.
              DELETE FROM facteur.worker_sessions WHERE expires_at < now() - interval '1 hour'
            )
            SELECT (SELECT count(*) FROM back WHERE kind = 'lease_lost') AS "requeued!",
                   (SELECT count(*) FROM back WHERE kind = 'held') AS "parked!",
                   (SELECT count(*) FROM gone WHERE final = 'failed') AS "failed!",
                   (SELECT count(*) FROM gone WHERE final = 'cancelled') AS "cancelled!"
            "#,
            since,
        )
        .fetch_one(&self.line)
        .await?;
        let reaped = Reaped {
            requeued: row.requeued,
            parked: row.parked,
            failed: row.failed,
            cancelled: row.cancelled,
        };
        if reaped != Reaped::default() {
            tracing::warn!(
                requeued = reaped.requeued,
                parked = reaped.parked,
                failed = reaped.failed,
                cancelled = reaped.cancelled,
                "took back what a lost worker had leased"
            );
        }
        Ok(reaped)
    }

    /// Takes back what `worker` leased without knowing it, its attempt with it: the answer to a claim
    /// was lost after its commit. `held` is all that it knows of.
    ///
    /// Only the worker itself may do it, and not while a claim of its own is under way.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn release_others(
        &self,
        worker: SessionId,
        held: &[(DeliveryId, LeaseToken)],
    ) -> Result<i64, OutboxError> {
        let emails: Vec<Uuid> = held.iter().map(|(id, _)| id.email.as_uuid()).collect();
        let positions: Vec<i16> = held.iter().map(|(id, _)| id.position).collect();
        let tokens: Vec<i64> = held.iter().map(|(_, token)| token.get()).collect();
        let released = sqlx::query_scalar!(
            r#"
            WITH back AS (
              UPDATE facteur.deliveries d
              SET state = 'queued', attempt = d.attempt - 1, run_at = now(), lease_until = NULL, worker_id = NULL
              WHERE d.worker_id = $1 AND d.state = 'sending'
                AND NOT EXISTS (
                  SELECT FROM unnest($2::uuid[], $3::smallint[], $4::bigint[]) AS h (email_id, position, token)
                  WHERE h.email_id = d.email_id AND h.position = d.position AND h.token = d.lease_token
                )
              RETURNING d.email_id, d.position, d.attempt + 1 AS attempt, d.lease_token
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, worker_id)
              SELECT email_id, position, 'released', attempt, lease_token, $1 FROM back
            )
            SELECT count(*) AS "released!" FROM back
            "#,
            worker.as_uuid(),
            &emails,
            &positions,
            &tokens,
        )
        .fetch_one(&self.line)
        .await?;
        if released > 0 {
            tracing::warn!(released, "took back what a claim had leased whose answer was lost");
        }
        Ok(released)
    }
}
