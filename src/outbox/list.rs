//! E-mails by the page, newest first.

use std::collections::HashMap;

use serde_json::Value;
use time::OffsetDateTime;

use super::{DeliveryView, Outbox, OutboxError};
use crate::email::EmailId;

/// Which e-mails of the list: ids are UUIDv7, so that their order is that of acceptance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// At most so many.
    pub limit: u16,
    /// Only older ones than this.
    pub after: Option<EmailId>,
    /// Only newer ones than this: those next to it.
    pub before: Option<EmailId>,
    /// Only those that this caller handed over.
    pub sent_by: Option<&'a str>,
}

/// An e-mail of a list, without its content.
#[derive(Debug, Clone)]
pub struct EmailSummary {
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
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When its caller wanted it sent, unless at once.
    pub scheduled_at: Option<OffsetDateTime>,
    /// One for each envelope recipient, in order.
    pub deliveries: Vec<DeliveryView>,
}

impl Outbox {
    /// One page, newest first, and whether there is more in that direction.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn list(&self, page: Page<'_>) -> Result<(Vec<EmailSummary>, bool), OutboxError> {
        let mut rows = sqlx::query!(
            r#"
            SELECT id AS "id!", message_id AS "message_id!", sender AS "sender!", recipients AS "recipients!",
                   cc AS "cc!", bcc AS "bcc!", reply_to AS "reply_to!", subject AS "subject!",
                   created_at AS "created_at!", scheduled_at
            FROM (
              (SELECT * FROM facteur.emails
               WHERE $2::uuid IS NULL AND ($1::uuid IS NULL OR id < $1) AND ($3::text IS NULL OR sent_by = $3)
               ORDER BY id DESC LIMIT $4)
              UNION ALL
              (SELECT * FROM facteur.emails
               WHERE $2::uuid IS NOT NULL AND id > $2 AND ($3::text IS NULL OR sent_by = $3)
               ORDER BY id LIMIT $4)
            ) page
            ORDER BY id DESC
            "#,
            page.after.map(EmailId::as_uuid),
            page.before.map(EmailId::as_uuid),
            page.sent_by,
            i64::from(page.limit) + 1
        )
        .fetch_all(&self.line)
        .await?;
        let more = rows.len() > usize::from(page.limit);
        if more {
            // The one too many is the farthest from the cursor.
            let farthest = if page.before.is_some() { 0 } else { rows.len() - 1 };
            rows.remove(farthest);
        }
        let ids: Vec<EmailId> = rows.iter().map(|row| row.id.into()).collect();
        let mut deliveries: HashMap<EmailId, Vec<DeliveryView>> = HashMap::new();
        for (id, view) in self.deliveries_of(&ids).await? {
            deliveries.entry(id).or_default().push(view);
        }
        let summary = rows.into_iter().map(|row| EmailSummary {
            id: row.id.into(),
            message_id: row.message_id,
            from: row.sender,
            to: row.recipients,
            cc: row.cc,
            bcc: row.bcc,
            reply_to: row.reply_to,
            subject: row.subject,
            created_at: row.created_at,
            scheduled_at: row.scheduled_at,
            deliveries: deliveries.remove(&row.id.into()).unwrap_or_default(),
        });
        Ok((summary.collect(), more))
    }
}
