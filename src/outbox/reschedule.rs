use time::OffsetDateTime;

use super::{Outbox, OutboxError};
use crate::email::EmailId;

impl Outbox {
    /// Moves what is still queued and was never tried of an e-mail to another moment, on the database's
    /// clock; one that has passed means now. Its expiry moves along, so that it has as long as before.
    ///
    /// How many deliveries moved: 0 when it was too late for all; none when no e-mail has that id.
    ///
    /// # Errors
    /// The database cannot be reached; nothing was moved.
    pub async fn reschedule(&self, id: EmailId, at: OffsetDateTime) -> Result<Option<u64>, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH untried AS MATERIALIZED (
              SELECT email_id, position FROM facteur.deliveries
              WHERE email_id = $1 AND state = 'queued' AND attempt = 0
              ORDER BY position
              FOR UPDATE
            ),
            moved AS (
              UPDATE facteur.deliveries d
              SET run_at = greatest(now(), $2),
                  expires_at = d.expires_at + (greatest(now(), $2) - d.run_at)
              FROM untried u
              WHERE d.email_id = u.email_id AND d.position = u.position
              RETURNING d.email_id, d.position, d.attempt, d.lease_token
            ),
            email AS (
              UPDATE facteur.emails SET scheduled_at = $2
              WHERE id = $1 AND EXISTS (SELECT 1 FROM moved)
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token)
              SELECT email_id, position, 'rescheduled', attempt, lease_token FROM moved
            )
            SELECT (SELECT count(*) FROM moved) AS "moved!",
                   EXISTS (SELECT 1 FROM facteur.emails WHERE id = $1) AS "known!",
                   CASE current_setting('synchronous_commit') WHEN 'off'
                     THEN set_config('synchronous_commit', 'on', true) END AS durable
            "#,
            id.as_uuid(),
            at
        )
        .fetch_one(&self.line)
        .await?;
        if row.moved > 0 {
            tracing::info!(email = %id, moved = row.moved, %at, "rescheduled");
            self.wake();
        }
        Ok(row.known.then_some(row.moved.unsigned_abs()))
    }
}
