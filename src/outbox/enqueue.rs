use ring::digest::{Context, SHA256};
use serde_json::Value;
use sqlx::PgExecutor;
use sqlx::postgres::PgDatabaseError;
use tracing::Instrument;
use uuid::Uuid;

use super::origin::Origin;
use super::{Outbox, OutboxError};
use crate::email::{Email, EmailId, Mailbox, OnUnknown};
use crate::telemetry::{TRACE, traceparent};

/// Where the names of [`EmailBuilder::supersedes`](crate::email::EmailBuilder::supersedes) live; and the keys of
/// whoever is not a caller by HTTP.
pub(super) const SCOPE: &str = "default";

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
        self.enqueue_from(email, &Origin::default()).await
    }

    /// The same, for a caller whose keys are its own.
    ///
    /// # Errors
    /// As [`enqueue`].
    pub async fn enqueue_from(&self, email: &Email, origin: &Origin) -> Result<Enqueued, OutboxError> {
        let enqueued = write(&self.line.for_content(), email, origin).await?;
        if enqueued.created {
            accepted(enqueued.id, email);
        }
        self.wake();
        Ok(enqueued)
    }
}

/// Queues an e-mail: over a pool it is durable when this returns, in a transaction it is durable
/// if and only if the transaction commits.
///
/// One statement, so that a future dropped half-way leaves the whole e-mail or none of it. A repeated
/// idempotency key, or a name that [supersedes](crate::email::EmailBuilder::supersedes), waits for an
/// earlier transaction that has it and has not ended; `lock_timeout` bounds that.
///
/// # Errors
/// The database cannot be reached or refuses, the idempotency key was used in the last 24 hours with
/// another e-mail, or the wait for it was cut. Inside a transaction, an error of the database, the cut
/// wait too, has ended the transaction.
pub async fn enqueue(executor: impl PgExecutor<'_>, email: &Email) -> Result<Enqueued, OutboxError> {
    write(executor, email, &Origin::default()).await
}

/// Counts and logs what is durable.
pub(super) fn accepted(id: EmailId, email: &Email) {
    metrics::counter!(crate::telemetry::families::ACCEPTED).increment(1);
    let deliveries = email.envelope_recipients().len();
    tracing::info!(email = %id, deliveries, domains = domains(email), "accepted");
}

pub(super) async fn write(
    executor: impl PgExecutor<'_>,
    email: &Email,
    origin: &Origin,
) -> Result<Enqueued, OutboxError> {
    let (id, failed) = (tracing::field::Empty, tracing::field::Empty);
    let span = tracing::info_span!(target: TRACE, "enqueue", otel.kind = "producer", otel.status_code = failed, email = id);
    let enqueued = insert(executor, email, origin).instrument(span.clone()).await;
    match &enqueued {
        Ok(enqueued) => span.record("email", tracing::field::display(enqueued.id)),
        Err(_) => span.record("otel.status_code", "ERROR"),
    };
    enqueued
}

async fn insert(
    executor: impl PgExecutor<'_>,
    email: &Email,
    origin: &Origin,
) -> Result<Enqueued, OutboxError> {
    let row = Row::new(email, origin);
    // facteur.send_email writes the same rows for who speaks SQL; tests/sql_door/ holds the two together.
    let written = sqlx::query!(
        r#"
        -- A repeated key comes back with the e-mail it stands for; the update waits for a first writer
        -- that has not committed yet, and makes its row visible here. After 24 hours it is a new one.
        WITH key AS (
          INSERT INTO facteur.idempotency AS i (scope, key, request_sha256, email_id)
          SELECT $1, $2, $3, $4 WHERE $2::text IS NOT NULL
          ON CONFLICT (scope, key) DO UPDATE SET (request_sha256, email_id, created_at) = (
            SELECT excluded.request_sha256, excluded.email_id, excluded.created_at
            WHERE i.created_at <= now() - interval '24 hours'
            UNION ALL
            SELECT i.request_sha256, i.email_id, i.created_at
            WHERE i.created_at > now() - interval '24 hours'
          )
          RETURNING i.email_id, i.request_sha256 = $3 AS same, i.email_id = $4 AS created
        ),
        accepted AS (
          SELECT $4::uuid AS id WHERE NOT EXISTS (SELECT 1 FROM key WHERE NOT created)
        ),
        email AS (
          INSERT INTO facteur.emails
            (id, message_id, date, boundary, sender, recipients, cc, bcc, reply_to,
             subject, text_body, html_body, headers, scheduled_at,
             priority, hold_unknown, supersedes, sensitive, tags, sent_by, traceparent)
          SELECT id, $5, date_trunc('second', now()), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                 $22, $23, $25, $26, $28, $29, $30
          FROM accepted
        ),
        secret AS (
          INSERT INTO facteur.to_wipe (email_id) SELECT id FROM accepted WHERE $26::boolean
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
            (email_id, position, recipient, priority, hold_unknown, run_at, expires_at, supersedes)
          SELECT a.id, r.position - 1, r.recipient, $22, $23, due.at,
                 coalesce($24::timestamptz, due.at + interval '24 hours'), $25
          FROM accepted a,
               (SELECT greatest(now(), $16::timestamptz) AS at) due,
               unnest($21::text[]) WITH ORDINALITY AS r (recipient, position)
        ),
        -- The row's lock puts the writers of one name in order. What the snapshot does not show of an
        -- older e-mail, because its writer was waited for here, is left to the claim.
        name AS (
          INSERT INTO facteur.newest AS n (scope, name, email_id)
          SELECT $27, $25, id FROM accepted WHERE $25::text IS NOT NULL
          ON CONFLICT (scope, name) DO UPDATE
          SET email_id = excluded.email_id, previous = n.email_id, at = excluded.at
          RETURNING n.previous
        ),
        older AS MATERIALIZED (
          SELECT d.email_id, d.position
          FROM facteur.deliveries d JOIN name ON d.email_id = name.previous
          WHERE d.state = 'queued'
          ORDER BY d.email_id, d.position
          FOR UPDATE OF d
        ),
        superseded AS (
          DELETE FROM facteur.deliveries d USING older o
          WHERE d.email_id = o.email_id AND d.position = o.position
          RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token, d.may_have_left,
                    CASE WHEN d.may_have_left THEN 'failed' ELSE 'cancelled' END AS final
        ),
        outcome AS (
          INSERT INTO facteur.outcomes
            (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
          SELECT email_id, position, recipient, final::facteur.final_state,
                 CASE final WHEN 'failed' THEN 'unknown' ELSE 'superseded' END,
                 attempt, lease_token, may_have_left
          FROM superseded
        ),
        event AS (
          INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, detail)
          SELECT id, NULL, 'accepted', NULL, NULL, NULL FROM accepted
          UNION ALL
          SELECT email_id, position, final, attempt, lease_token, 'superseded' FROM superseded
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
        origin.scope(),
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
        email.supersedes,
        email.sensitive,
        SCOPE,
        row.tags,
        origin.caller.as_deref(),
        traceparent(),
    )
    .fetch_one(executor)
    .await
    .map_err(refused)?;
    if !written.same {
        return Err(OutboxError::KeyReused);
    }
    let enqueued = Enqueued { id: written.id.into(), created: written.created };
    // No more than this: in a transaction it is not accepted yet, and perhaps never will be.
    tracing::debug!(email = %enqueued.id, created = enqueued.created, "handed to the database");
    Ok(enqueued)
}

/// A wait for the key's row that the server cut short is not the database's fault, but the key's.
fn refused(error: sqlx::Error) -> OutboxError {
    let postgres = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    // 55P03: lock_timeout. 57014: statement_timeout or a cancel, which may also strike while it works.
    // What it waited for is in the context, in whatever language: … relation "idempotency".
    let cut = postgres.is_some_and(|e| {
        matches!(e.code(), "55P03" | "57014") && e.r#where().is_some_and(|at| at.contains("idempotency"))
    });
    if cut { OutboxError::KeyInFlight } else { OutboxError::Database(error) }
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
    tags: Value,
    filenames: Vec<String>,
    content_types: Vec<String>,
    content_ids: Vec<Option<String>>,
    contents: Vec<Vec<u8>>,
    recipients: Vec<String>,
}

impl Row {
    fn new(email: &Email, origin: &Origin) -> Self {
        let id = Uuid::now_v7();
        let files = &email.attachments;
        Self {
            id,
            message_id: format!("{id}@{}", email.from.address.domain()),
            boundary: format!("facteur{}", Uuid::new_v4().simple()),
            digest: origin.request.map_or_else(|| digest(email), Vec::from),
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
            tags: email.tags.iter().map(|t| serde_json::json!({"name": t.name, "value": t.value})).collect(),
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
    // Only what is set, so that what was enqueued before these fields were there keeps its digest.
    if let Some(name) = &email.supersedes {
        add(format!("supersedes {name}").as_bytes());
    }
    if email.sensitive {
        add(b"sensitive");
    }
    if !email.tags.is_empty() {
        add(format!("tags {:?}", email.tags).as_bytes());
    }
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
