use serde_json::Value;
use time::OffsetDateTime;

use super::{Outbox, OutboxError};
use crate::email::{Attachment, EmailId};

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
    /// `[{"name", "value"}]`.
    pub tags: Value,
    /// Who handed it over by HTTP; none by another door.
    pub sent_by: Option<String>,
    /// One for each envelope recipient, in order.
    pub deliveries: Vec<DeliveryView>,
}

/// Where one delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryView {
    /// Which of the envelope recipients, from 0.
    pub position: i16,
    /// Whom it goes to.
    pub recipient: String,
    /// `queued`, `sending`, `unknown`, `sent`, `failed`, `cancelled`.
    pub state: String,
    /// Why, once it ended.
    pub reason: Option<String>,
    /// Attempts begun.
    pub attempts: i16,
    /// Whether it waits for a moment to come, and was never tried.
    pub scheduled: bool,
}

/// Something that happened to an e-mail.
#[derive(Debug, Clone)]
pub struct EventView {
    /// Which of the envelope recipients; none for the e-mail as a whole.
    pub position: Option<i16>,
    /// When.
    pub at: OffsetDateTime,
    /// `accepted`, `retry`, `sent`, …
    pub kind: String,
    /// In which attempt.
    pub attempt: Option<i16>,
    /// What a server answered.
    pub code: Option<i16>,
    /// More about it; may be a server's own words, which nobody vouches for.
    pub detail: Option<String>,
    /// Who did it, of what was done by hand.
    pub actor: Option<String>,
}

/// A file of an e-mail, without its content.
#[derive(Debug, Clone)]
pub struct AttachmentView {
    /// Its place among the e-mail's files, from 0.
    pub position: i16,
    /// Its base name.
    pub filename: String,
    /// Its MIME type.
    pub content_type: String,
    /// Set when it is shown inline.
    pub content_id: Option<String>,
    /// In bytes.
    pub size: u32,
}

impl Outbox {
    /// One e-mail, or none with that id.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn find(&self, id: EmailId) -> Result<Option<EmailView>, OutboxError> {
        let Some(row) = sqlx::query!(
            "SELECT message_id, sender, recipients, cc, bcc, reply_to, subject, text_body, html_body,
                    created_at, scheduled_at, wiped_at, tags, sent_by
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
            tags: row.tags,
            sent_by: row.sent_by,
            deliveries: self.deliveries(id).await?,
        }))
    }

    /// Where each delivery of an e-mail is, in order; empty for an unknown id.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn deliveries(&self, id: EmailId) -> Result<Vec<DeliveryView>, OutboxError> {
        Ok(self.deliveries_of(&[id]).await?.into_iter().map(|(_, view)| view).collect())
    }

    /// Where each delivery of these e-mails is, by e-mail and in order.
    pub(super) async fn deliveries_of(
        &self,
        ids: &[EmailId],
    ) -> Result<Vec<(EmailId, DeliveryView)>, OutboxError> {
        let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
        // One statement is one snapshot: a delivery is in exactly one of the two tables.
        let rows = sqlx::query!(
            r#"
            SELECT email_id AS "email_id!", position AS "position!", recipient AS "recipient!",
                   state::text AS "state!", NULL AS reason, attempt AS "attempts!",
                   (state = 'queued' AND attempt = 0 AND run_at > now()) AS "scheduled!"
            FROM facteur.deliveries WHERE email_id = ANY($1)
            UNION ALL
            SELECT email_id, position, recipient, final::text, reason, attempts, false
            FROM facteur.outcomes WHERE email_id = ANY($1)
            ORDER BY 1, 2
            "#,
            &ids
        )
        .fetch_all(&self.line)
        .await?;
        let view = rows.into_iter().map(|row| {
            let view = DeliveryView {
                position: row.position,
                recipient: row.recipient,
                state: row.state,
                reason: row.reason,
                attempts: row.attempts,
                scheduled: row.scheduled,
            };
            (row.email_id.into(), view)
        });
        Ok(view.collect())
    }

    /// What happened to an e-mail, in order; at most 1,000 events.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn events(&self, id: EmailId) -> Result<Vec<EventView>, OutboxError> {
        let rows = sqlx::query!(
            "SELECT position, at, kind, attempt, code, detail, actor FROM facteur.events
             WHERE email_id = $1 ORDER BY at, position NULLS FIRST LIMIT 1000",
            id.as_uuid()
        )
        .fetch_all(&self.line)
        .await?;
        let view = rows.into_iter().map(|row| EventView {
            position: row.position,
            at: row.at,
            kind: row.kind,
            attempt: row.attempt,
            code: row.code,
            detail: row.detail,
            actor: row.actor,
        });
        Ok(view.collect())
    }

    /// The files of an e-mail, in order, without their content.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn attachments(&self, id: EmailId) -> Result<Vec<AttachmentView>, OutboxError> {
        let rows = sqlx::query!(
            r#"SELECT position, filename, content_type, content_id, octet_length(content) AS "size!"
               FROM facteur.attachments WHERE email_id = $1 ORDER BY position"#,
            id.as_uuid()
        )
        .fetch_all(&self.line)
        .await?;
        let view = rows.into_iter().map(|row| AttachmentView {
            position: row.position,
            filename: row.filename,
            content_type: row.content_type,
            content_id: row.content_id,
            size: row.size.unsigned_abs(),
        });
        Ok(view.collect())
    }

    /// One file of an e-mail; none when there is no such file.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn attachment(&self, id: EmailId, position: i16) -> Result<Option<Attachment>, OutboxError> {
        let row = sqlx::query!(
            "SELECT filename, content_type, content_id, content
             FROM facteur.attachments WHERE email_id = $1 AND position = $2",
            id.as_uuid(),
            position
        )
        .fetch_optional(&self.line.for_content())
        .await?;
        Ok(row.map(|row| Attachment {
            filename: row.filename,
            content_type: row.content_type,
            content_id: row.content_id,
            content: row.content,
        }))
    }

    /// Who handed an e-mail over by HTTP: `Some(None)` for another door, none for an unknown id.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn sent_by(&self, id: EmailId) -> Result<Option<Option<String>>, OutboxError> {
        let row = sqlx::query!("SELECT sent_by FROM facteur.emails WHERE id = $1", id.as_uuid())
            .fetch_optional(&self.line)
            .await?;
        Ok(row.map(|row| row.sent_by))
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
