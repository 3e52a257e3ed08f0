//! Parked mail by the many: after a restore, and as a person decides on it.

use time::OffsetDateTime;
use uuid::Uuid;

use super::by_hand::named;
use super::{DeliveryId, Outbox, OutboxError};
use crate::email::EmailId;

/// What one step of parking did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// Deliveries that were parked.
    pub parked: u64,
    /// Whether nothing is left to park.
    pub is_all: bool,
}

/// Which of the parked deliveries.
#[derive(Debug, Clone, Default)]
pub struct HeldChoice {
    /// Of these e-mails only.
    pub emails: Option<Vec<EmailId>>,
    /// Of e-mails accepted before this moment only.
    pub before: Option<OffsetDateTime>,
    /// Also those whose time has run out since: they get 24 hours more when they are released.
    pub expired: bool,
}

/// A parked delivery, for a person to decide on.
#[derive(Debug, Clone)]
pub struct HeldView {
    /// Which delivery.
    pub id: DeliveryId,
    /// Whom it is for.
    pub recipient: String,
    /// When its e-mail was accepted.
    pub accepted_at: OffsetDateTime,
    /// When its time runs out.
    pub expires_at: OffsetDateTime,
    /// Whether it has.
    pub expired: bool,
    /// What was last written of it: why it is parked.
    pub why: String,
}

/// Where a step over many ended; the next goes on there. The default is the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeldPlace {
    email: Uuid,
    position: i16,
}

impl HeldChoice {
    fn ids(&self) -> Option<Vec<Uuid>> {
        self.emails.as_ref().map(|emails| emails.iter().map(|id| id.as_uuid()).collect())
    }
}

impl Outbox {
    /// The database's clock.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn now(&self) -> Result<OffsetDateTime, OutboxError> {
        Ok(sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&self.line).await?)
    }

    /// Parks up to `limit` deliveries that wait in the queue since before `since`: after a restore from a
    /// backup, when they may have been sent already. What was withdrawn stays, and is never sent.
    ///
    /// Several processes may do it at once, beside others that claim; call it until nothing is left. What dead
    /// workers lease is parked as it is [taken back](Self::reap_holding).
    ///
    /// # Errors
    /// The database cannot be reached; nothing of this step was parked.
    pub async fn hold_queue(&self, since: OffsetDateTime, limit: i64) -> Result<Parked, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH waiting AS MATERIALIZED (
              SELECT d.email_id, d.position
              FROM facteur.deliveries d JOIN facteur.emails e ON e.id = d.email_id
              WHERE d.state = 'queued' AND NOT d.cancel_requested AND e.created_at < $1
              ORDER BY d.priority, d.run_at, d.email_id, d.position
              LIMIT $2
              FOR UPDATE OF d SKIP LOCKED
            ),
            held AS (
              UPDATE facteur.deliveries d
              -- What the caller chose is in `emails`, and comes back with the release.
              SET state = 'unknown', hold_unknown = true, may_have_left = true
              FROM waiting w
              WHERE d.email_id = w.email_id AND d.position = w.position
              RETURNING d.email_id, d.position, d.attempt, d.lease_token
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, detail)
              SELECT email_id, position, 'held', attempt, lease_token,
                     'was in the queue at a start with MAIL_HOLD_ON_START: it may have been sent before the restore'
              FROM held
            )
            SELECT (SELECT count(*) FROM held) AS "parked!",
                   -- As it was before this statement: also what somebody else has locked just now.
                   EXISTS (
                     SELECT 1 FROM facteur.deliveries d JOIN facteur.emails e ON e.id = d.email_id
                     WHERE d.state = 'queued' AND NOT d.cancel_requested AND e.created_at < $1
                   ) AS "left!"
            "#,
            since,
            limit,
        )
        .fetch_one(&self.line)
        .await?;
        Ok(Parked { parked: row.parked.unsigned_abs(), is_all: !row.left })
    }

    /// How many parked deliveries are meant, and how many more would be with those that have expired.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn count_held(&self, choice: &HeldChoice) -> Result<(u64, u64), OutboxError> {
        let row = sqlx::query!(
            r#"
            SELECT count(*) FILTER (WHERE $3 OR d.expires_at > now()) AS "meant!",
                   count(*) FILTER (WHERE NOT $3 AND d.expires_at <= now()) AS "expired!"
            FROM facteur.deliveries d JOIN facteur.emails e ON e.id = d.email_id
            WHERE d.state = 'unknown'
              AND ($1::uuid[] IS NULL OR d.email_id = ANY($1))
              AND ($2::timestamptz IS NULL OR e.created_at < $2)
            "#,
            choice.ids() as Option<Vec<Uuid>>,
            choice.before,
            choice.expired,
        )
        .fetch_one(&self.line)
        .await?;
        Ok((row.meant.unsigned_abs(), row.expired.unsigned_abs()))
    }

    /// Up to `limit` parked deliveries, the oldest e-mails first.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn list_held(&self, limit: i64) -> Result<Vec<HeldView>, OutboxError> {
        let rows = sqlx::query!(
            r#"
            SELECT d.email_id, d.position, d.recipient, d.expires_at, d.expires_at <= now() AS "expired!",
                   e.created_at, coalesce(last.detail, last.kind, '') AS "why!"
            FROM facteur.deliveries d
            JOIN facteur.emails e ON e.id = d.email_id
            LEFT JOIN LATERAL (
              SELECT v.kind, v.detail FROM facteur.events v
              WHERE v.email_id = d.email_id AND v.position = d.position
              ORDER BY v.at DESC LIMIT 1
            ) last ON true
            WHERE d.state = 'unknown'
            ORDER BY d.email_id, d.position
            LIMIT $1
            "#,
            limit,
        )
        .fetch_all(&self.line)
        .await?;
        let views = rows.into_iter().map(|row| HeldView {
            id: DeliveryId { email: EmailId::from(row.email_id), position: row.position },
            recipient: row.recipient,
            accepted_at: row.created_at,
            expires_at: row.expires_at,
            expired: row.expired,
            why: row.why,
        });
        Ok(views.collect())
    }

    /// Puts up to `limit` parked deliveries back in the queue, each at its own time and until its own end, with the
    /// usual attempts before it. `place` moves on; done when it returns 0. `actor` is kept with each event.
    ///
    /// # Errors
    /// The actor is not one, or the database cannot be reached; nothing of this step was released.
    pub async fn release_held(
        &self,
        choice: &HeldChoice,
        place: &mut HeldPlace,
        limit: i64,
        actor: &str,
    ) -> Result<u64, OutboxError> {
        let rows = sqlx::query!(
            r#"
            WITH held AS MATERIALIZED (
              SELECT d.email_id, d.position, e.hold_unknown
              FROM facteur.deliveries d JOIN facteur.emails e ON e.id = d.email_id
              WHERE d.state = 'unknown' AND (d.email_id, d.position) > ($4, $5)
                AND ($1::uuid[] IS NULL OR d.email_id = ANY($1))
                AND ($2::timestamptz IS NULL OR e.created_at < $2)
                AND ($3 OR d.expires_at > now())
              ORDER BY d.email_id, d.position
              LIMIT $6
              FOR UPDATE OF d
            ),
            back AS (
              UPDATE facteur.deliveries d
              SET state = 'queued', attempt = 0, run_at = greatest(d.run_at, now()), cancel_requested = false,
                  hold_unknown = coalesce(h.hold_unknown, d.hold_unknown), may_have_left = true,
                  expires_at = CASE WHEN d.expires_at > now() THEN d.expires_at ELSE now() + interval '24 hours' END
              FROM held h
              WHERE d.email_id = h.email_id AND d.position = h.position
              RETURNING d.email_id, d.position, d.lease_token
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, actor)
              SELECT email_id, position, 'retried', 0, lease_token, $7 FROM back
            )
            SELECT email_id, position FROM back ORDER BY email_id, position
            "#,
            choice.ids() as Option<Vec<Uuid>>,
            choice.before,
            choice.expired,
            place.email,
            place.position,
            limit,
            named(actor)?,
        )
        .fetch_all(&self.line)
        .await?;
        if let Some(last) = rows.last() {
            *place = HeldPlace { email: last.email_id, position: last.position };
            self.wake();
        }
        Ok(rows.len() as u64)
    }

    /// Ends up to `limit` parked deliveries as failed, reason `unknown`. `place` moves on; done when it returns 0.
    ///
    /// # Errors
    /// The actor is not one, or the database cannot be reached; nothing of this step ended.
    pub async fn give_up_held(
        &self,
        choice: &HeldChoice,
        place: &mut HeldPlace,
        limit: i64,
        actor: &str,
    ) -> Result<u64, OutboxError> {
        let rows = sqlx::query!(
            r#"
            WITH held AS MATERIALIZED (
              SELECT d.email_id, d.position
              FROM facteur.deliveries d JOIN facteur.emails e ON e.id = d.email_id
              WHERE d.state = 'unknown' AND (d.email_id, d.position) > ($4, $5)
                AND ($1::uuid[] IS NULL OR d.email_id = ANY($1))
                AND ($2::timestamptz IS NULL OR e.created_at < $2)
                AND ($3 OR d.expires_at > now())
              ORDER BY d.email_id, d.position
              LIMIT $6
              FOR UPDATE OF d
            ),
            gone AS (
              DELETE FROM facteur.deliveries d USING held h
              WHERE d.email_id = h.email_id AND d.position = h.position
              RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token
            ),
            outcome AS (
              INSERT INTO facteur.outcomes
                (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
              SELECT email_id, position, recipient, 'failed', 'unknown', attempt, lease_token, true FROM gone
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, actor, detail)
              SELECT email_id, position, 'failed', attempt, lease_token, $7, 'given up' FROM gone
            )
            SELECT email_id, position FROM gone ORDER BY email_id, position
            "#,
            choice.ids() as Option<Vec<Uuid>>,
            choice.before,
            choice.expired,
            place.email,
            place.position,
            limit,
            named(actor)?,
        )
        .fetch_all(&self.line)
        .await?;
        if let Some(last) = rows.last() {
            *place = HeldPlace { email: last.email_id, position: last.position };
        }
        Ok(rows.len() as u64)
    }
}
