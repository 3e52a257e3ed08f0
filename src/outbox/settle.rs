use std::collections::HashSet;
use std::time::Duration;

use super::delivery::{DeliveryId, LeaseToken};
use super::session::SessionId;
use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// What became of one claimed delivery, ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Which delivery.
    pub id: DeliveryId,
    /// The claim it was sent under.
    pub token: LeaseToken,
    /// What to write.
    pub action: Action,
    /// Which way out it took, if it got that far.
    pub transport: Option<String>,
    /// Where on that way it ended: `rcpt`, `end-of-data`, …
    pub stage: Option<&'static str>,
    /// The server's reply code.
    pub code: Option<u16>,
    /// The server's words, or what broke; at most 1,000 characters are kept.
    pub detail: Option<String>,
}

/// The three ways on from `sending`.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It ended, for the reason given (`accepted`, `rejected`, `expired`, …).
    Finish(Final, &'static str),
    /// It goes back to the queue, for the reason given.
    Requeue {
        /// From now, on the database's clock.
        after: Duration,
        /// Why; an interruption gives its attempt back.
        why: Why,
    },
    /// It waits for a person: nobody can know whether it was sent, and the caller asked for `hold`.
    Hold,
}

/// Why a delivery goes back to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A server did not take it; the attempt counts.
    Refused,
    /// Nobody can know whether a server took it: the next attempt may make a second copy. The attempt counts.
    Unknown,
    /// Nothing was tried, or nothing that is about this mail: the attempt is given back.
    Interrupted,
}

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Final {
    /// A server took it.
    Sent,
    /// It never will be.
    Failed,
}

impl Action {
    /// The name of the event, and of the log line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finish(Final::Sent, _) => "sent",
            Self::Finish(Final::Failed, _) => "failed",
            Self::Requeue { why: Why::Refused, .. } => "retry",
            Self::Requeue { why: Why::Unknown, .. } => "unknown",
            Self::Requeue { why: Why::Interrupted, .. } => "released",
            Self::Hold => "held",
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Finish(_, reason) => Some(reason),
            Self::Requeue { .. } | Self::Hold => None,
        }
    }
}

impl Outbox {
    /// Writes what became of a batch, in one statement, and returns those whose lease was lost:
    /// somebody else holds them now, and nothing was written for them but an event.
    ///
    /// # Errors
    /// The database cannot be reached; nothing was written, and the same batch may be tried again:
    /// a second write of what was written meets an old token and changes nothing.
    pub async fn settle(
        &self,
        worker: SessionId,
        batch: &[Settlement],
    ) -> Result<Vec<DeliveryId>, OutboxError> {
        let columns = Columns::of(batch);
        let written = sqlx::query!(
            r#"
            WITH given AS (
              SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::text[],
                                   $6::float8[], $7::text[], $8::text[], $9::smallint[], $10::text[])
                AS g (email_id, position, token, kind, reason, delay, transport, stage, code, detail)
            ),
            gone AS (
              DELETE FROM facteur.deliveries d USING given g
              WHERE d.email_id = g.email_id AND d.position = g.position AND d.lease_token = g.token
                AND d.state = 'sending' AND g.kind IN ('sent', 'failed')
              RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token,
                        g.kind, g.reason, g.transport, g.stage, g.code, g.detail
            ),
            back AS (
              UPDATE facteur.deliveries d
              SET state = CASE g.kind WHEN 'held' THEN 'unknown' ELSE 'queued' END::facteur.delivery_state,
                  run_at = now() + make_interval(secs => g.delay),
                  attempt = d.attempt - CASE g.kind WHEN 'released' THEN 1 ELSE 0 END,
                  lease_until = NULL, worker_id = NULL
              FROM given g
              WHERE d.email_id = g.email_id AND d.position = g.position AND d.lease_token = g.token
                AND d.state = 'sending' AND g.kind IN ('retry', 'unknown', 'released', 'held')
              RETURNING d.email_id, d.position, d.attempt, d.lease_token,
                        g.kind, g.transport, g.stage, g.code, g.detail
            ),
            lost AS (
              SELECT g.* FROM given g
              WHERE NOT EXISTS (SELECT 1 FROM gone d WHERE d.email_id = g.email_id AND d.position = g.position)
                AND NOT EXISTS (SELECT 1 FROM back d WHERE d.email_id = g.email_id AND d.position = g.position)
            ),
            outcome AS (
              INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, transport, code, reply, attempts)
              SELECT email_id, position, recipient, kind::facteur.final_state, reason, transport, code, detail, attempt
              FROM gone
            ),
            event AS (
              INSERT INTO facteur.events
                (email_id, position, kind, attempt, lease_token, worker_id, transport, stage, code, detail)
              SELECT email_id, position, kind, attempt, lease_token, $11::uuid, transport, stage, code, detail FROM gone
              UNION ALL
              SELECT email_id, position, kind, attempt, lease_token, $11, transport, stage, code, detail FROM back
              UNION ALL
              -- A copy may be under way: the server took this one, and somebody else has the delivery.
              SELECT email_id, position, CASE kind WHEN 'sent' THEN 'sent_after_lease_lost' ELSE 'settled_late' END,
                     NULL, token, $11, transport, stage, code, detail
              FROM lost
            )
            SELECT email_id AS "email_id!", position AS "position!",
                   -- What a server took must not be forgotten, whatever the database's default.
                   CASE current_setting('synchronous_commit') WHEN 'off'
                     THEN set_config('synchronous_commit', 'on', true) END AS durable
            FROM (SELECT email_id, position FROM gone UNION ALL SELECT email_id, position FROM back) written
            "#,
            &columns.email_ids,
            &columns.positions,
            &columns.tokens,
            &columns.kinds,
            &columns.reasons as &[Option<&str>],
            &columns.delays,
            &columns.transports as &[Option<&str>],
            &columns.stages as &[Option<&str>],
            &columns.codes as &[Option<i16>],
            &columns.details as &[Option<String>],
            worker.as_uuid(),
        )
        .fetch_all(&self.line)
        .await?;
        let written: HashSet<DeliveryId> = written
            .into_iter()
            .map(|row| DeliveryId { email: EmailId::from(row.email_id), position: row.position })
            .collect();
        Ok(batch.iter().map(|s| s.id).filter(|id| !written.contains(id)).collect())
    }
}

/// A batch as Postgres takes it: one array a column.
#[derive(Default)]
struct Columns<'a> {
    email_ids: Vec<uuid::Uuid>,
    positions: Vec<i16>,
    tokens: Vec<i64>,
    kinds: Vec<String>,
    reasons: Vec<Option<&'a str>>,
    delays: Vec<f64>,
    transports: Vec<Option<&'a str>>,
    stages: Vec<Option<&'a str>>,
    codes: Vec<Option<i16>>,
    details: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a [Settlement]) -> Self {
        let mut columns = Self::default();
        for settlement in batch {
            columns.email_ids.push(settlement.id.email.as_uuid());
            columns.positions.push(settlement.id.position);
            columns.tokens.push(settlement.token.get());
            columns.kinds.push(settlement.action.kind().to_owned());
            columns.reasons.push(settlement.action.reason());
            columns.delays.push(match settlement.action {
                Action::Requeue { after, .. } => after.as_secs_f64(),
                Action::Finish(..) | Action::Hold => 0.0,
            });
            columns.transports.push(settlement.transport.as_deref());
            columns.stages.push(settlement.stage);
            columns.codes.push(settlement.code.and_then(|code| i16::try_from(code).ok()));
            columns.details.push(settlement.detail.as_deref().map(storable));
        }
        columns
    }
}

/// At most 1,000 characters, and no NUL, which Postgres cannot keep.
fn storable(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(1_000).collect()
}
