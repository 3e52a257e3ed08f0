//! What a person decides, with who it was.

use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// Characters of an actor's name.
const MAX_ACTOR: usize = 128;

impl Outbox {
    /// Puts what failed, was cancelled or is parked of an e-mail back in the queue: the same bytes under
    /// the same `Message-ID`, due now, with 24 hours and the usual attempts before it, counted from 0.
    /// The fencing token grows on, so that a worker that still holds an old lease writes nothing.
    ///
    /// How many deliveries went back; none when no e-mail has that id. What a newer e-mail has
    /// superseded is cancelled again by the next claim. `actor` is kept with the event: 1 to 128 characters.
    ///
    /// # Errors
    /// The e-mail's content was wiped, the actor is not one, or the database cannot be reached;
    /// nothing was changed.
    pub async fn retry(&self, id: EmailId, actor: &str) -> Result<Option<u64>, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH email AS (
              SELECT id, sensitive, priority, hold_unknown, supersedes FROM facteur.emails WHERE id = $1
            ),
            -- Who wipes has seen the older number, and does nothing; if it was first, this finds no row.
            kept AS (
              UPDATE facteur.to_wipe SET retried = retried + 1 WHERE email_id = $1 RETURNING email_id
            ),
            whole AS MATERIALIZED (
              SELECT email.* FROM email WHERE NOT sensitive OR EXISTS (SELECT 1 FROM kept)
            ),
            ended AS (
              DELETE FROM facteur.outcomes o USING whole w
              WHERE o.email_id = w.id AND o.email_id = $1 AND o.final IN ('failed', 'cancelled')
              RETURNING o.email_id, o.position, o.recipient, o.may_have_left,
                        -- Above any that was ever given to what ended before its token was kept.
                        coalesce(o.lease_token, 4294967296) AS lease_token
            ),
            again AS (
              INSERT INTO facteur.deliveries
                (email_id, position, recipient, priority, hold_unknown, expires_at, lease_token,
                 may_have_left, supersedes)
              SELECT e.email_id, e.position, e.recipient, coalesce(w.priority, 2), coalesce(w.hold_unknown, false),
                     now() + interval '24 hours', e.lease_token, e.may_have_left, w.supersedes
              FROM ended e, whole w
              RETURNING email_id, position, lease_token
            ),
            unknown AS MATERIALIZED (
              SELECT d.email_id, d.position, w.hold_unknown
              FROM facteur.deliveries d JOIN whole w ON d.email_id = w.id
              WHERE d.email_id = $1 AND d.state = 'unknown'
              ORDER BY d.position
              FOR UPDATE OF d
            ),
            parked AS (
              UPDATE facteur.deliveries d
              SET state = 'queued', attempt = 0, run_at = now(), expires_at = now() + interval '24 hours',
                  cancel_requested = false, may_have_left = true,
                  -- Parked after a restore it is held whatever its caller chose; that choice is back.
                  hold_unknown = coalesce(u.hold_unknown, d.hold_unknown)
              FROM unknown u
              WHERE d.email_id = u.email_id AND d.position = u.position
              RETURNING d.email_id, d.position, d.lease_token
            ),
            back AS (SELECT * FROM again UNION ALL SELECT * FROM parked),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, actor)
              SELECT email_id, position, 'retried', 0, lease_token, $2 FROM back
            )
            SELECT (SELECT count(*) FROM back) AS "back!",
                   EXISTS (SELECT 1 FROM email) AS "known!",
                   EXISTS (SELECT 1 FROM whole) AS "whole!",
                   CASE current_setting('synchronous_commit') WHEN 'off'
                     THEN set_config('synchronous_commit', 'on', true) END AS durable
            "#,
            id.as_uuid(),
            named(actor)?
        )
        .fetch_one(&self.line)
        .await?;
        if row.known && !row.whole {
            return Err(OutboxError::Wiped);
        }
        if row.back > 0 {
            tracing::info!(email = %id, deliveries = row.back, "tried again by hand");
            self.wake();
        }
        Ok(row.known.then_some(row.back.unsigned_abs()))
    }

    /// Ends what is parked of an e-mail as failed, reason `unknown`: nobody will know whether it was sent.
    ///
    /// How many deliveries ended; none when no e-mail has that id. `actor` is kept with the event:
    /// 1 to 128 characters.
    ///
    /// # Errors
    /// The actor is not one, or the database cannot be reached; nothing was changed.
    pub async fn give_up(&self, id: EmailId, actor: &str) -> Result<Option<u64>, OutboxError> {
        let row = sqlx::query!(
            r#"
            WITH parked AS MATERIALIZED (
              SELECT email_id, position FROM facteur.deliveries
              WHERE email_id = $1 AND state = 'unknown'
              ORDER BY position
              FOR UPDATE
            ),
            gone AS (
              DELETE FROM facteur.deliveries d USING parked p
              WHERE d.email_id = p.email_id AND d.position = p.position
              RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token
            ),
            outcome AS (
              INSERT INTO facteur.outcomes
                (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
              SELECT email_id, position, recipient, 'failed', 'unknown', attempt, lease_token, true FROM gone
            ),
            event AS (
              INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, actor, detail)
              SELECT email_id, position, 'failed', attempt, lease_token, $2, 'given up' FROM gone
            )
            SELECT (SELECT count(*) FROM gone) AS "gone!",
                   EXISTS (SELECT 1 FROM facteur.emails WHERE id = $1) AS "known!",
                   CASE current_setting('synchronous_commit') WHEN 'off'
                     THEN set_config('synchronous_commit', 'on', true) END AS durable
            "#,
            id.as_uuid(),
            named(actor)?
        )
        .fetch_one(&self.line)
        .await?;
        if row.gone > 0 {
            tracing::info!(email = %id, deliveries = row.gone, "given up by hand");
        }
        Ok(row.known.then_some(row.gone.unsigned_abs()))
    }
}

pub(super) fn named(actor: &str) -> Result<&str, OutboxError> {
    let good = (1..=MAX_ACTOR).contains(&actor.chars().count()) && !actor.contains(char::is_control);
    if good { Ok(actor) } else { Err(OutboxError::Actor) }
}
