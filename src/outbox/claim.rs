use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::delivery::{DeliveryId, LeaseToken};
use super::session::SessionId;
use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// A delivery that is this worker's alone until its lease ends.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Which delivery.
    pub id: DeliveryId,
    /// What settling it needs.
    pub token: LeaseToken,
    /// The envelope recipient.
    pub recipient: String,
    /// This attempt, from 1.
    pub attempt: i16,
    /// The last one there may be.
    pub max_attempts: i16,
    /// Set when it may not be sent any more: settle it as failed.
    pub expired: bool,
    /// From now until it may not be sent any more; zero when [`expired`](Self::expired).
    pub time_left: Duration,
    /// Whether an unknown outcome is parked for a person.
    pub hold_unknown: bool,
    /// When this process asked, on its own monotonic clock: before the lease began.
    pub claimed_at: Instant,
}

/// Most urgent first; every tenth time the other way round, so that the lowest is never starved.
const PRIORITIES: [i16; 4] = [0, 1, 2, 3];
const REVERSED: [i16; 4] = [3, 2, 1, 0];

impl Outbox {
    /// Leases up to `limit` due deliveries to `worker` for `lease`.
    ///
    /// `turn` counts the caller's claims: each tenth begins with the lowest priority.
    ///
    /// # Errors
    /// The database cannot be reached; nothing is leased then, or what is comes back by the reaper.
    pub async fn claim(
        &self,
        worker: SessionId,
        limit: i64,
        lease: Duration,
        turn: u64,
    ) -> Result<Vec<ClaimedDelivery>, OutboxError> {
        let claimed_at = Instant::now();
        let priorities = if turn % 10 == 9 { REVERSED } else { PRIORITIES };
        let rows = sqlx::query!(
            r#"
            -- Per priority, so that each index scan ends at the first row that is not due.
            -- MATERIALIZED: the planner may otherwise run the locking subquery more than once.
            WITH due AS MATERIALIZED (
              SELECT q.email_id, q.position
              FROM unnest($1::smallint[]) AS p (priority)
              CROSS JOIN LATERAL (
                SELECT d.email_id, d.position
                FROM facteur.deliveries d
                WHERE d.state = 'queued' AND d.priority = p.priority AND d.run_at <= now()
                ORDER BY d.run_at, d.email_id, d.position
                LIMIT $2
                FOR UPDATE SKIP LOCKED
              ) q
              LIMIT $2
            )
            UPDATE facteur.deliveries d
            SET state = 'sending', attempt = d.attempt + 1, lease_token = d.lease_token + 1,
                lease_until = now() + make_interval(secs => $3), worker_id = $4, data_started = false
            FROM due
            WHERE d.email_id = due.email_id AND d.position = due.position
            RETURNING d.email_id, d.position, d.lease_token, d.recipient, d.attempt, d.max_attempts,
                      d.hold_unknown, d.expires_at, now() AS "now!"
            "#,
            &priorities,
            limit,
            lease.as_secs_f64(),
            worker.as_uuid(),
        )
        .fetch_all(&self.line)
        .await?;
        let claimed = rows.into_iter().map(|row| ClaimedDelivery {
            id: DeliveryId { email: EmailId::from(row.email_id), position: row.position },
            token: LeaseToken::new(row.lease_token),
            recipient: row.recipient,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            expired: row.expires_at <= row.now,
            time_left: left(row.expires_at, row.now),
            hold_unknown: row.hold_unknown,
            claimed_at,
        });
        Ok(claimed.collect())
    }

    /// Notes that a held delivery's content is about to leave: from here on a lost lease parks it.
    ///
    /// False when the lease is not this worker's any more: nothing may be sent.
    ///
    /// # Errors
    /// The database cannot be reached; nothing may be sent.
    pub async fn mark_data_started(&self, delivery: &ClaimedDelivery) -> Result<bool, OutboxError> {
        let marked = sqlx::query!(
            "UPDATE facteur.deliveries SET data_started = true
             WHERE email_id = $1 AND position = $2 AND lease_token = $3 AND state = 'sending'",
            delivery.id.email.as_uuid(),
            delivery.id.position,
            delivery.token.get(),
        )
        .execute(&self.line)
        .await?;
        Ok(marked.rows_affected() == 1)
    }
}

fn left(until: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(until - now).unwrap_or_default()
}

#[cfg(test)]
impl ClaimedDelivery {
    /// A first attempt of twenty, with a day to go.
    pub(crate) fn for_tests(id: DeliveryId, claimed_at: Instant) -> Self {
        Self {
            id,
            token: LeaseToken::new(1),
            recipient: "a@x.test".into(),
            attempt: 1,
            max_attempts: 20,
            expired: false,
            time_left: Duration::from_secs(86_400),
            hold_unknown: false,
            claimed_at,
        }
    }
}
