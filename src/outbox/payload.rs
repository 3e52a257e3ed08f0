use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::{Outbox, OutboxError};
use crate::email::{Attachment, EmailId, StoredEmail};

/// E-mails by id: several deliveries may share one.
pub type Payloads = HashMap<EmailId, Arc<StoredEmail>>;

/// Of those e-mails that were traced: what their attempts go on with.
pub(crate) type Traceparents = HashMap<EmailId, String>;

impl Outbox {
    /// The e-mails of a claimed batch, read outside any lock.
    ///
    /// One that cannot be read as an e-mail (a row written by hand) is left out, and logged.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn load(&self, ids: &[EmailId]) -> Result<Payloads, OutboxError> {
        Ok(self.load_traced(ids).await?.0)
    }

    /// The same, with the context of the trace that each belongs to.
    pub(crate) async fn load_traced(&self, ids: &[EmailId]) -> Result<(Payloads, Traceparents), OutboxError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let mut files = self.load_attachments(&ids).await?;
        let rows = sqlx::query!(
            "SELECT id, message_id, date, boundary, sender, recipients, cc, reply_to,
                    subject, text_body, html_body, headers, traceparent
             FROM facteur.emails WHERE id = ANY($1)",
            &ids
        )
        .fetch_all(&self.line.for_content())
        .await?;
        let mut emails = Payloads::with_capacity(rows.len());
        let mut traces = Traceparents::new();
        for row in rows {
            let id = EmailId::from(row.id);
            traces.extend(row.traceparent.map(|traceparent| (id, traceparent)));
            let email = (|| {
                Ok::<_, serde_json::Error>(StoredEmail {
                    id,
                    message_id: row.message_id,
                    date: row.date,
                    boundary: row.boundary,
                    from: read(row.sender)?,
                    to: read(row.recipients)?,
                    cc: read(row.cc)?,
                    reply_to: read(row.reply_to)?,
                    subject: row.subject,
                    text: row.text_body,
                    html: row.html_body,
                    headers: read(row.headers)?,
                    attachments: files.remove(&row.id).unwrap_or_default(),
                })
            })();
            match email {
                Ok(email) => drop(emails.insert(id, Arc::new(email))),
                Err(error) => {
                    tracing::error!(email = %id, line = error.line(), "a stored e-mail cannot be read")
                }
            }
        }
        Ok((emails, traces))
    }

    async fn load_attachments(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<Attachment>>, OutboxError> {
        let rows = sqlx::query!(
            "SELECT email_id, filename, content_type, content_id, content
             FROM facteur.attachments WHERE email_id = ANY($1) ORDER BY email_id, position",
            ids
        )
        .fetch_all(&self.line.for_content())
        .await?;
        let mut files: HashMap<Uuid, Vec<Attachment>> = HashMap::new();
        for row in rows {
            files.entry(row.email_id).or_default().push(Attachment {
                filename: row.filename,
                content_type: row.content_type,
                content_id: row.content_id,
                content: row.content,
            });
        }
        Ok(files)
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}
