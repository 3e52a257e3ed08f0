use super::{Outbox, OutboxError};

impl Outbox {
    /// Wipes the content of sensitive e-mails that have ended, where their end did not do it itself:
    /// withdrawn, lost with their worker, or ended in two batches at once. How many; at most 500 a sweep.
    ///
    /// Any process may do it at any time. The old content is in the files of Postgres until it vacuums.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn wipe_sensitive(&self) -> Result<u64, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH ended AS MATERIALIZED (
              SELECT w.email_id, w.retried FROM facteur.to_wipe w
              WHERE NOT EXISTS (SELECT 1 FROM facteur.deliveries d WHERE d.email_id = w.email_id)
              ORDER BY w.email_id
              LIMIT 500
            ),
            wiped AS (
              -- Tried again by hand since the snapshot: the number has grown, and it stays.
              DELETE FROM facteur.to_wipe w USING ended e
              WHERE w.email_id = e.email_id AND w.retried = e.retried
              RETURNING w.email_id
            ),
            blank AS (
              UPDATE facteur.emails e
              SET subject = '', text_body = NULL, html_body = NULL, headers = '[]', wiped_at = now()
              FROM wiped WHERE e.id = wiped.email_id
            ),
            blank_files AS (
              UPDATE facteur.attachments a SET content = '' FROM wiped WHERE a.email_id = wiped.email_id
            )
            SELECT count(*) AS "wiped!" FROM wiped
            "#
        )
        .fetch_one(&self.line)
        .await?;
        Ok(row.wiped.unsigned_abs())
    }
}
