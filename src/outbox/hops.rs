//! What happens to the queue around a broken way out: hops are written down, and what expires ends.

use super::settle::LONGEST_DETAIL;
use super::storable::storable;
use super::{ClaimedDelivery, Outbox, OutboxError};

/// One way that a mail was tried by before it went on to the next.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The way that failed.
    pub transport: &'a str,
    /// Where it failed.
    pub stage: &'static str,
    /// The server's reply code.
    pub code: Option<u16>,
    /// The server's words, or what broke; at most 1,000 characters are kept.
    pub detail: &'a str,
}

impl Outbox {
    /// Writes down that a mail goes on to another way within the same attempt.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn note_hop(&self, delivery: &ClaimedDelivery, hop: Hop<'_>) -> Result<(), OutboxError> {
        let detail = storable(hop.detail, LONGEST_DETAIL);
        // Without the worker: what is written under token and worker tells that a delivery was settled.
        sqlx::query!(
            "INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, transport, stage, code, detail)
             VALUES ($1, $2, 'failover', $3, $4, $5, $6, $7, $8)",
            delivery.id.email.as_uuid(),
            delivery.id.position,
            delivery.attempt,
            delivery.token.get(),
            hop.transport,
            hop.stage,
            hop.code.and_then(|code| i16::try_from(code).ok()) as Option<i16>,
            detail,
        )
        .execute(&self.line)
        .await?;
        Ok(())
    }

    /// Ends what is due and has expired, while nothing is claimed because no way out is free. How many:
    /// at most 500, looked for among the first 10,000 that are due.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn expire_due(&self) -> Result<u64, OutboxError> {
        let gone = sqlx::query_scalar!(
            r#"
            WITH due AS MATERIALIZED (
              SELECT q.email_id, q.position FROM generate_series(0, 3) AS p (priority)
              CROSS JOIN LATERAL (
                SELECT d.email_id, d.position, d.expires_at FROM facteur.deliveries d
                WHERE d.state = 'queued' AND d.priority = p.priority::smallint AND d.run_at <= now()
                ORDER BY d.run_at, d.email_id, d.position LIMIT 10000
              ) q WHERE q.expires_at <= now() LIMIT 500
            ),
            expired AS MATERIALIZED (
              SELECT d.email_id, d.position FROM facteur.deliveries d JOIN due
                ON d.email_id = due.email_id AND d.position = due.position
              WHERE d.state = 'queued' AND d.expires_at <= now()
              ORDER BY d.email_id, d.position
              FOR UPDATE OF d SKIP LOCKED
            ),
            gone AS (
              DELETE FROM facteur.deliveries d USING expired e
              WHERE d.email_id = e.email_id AND d.position = e.position
              RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token, d.may_have_left
            ),
            outcome AS (
              INSERT INTO facteur.outcomes
                (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
              SELECT email_id, position, recipient, 'failed', CASE WHEN may_have_left THEN 'unknown' ELSE 'expired' END,
                     attempt, lease_token, may_have_left FROM gone
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, detail)
              SELECT email_id, position, 'failed', attempt, lease_token, 'expired while no way out was free' FROM gone
            )
            SELECT count(*) AS "gone!" FROM gone
            "#
        )
        .fetch_one(&self.line)
        .await?;
        if gone > 0 {
            tracing::warn!(deliveries = gone, "expired while no way out was free");
        }
        Ok(gone.unsigned_abs())
    }
}
