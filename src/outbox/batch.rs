//! Many e-mails at once: all of them or none.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::connection::Transaction;
use super::enqueue::{accepted, write};
use super::origin::Origin;
use super::{Outbox, OutboxError};
use crate::email::{Email, EmailId};

/// An accepted batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedBatch {
    /// The e-mails, in the order in which they came; the earlier ones, when the key was repeated.
    pub ids: Vec<EmailId>,
    /// False when the key was repeated: nothing was stored.
    pub created: bool,
}

impl Outbox {
    /// Queues all of these e-mails or none, and wakes this process's worker: durable when this returns.
    /// The first e-mail's idempotency key is the whole batch's; the others have none.
    ///
    /// One transaction, which ends with its connection when this is dropped half-way.
    ///
    /// # Errors
    /// As [`enqueue`](super::enqueue()); nothing was stored.
    pub async fn enqueue_all(&self, emails: &[Email], origin: &Origin) -> Result<EnqueuedBatch, OutboxError> {
        let mut transaction = self.line.for_content().begin().await?;
        let batch = match write_all(&mut transaction, emails, origin).await {
            Ok(batch) if batch.created => {
                transaction.commit().await?;
                batch
            }
            other => {
                transaction.rollback().await;
                other?
            }
        };
        if batch.created {
            batch.ids.iter().zip(emails).for_each(|(id, email)| accepted(*id, email));
        }
        self.wake();
        Ok(batch)
    }

    /// What an idempotency key stands for: the e-mails, and whether they were asked for in the same words.
    /// None when the key is not in use.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn find_key(
        &self,
        key: &str,
        origin: &Origin,
    ) -> Result<Option<(Vec<EmailId>, bool)>, OutboxError> {
        stands_for(&self.line, key, origin).await
    }
}

async fn stands_for(
    executor: impl PgExecutor<'_>,
    key: &str,
    origin: &Origin,
) -> Result<Option<(Vec<EmailId>, bool)>, OutboxError> {
    let row = sqlx::query!(
        r#"SELECT coalesce(email_ids, ARRAY[email_id]) AS "ids!", request_sha256 = $3 AS "same!"
               FROM facteur.idempotency
               WHERE scope = $1 AND key = $2 AND created_at > now() - interval '24 hours'"#,
        origin.scope(),
        key,
        origin.request.as_ref().map(|digest| digest.as_slice()).unwrap_or_default(),
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| (row.ids.into_iter().map(EmailId::from).collect(), row.same)))
}

async fn write_all(
    transaction: &mut Transaction,
    emails: &[Email],
    origin: &Origin,
) -> Result<EnqueuedBatch, OutboxError> {
    let mut ids = Vec::with_capacity(emails.len());
    for email in emails {
        let enqueued = write(&mut *transaction, email, origin).await?;
        if !enqueued.created {
            let key = email.idempotency_key().unwrap_or_default();
            // It was found a moment ago, by this transaction's clock.
            let first = stands_for(&mut *transaction, key, origin).await?;
            let (ids, _) = first.ok_or(sqlx::Error::RowNotFound)?;
            return Ok(EnqueuedBatch { ids, created: false });
        }
        ids.push(enqueued.id);
    }
    if let Some(key) = emails.first().and_then(Email::idempotency_key) {
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        sqlx::query!(
            "UPDATE facteur.idempotency SET email_ids = $3 WHERE scope = $1 AND key = $2",
            origin.scope(),
            key,
            &uuids
        )
        .execute(&mut *transaction)
        .await?;
    }
    Ok(EnqueuedBatch { ids, created: true })
}
