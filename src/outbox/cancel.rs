use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// What a cancel found, in deliveries; together they are all of the e-mail's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Withdrawn: they will not be sent, and certainly never were.
    pub cancelled: u64,
    /// Being sent at this moment: not stopped, but not tried again should they come back.
    pub sending: u64,
    /// Of an attempt that may have sent them: parked for a person, or queued to be tried again and
    /// now ended as failed, reason `unknown`.
    pub unknown: u64,
    /// Had ended before.
    pub ended: u64,
}

impl Outbox {
    /// Withdraws what is still queued of an e-mail; none when no e-mail has that id.
    ///
    /// # Errors
    /// The database cannot be reached; nothing was withdrawn.
    pub async fn cancel(&self, id: EmailId) -> Result<Option<Cancelled>, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH live AS MATERIALIZED (
              SELECT email_id, position, state, may_have_left FROM facteur.deliveries
              WHERE email_id = $1
              ORDER BY position
              FOR UPDATE
            ),
            gone AS (
              DELETE FROM facteur.deliveries d USING live l
              WHERE d.email_id = l.email_id AND d.position = l.position AND l.state = 'queued'
              RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token, d.may_have_left,
                        CASE WHEN d.may_have_left THEN 'failed' ELSE 'cancelled' END AS final
            ),
            asked AS (
              UPDATE facteur.deliveries d SET cancel_requested = true FROM live l
              WHERE d.email_id = l.email_id AND d.position = l.position AND l.state = 'sending'
              RETURNING d.email_id, d.position, d.attempt, d.lease_token
            ),
            outcome AS (
              INSERT INTO facteur.outcomes
                (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
              SELECT email_id, position, recipient, final::facteur.final_state,
                     CASE final WHEN 'failed' THEN 'unknown' ELSE 'withdrawn' END,
                     attempt, lease_token, may_have_left
              FROM gone
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, detail)
              SELECT email_id, position, final, attempt, lease_token, 'withdrawn' FROM gone
              UNION ALL
              SELECT email_id, position, 'cancel_requested', attempt, lease_token, NULL FROM asked
            )
            SELECT (SELECT count(*) FROM gone WHERE final = 'cancelled') AS "cancelled!",
                   (SELECT count(*) FROM asked) AS "sending!",
                   (SELECT count(*) FROM gone WHERE final = 'failed')
                     + (SELECT count(*) FROM live WHERE state = 'unknown') AS "unknown!",
                   -- What ended while this waited for its lock is among them, in this snapshot too.
                   (SELECT count(*) FROM facteur.deliveries WHERE email_id = $1)
                     + (SELECT count(*) FROM facteur.outcomes WHERE email_id = $1) AS "all!",
                   CASE current_setting('synchronous_commit') WHEN 'off'
                     THEN set_config('synchronous_commit', 'on', true) END AS durable
            "#,
            id.as_uuid()
        )
        .fetch_one(&self.line)
        .await?;
        if row.all == 0 {
            return Ok(None);
        }
        let (gone, sending, unknown) = (row.cancelled, row.sending, row.unknown);
        tracing::info!(email = %id, cancelled = gone, sending, unknown, "withdrawn");
        Ok(Some(Cancelled {
            cancelled: gone.unsigned_abs(),
            sending: sending.unsigned_abs(),
            unknown: unknown.unsigned_abs(),
            ended: (row.all - gone - sending - unknown).unsigned_abs(),
        }))
    }
}
