use ring::digest::{Context, SHA256};
use serde_json::Value;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Outbox, OutboxError};
use crate::email::{Email, EmailId, Mailbox, OnUnknown};

/// Keys of different callers do not meet; there is one caller so far.
const SCOPE: &str = "default";

/// An accepted e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Its name; the earlier e-mail's, when an idempotency key was repeated.
    pub id: EmailId,
    /// False when an idempotency key was repeated: nothing was stored.
    pub created: bool,
}

impl Outbox {
    /// Queues an e-mail and wakes this process's worker: durable when this returns.
    ///
    /// # Errors
    /// As [`enqueue`].
    pub async fn enqueue(&self, email: &Email) -> Result<Enqueued, OutboxError> {
        let enqueued = enqueue(&self.line.for_content(), email).await?;
        if enqueued.created {
            metrics::counter!(crate::telemetry::families::ACCEPTED).increment(1);
            let deliveries = email.envelope_recipients().len();
            tracing::info!(email = %enqueued.id, deliveries, domains = domains(email), "accepted");
        }
        self.wake();
        Ok(enqueued)
    }
}

/// Queues an e-mail: over a pool it is durable when this returns, in a transaction it is durable
/// if and only if the transaction commits.
///
/// One statement, so that a future dropped half-way leaves the whole e-mail or none of it.
///
/// # Errors
/// The database cannot be reached or refuses, or the idempotency key was used with another e-mail.
pub async fn enqueue(executor: impl PgExecutor<'_>, email: &Email) -> Result<Enqueued, OutboxError> {
    let row = Row::new(email);
    let written = sqlx::query!(
        r#"
        -- A repeated key comes back with the e-mail it stands for; the no-op update waits for a
        -- first writer that has not committed yet, and makes its row visible here.
        WITH key AS (
          INSERT INTO facteur.idempotency AS i (scope, key, request_sha256, email_id)
          SELECT $1, $2, $3, $4 WHERE $2::text IS NOT NULL
          ON CONFLICT (scope, key) DO UPDATE SET created_at = i.created_at
          RETURNING i.email_id, i.request_sha256 = $3 AS same, xmax = 0 AS created
        ),
        accepted AS (
          SELECT $4::uuid AS id WHERE NOT EXISTS (SELECT 1 FROM key WHERE NOT created)
        ),
        email AS (
          INSERT INTO facteur.emails
            (id, message_id, date, boundary, sender, recipients, cc, bcc, reply_to,
             subject, text_body, html_body, headers, scheduled_at)
          SELECT id, $5, date_trunc('second', now()), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16
          FROM accepted
        ),
        files AS (
          INSERT INTO facteur.attachments (email_id, position, filename, content_type, content_id, content)
          SELECT a.id, f.position - 1, f.filename, f.content_type, f.content_id, f.content
          FROM accepted a,
               unnest($17::text[], $18::text[], $19::text[], $20::bytea[])
                 WITH ORDINALITY AS f (filename, content_type, content_id, content, position)
        ),
        queued AS (
          INSERT INTO facteur.deliveries
            (email_id, position, recipient, priority, hold_unknown, run_at, expires_at)
          SELECT a.id, r.position - 1, r.recipient, $22, $23, due.at,
                 coalesce($24::timestamptz, due.at + interval '24 hours')
          FROM accepted a,
               (SELECT greatest(now(), $16::timestamptz) AS at) due,
               unnest($21::text[]) WITH ORDINALITY AS r (recipient, position)
        ),
        event AS (
          INSERT INTO facteur.events (email_id, kind) SELECT id, 'accepted' FROM accepted
        )
        SELECT result.id AS "id!", result.created AS "created!", result.same AS "same!",
               -- Accepted means durable, also where a role or a database says otherwise.
               CASE current_setting('synchronous_commit') WHEN 'off'
                 THEN set_config('synchronous_commit', 'on', true) END AS durable
        FROM (
          SELECT id, true AS created, true AS same FROM accepted
          UNION ALL
          SELECT email_id, false, same FROM key WHERE NOT created
        ) result
        "#,
        SCOPE,
        email.idempotency_key(),
        row.digest,
        row.id,
        row.message_id,
        row.boundary,
        row.from,
        row.to,
        row.cc,
        row.bcc,
        row.reply_to,
        email.subject,
        email.text,
        email.html,
        row.headers,
        email.scheduled_at,
        &row.filenames,
        &row.content_types,
        &row.content_ids as &[Option<String>],
        &row.contents,
        &row.recipients,
        email.priority as i16,
        email.on_unknown == OnUnknown::Hold,
        email.expires_at,
    )
    .fetch_one(executor)
    .await?;
    if !written.same {
        return Err(OutboxError::KeyReused);
    }
    let enqueued = Enqueued { id: written.id.into(), created: written.created };
    // No more than this: in a transaction it is not accepted yet, and perhaps never will be.
    tracing::debug!(email = %enqueued.id, created = enqueued.created, "handed to the database");
    Ok(enqueued)
}

/// The columns of one e-mail, with what is fixed for good at acceptance.
struct Row {
    id: Uuid,
    message_id: String,
    boundary: String,
    digest: Vec<u8>,
    from: Value,
    to: Value,
    cc: Value,
    bcc: Value,
    reply_to: Value,
    headers: Value,
    filenames: Vec<String>,
    content_types: Vec<String>,
    content_ids: Vec<Option<String>>,
    contents: Vec<Vec<u8>>,
    recipients: Vec<String>,
}

impl Row {
    fn new(email: &Email) -> Self {
        let id = Uuid::now_v7();
        let files = &email.attachments;
        Self {
            id,
            message_id: format!("{id}@{}", email.from.address.domain()),
            boundary: format!("facteur{}", Uuid::new_v4().simple()),
            digest: digest(email),
            from: json(std::slice::from_ref(&email.from))[0].take(),
            to: json(&email.to),
            cc: json(&email.cc),
            bcc: json(&email.bcc),
            reply_to: json(&email.reply_to),
            headers: email
                .headers
                .iter()
                .map(|h| serde_json::json!({"name": h.name, "value": h.value}))
                .collect(),
            filenames: files.iter().map(|f| f.filename.clone()).collect(),
            content_types: files.iter().map(|f| f.content_type.clone()).collect(),
            content_ids: files.iter().map(|f| f.content_id.clone()).collect(),
            contents: files.iter().map(|f| f.content.clone()).collect(),
            recipients: email.envelope_recipients().into_iter().map(|a| a.as_str().to_owned()).collect(),
        }
    }
}

fn json(mailboxes: &[Mailbox]) -> Value {
    let one = |m: &Mailbox| match &m.name {
        Some(name) => serde_json::json!({"name": name, "address": m.address.as_str()}),
        None => serde_json::json!({"address": m.address.as_str()}),
    };
    mailboxes.iter().map(one).collect()
}

/// What two calls with one key must have in common: every field, each with its length before it.
fn digest(email: &Email) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    let head = (
        &email.from,
        &email.to,
        &email.cc,
        &email.bcc,
        &email.reply_to,
        &email.subject,
        &email.text,
        &email.html,
    );
    add(format!("{head:?}").as_bytes());
    let options = (&email.headers, email.scheduled_at, email.expires_at, email.priority, email.on_unknown);
    add(format!("{options:?}").as_bytes());
    for file in &email.attachments {
        add(format!("{:?}", (&file.filename, &file.content_type, &file.content_id)).as_bytes());
        add(&file.content);
    }
    context.finish().as_ref().to_vec()
}

/// The recipients' domains, the only part of an address that a log may show.
fn domains(email: &Email) -> String {
    let mut domains: Vec<&str> = email.envelope_recipients().into_iter().map(|a| a.domain()).collect();
    domains.sort_unstable();
    domains.dedup();
    domains.join(",")
}
