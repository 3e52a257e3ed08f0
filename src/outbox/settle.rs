use std::collections::HashSet;
use std::time::Duration;

use super::delivery::{DeliveryId, LeaseToken};
use super::session::SessionId;
use super::storable::storable;
use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// Characters of what a server said that are kept.
pub(super) const LONGEST_DETAIL: usize = 1_000;

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
    /// It goes back to the queue, for the reason given; if it was withdrawn meanwhile, it ends instead.
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
    /// It was withdrawn or superseded, and nothing was tried under this claim. Written as failed,
    /// reason `unknown`, when an earlier attempt may have sent it.
    Cancelled,
}

impl Action {
    /// The name of the event, and of the log line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finish(Final::Sent, _) => "sent",
            Self::Finish(Final::Failed, _) => "failed",
            Self::Finish(Final::Cancelled, _) => "cancelled",
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
    /// somebody else holds them now, and nothing was written for them but an event. The content of
    /// sensitive e-mails that end with it is wiped.
    ///
    /// # Errors
    /// The database cannot be reached. Whether anything was written or not, the same batch may be
    /// tried again: what was written is found so, and changes no more.
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
            -- Locked first, and in order: what a cancel wrote meanwhile is seen here, and two statements
            -- never wait for each other.
            held AS MATERIALIZED (
              SELECT d.email_id, d.position, d.recipient, d.attempt, d.lease_token, d.cancel_requested,
                     d.may_have_left OR g.kind = 'unknown' OR coalesce(g.reason = 'unknown', false) AS may_have_left,
                     g.kind, g.reason, g.delay, g.transport, g.stage, g.code, g.detail
              FROM facteur.deliveries d
              JOIN given g ON d.email_id = g.email_id AND d.position = g.position AND d.lease_token = g.token
              WHERE d.state = 'sending'
              ORDER BY d.email_id, d.position
              FOR UPDATE OF d
            ),
            -- What was withdrawn does not go back; what may have left is never called cancelled.
            ruled AS (
              SELECT h.*,
                     CASE WHEN NOT withdrawn THEN kind WHEN may_have_left THEN 'failed' ELSE 'cancelled' END AS becomes,
                     CASE WHEN NOT withdrawn THEN reason WHEN may_have_left THEN 'unknown'
                          ELSE coalesce(reason, 'withdrawn') END AS because
              FROM (SELECT *, kind = 'cancelled' OR cancel_requested AND kind IN ('retry', 'unknown', 'released')
                                AS withdrawn
                    FROM held) h
            ),
            gone AS (
              DELETE FROM facteur.deliveries d USING ruled r
              WHERE d.email_id = r.email_id AND d.position = r.position
                AND r.becomes IN ('sent', 'failed', 'cancelled')
              RETURNING r.*
            ),
            back AS (
              UPDATE facteur.deliveries d
              SET state = CASE r.becomes WHEN 'held' THEN 'unknown' ELSE 'queued' END::facteur.delivery_state,
                  -- What comes back at once keeps its place.
                  run_at = CASE WHEN r.delay > 0 THEN now() + make_interval(secs => r.delay) ELSE least(d.run_at, now()) END,
                  attempt = d.attempt - CASE r.becomes WHEN 'released' THEN 1 ELSE 0 END,
                  may_have_left = r.may_have_left,
                  lease_until = NULL, worker_id = NULL
              FROM ruled r
              WHERE d.email_id = r.email_id AND d.position = r.position
                AND r.becomes IN ('retry', 'unknown', 'released', 'held')
              RETURNING d.email_id, d.position, d.attempt, d.lease_token,
                        r.becomes, r.transport, r.stage, r.code, r.detail
            ),
            -- Nothing to write to. Either this was written before and only the answer was lost, or the
            -- lease was.
            missing AS (
              SELECT g.*, (
                SELECT e.kind FROM facteur.events e
                WHERE e.email_id = g.email_id AND e.position = g.position
                  AND e.lease_token = g.token AND e.worker_id = $11::uuid
                LIMIT 1
              ) AS told
              FROM given g
              WHERE NOT EXISTS (SELECT 1 FROM held h WHERE h.email_id = g.email_id AND h.position = g.position)
            ),
            lost AS (SELECT * FROM missing WHERE told IS NULL),
            outcome AS (
              INSERT INTO facteur.outcomes
                (email_id, position, recipient, final, reason, transport, code, reply, attempts,
                 lease_token, may_have_left)
              SELECT email_id, position, recipient, becomes::facteur.final_state, because, transport, code, detail,
                     -- Nothing was tried under the claim that found it withdrawn, nor before an interruption.
                     attempt - CASE WHEN kind IN ('cancelled', 'released') THEN 1 ELSE 0 END,
                     lease_token, may_have_left AND becomes <> 'sent'
              FROM gone
            ),
            event AS (
              INSERT INTO facteur.events
                (email_id, position, kind, attempt, lease_token, worker_id, transport, stage, code, detail)
              SELECT email_id, position, becomes, attempt, lease_token, $11::uuid, transport, stage, code,
                     coalesce(detail, CASE WHEN withdrawn THEN coalesce(reason, 'withdrawn') END)
              FROM gone
              UNION ALL
              SELECT email_id, position, becomes, attempt, lease_token, $11, transport, stage, code, detail FROM back
              UNION ALL
              -- A copy may be under way: the server took this one, and somebody else has the delivery.
              SELECT email_id, position, CASE kind WHEN 'sent' THEN 'sent_after_lease_lost' ELSE 'settled_late' END,
                     NULL, token, $11, transport, stage, code, detail
              FROM lost
            ),
            -- The last delivery of a sensitive e-mail takes its content along. Two of them in two batches
            -- at once each see the other as live: the sweep finds what they leave.
            ended AS (
              SELECT DISTINCT w.email_id, w.retried
              FROM facteur.to_wipe w JOIN gone ON w.email_id = gone.email_id
              WHERE NOT EXISTS (
                SELECT 1 FROM facteur.deliveries d
                WHERE d.email_id = w.email_id AND NOT EXISTS (
                  SELECT 1 FROM gone g WHERE g.email_id = d.email_id AND g.position = d.position))
            ),
            wiped AS (
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
            SELECT email_id AS "email_id!", position AS "position!", withdrawn AS "withdrawn!", because,
                   -- What a server took must not be forgotten, whatever the database's default.
                   CASE current_setting('synchronous_commit') WHEN 'off'
                     THEN set_config('synchronous_commit', 'on', true) END AS durable
            FROM (SELECT email_id, position, withdrawn AND kind <> 'cancelled' AS withdrawn, because FROM gone
                  UNION ALL SELECT email_id, position, false, NULL FROM back
                  UNION ALL SELECT email_id, position, false, NULL FROM missing
                            WHERE told NOT IN ('settled_late', 'sent_after_lease_lost')) written
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
            .map(|row| {
                let id = DeliveryId { email: EmailId::from(row.email_id), position: row.position };
                if row.withdrawn {
                    // The caller logs what it asked for; this is what became of it.
                    tracing::info!(email = %id.email, delivery = id.position, reason = row.because, "withdrawn");
                }
                id
            })
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
            columns.details.push(settlement.detail.as_deref().map(|text| storable(text, LONGEST_DETAIL)));
        }
        columns
    }
}
