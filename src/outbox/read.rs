use serde_json::Value;
use time::OffsetDateTime;

use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// An e-mail as its sender may see it again, with the fate of each delivery.
#[derive(Debug, Clone)]
pub struct EmailView {
    /// Its name.
    pub id: EmailId,
    /// The `Message-ID` without angle brackets.
    pub message_id: String,
    /// `{"name"?, "address"}`.
    pub from: Value,
    /// `[{"name"?, "address"}]`, and so on below.
    pub to: Value,
    /// Visible copies.
    pub cc: Value,
    /// Blind copies.
    pub bcc: Value,
    /// Where answers go.
    pub reply_to: Value,
    /// In plain Unicode.
    pub subject: String,
    /// The plain text.
    pub text: Option<String>,
    /// The HTML.
    pub html: Option<String>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When its caller wanted it sent, unless at once.
    pub scheduled_at: Option<OffsetDateTime>,
    /// Whether subject, bodies and headers are empty because it was sensitive and has ended.
    pub wiped: bool,
    /// One for each envelope recipient, in order.
    pub deliveries: Vec<DeliveryView>,
}

/// Where one delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryView {
    /// Which of the envelope recipients, from 0.
    pub position: i16,
    /// `queued`, `sending`, `unknown`, `sent`, `failed`, `cancelled`.
    pub state: String,
    /// Why, once it ended.
    pub reason: Option<String>,
    /// Attempts begun.
    pub attempts: i16,
    /// Whether it waits for a moment to come, and was never tried.
    pub scheduled: bool,
}

impl Outbox {
    /// One e-mail, or none with that id.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn find(&self, id: EmailId) -> Result<Option<EmailView>, OutboxError> {
        let Some(row) = sqlx::query!(
            "SELECT message_id, sender, recipients, cc, bcc, reply_to, subject, text_body, html_body,
                    created_at, scheduled_at, wiped_at
             FROM facteur.emails WHERE id = $1",
            id.as_uuid()
        )
        .fetch_optional(&self.line)
        .await?
        else {
            return Ok(None);
        };
        Ok(Some(EmailView {
            id,
            message_id: row.message_id,
            from: row.sender,
            to: row.recipients,
            cc: row.cc,
            bcc: row.bcc,
            reply_to: row.reply_to,
            subject: row.subject,
            text: row.text_body,
            html: row.html_body,
            created_at: row.created_at,
            scheduled_at: row.scheduled_at,
            wiped: row.wiped_at.is_some(),
            deliveries: self.deliveries(id).await?,
        }))
    }

    /// Where each delivery of an e-mail is, in order; empty for an unknown id.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn deliveries(&self, id: EmailId) -> Result<Vec<DeliveryView>, OutboxError> {
        // One statement is one snapshot: a delivery is in exactly one of the two tables.
        let rows = sqlx::query!(
            r#"
            SELECT position AS "position!", state::text AS "state!", NULL AS reason, attempt AS "attempts!",
                   (state = 'queued' AND attempt = 0 AND run_at > now()) AS "scheduled!"
            FROM facteur.deliveries WHERE email_id = $1
            UNION ALL
            SELECT position, final::text, reason, attempts, false
            FROM facteur.outcomes WHERE email_id = $1
            ORDER BY 1
            "#,
            id.as_uuid()
        )
        .fetch_all(&self.line)
        .await?;
        let view = rows.into_iter().map(|row| DeliveryView {
            position: row.position,
            state: row.state,
            reason: row.reason,
            attempts: row.attempts,
            scheduled: row.scheduled,
        });
        Ok(view.collect())
    }
}

impl Outbox {
    /// How long the oldest due delivery has been waiting; zero when none is.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn oldest_due(&self) -> Result<std::time::Duration, OutboxError> {
        let row = sqlx::query!(
            r#"
            SELECT coalesce(max(extract(epoch FROM now() - oldest.run_at)), 0)::float8 AS "seconds!"
            FROM generate_series(0, 3) AS p (priority)
            CROSS JOIN LATERAL (
              SELECT run_at FROM facteur.deliveries d
              WHERE d.state = 'queued' AND d.priority = p.priority::smallint AND d.run_at <= now()
              ORDER BY run_at LIMIT 1
            ) oldest
            "#
        )
        .fetch_one(&self.line)
        .await?;
        Ok(std::time::Duration::try_from_secs_f64(row.seconds).unwrap_or_default())
    }
}

/// How a database looks to `facteur check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The server's version.
    pub server: String,
    /// Deliveries that wait.
    pub queued: i64,
    /// Deliveries that are leased.
    pub sending: i64,
}

impl Outbox {
    /// The server's version and the queue's length.
    ///
    /// # Errors
    /// The database cannot be reached, or has no outbox yet.
    pub async fn status(&self) -> Result<Status, OutboxError> {
        let row = sqlx::query!(
            r#"
            SELECT current_setting('server_version') AS "server!",
                   count(*) FILTER (WHERE state = 'queued') AS "queued!",
                   count(*) FILTER (WHERE state = 'sending') AS "sending!"
            FROM facteur.deliveries
            "#
        )
        .fetch_one(&self.line)
        .await?;
        Ok(Status { server: row.server, queued: row.queued, sending: row.sending })
    }
}
