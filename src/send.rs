use sqlx::PgExecutor;

use crate::email::{Email, EmailId, InvalidEmail};
use crate::outbox::{OutboxError, enqueue};
use crate::settings::{Faults, default_sender};

/// Why an e-mail was not queued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// `EMAIL_FROM` is not set, or is not a sender.
    #[error("the sender is not set:\n{0}")]
    Sender(#[from] Faults),
    /// A field cannot be taken; which and why.
    #[error("the e-mail cannot be taken: {0}")]
    Invalid(#[from] InvalidEmail),
    /// The outbox did not take it.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Queues an e-mail; a worker sends it. Over a pool it is durable when this returns; in a
/// transaction it is queued if and only if the transaction commits.
///
/// The sender is `EMAIL_FROM` (or `DEFAULT_FROM_EMAIL`). For everything else there is
/// [`Email::builder`] with [`enqueue`](crate::enqueue), or [`Outbox`](crate::Outbox), whose worker in
/// this process wakes at once; without it the mail leaves at the worker's next poll, within a second.
///
/// ```no_run
/// # async fn order(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = pool.begin().await?;
/// sqlx::query("INSERT INTO orders (customer) VALUES ('ada@example.com')").execute(&mut *transaction).await?;
/// facteur::send_email(&mut *transaction, "ada@example.com", "Your order", "Thank you.", None).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// No sender is set, a field cannot be taken, or the database did not do it. Nothing is queued then;
/// inside a transaction, a database error has ended the transaction too.
pub async fn send_email(
    executor: impl PgExecutor<'_>,
    to: &str,
    subject: &str,
    body: &str,
    html: Option<&str>,
) -> Result<EmailId, SendError> {
    let mut builder = Email::builder(default_sender()?, to, subject, body);
    if let Some(html) = html {
        builder = builder.html(html);
    }
    Ok(enqueue(executor, &builder.build()?).await?.id)
}
