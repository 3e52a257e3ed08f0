use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use super::cursor::Cursor;
use super::delivery::{DeliveryId, LeaseToken};
use super::enqueue::SCOPE;
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
    /// Set when a newer e-mail took its place: settle it as cancelled.
    pub superseded: bool,
    /// Set when it was withdrawn and came back all the same (by a process of an older version):
    /// settle it as cancelled.
    pub withdrawn: bool,
    /// From now until it may not be sent any more; zero when [`expired`](Self::expired).
    pub time_left: Duration,
    /// Whether an unknown outcome is parked for a person.
    pub hold_unknown: bool,
    /// 0 is the most urgent, 3 the least.
    pub priority: u8,
    /// When it became due, on the database's clock.
    pub run_at: OffsetDateTime,
    /// When this process asked, on its own monotonic clock: before the lease began.
    pub claimed_at: Instant,
}

/// Where a claim looks: one entry a priority, in the order in which they are served.
#[derive(Default)]
struct Start {
    priorities: Vec<i16>,
    run_at: Vec<Option<OffsetDateTime>>,
    email_ids: Vec<Uuid>,
    positions: Vec<i16>,
}

impl Start {
    /// Most urgent first; every tenth time the other way round, so that the lowest is never starved.
    fn of(cursor: [Option<(OffsetDateTime, Uuid, i16)>; 4], turn: u64) -> Self {
        let order: [u8; 4] = if turn % 10 == 9 { [3, 2, 1, 0] } else { [0, 1, 2, 3] };
        let mut start = Self::default();
        for priority in order {
            let last = cursor[usize::from(priority)];
            start.priorities.push(i16::from(priority));
            start.run_at.push(last.map(|(run_at, ..)| run_at));
            start.email_ids.push(last.map_or(Uuid::nil(), |(_, email, _)| email));
            start.positions.push(last.map_or(0, |(.., position)| position));
        }
        start
    }
}

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
        self.claim_on(&mut Cursor::default(), worker, limit, lease, turn).await
    }

    /// As [`claim`](Self::claim), going on where the cursor's last claim ended.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_on(
        &self,
        cursor: &mut Cursor,
        worker: SessionId,
        limit: i64,
        lease: Duration,
        turn: u64,
    ) -> Result<Vec<ClaimedDelivery>, OutboxError> {
        let claimed_at = Instant::now();
        let start = Start::of(cursor.start(claimed_at), turn);
        let rows = sqlx::query!(
            r#"
            -- Per priority, so that each index scan ends at the first row that is not due.
            -- MATERIALIZED: the planner may otherwise run the locking subquery more than once.
            WITH due AS MATERIALIZED (
              SELECT q.email_id, q.position
              FROM unnest($1::smallint[], $6::timestamptz[], $7::uuid[], $8::smallint[])
                     AS p (priority, run_at, email_id, position)
              CROSS JOIN LATERAL (
                SELECT d.email_id, d.position
                FROM facteur.deliveries d
                WHERE d.state = 'queued' AND d.priority = p.priority AND d.run_at <= now()
                  AND (d.run_at, d.email_id, d.position)
                      > (coalesce(p.run_at, '-infinity'), p.email_id, p.position)
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
            RETURNING d.email_id, d.position, d.priority, d.run_at, d.lease_token, d.recipient, d.attempt, d.max_attempts,
                      d.hold_unknown, d.expires_at, d.cancel_requested, now() AS "now!",
                      d.supersedes IS NOT NULL AND EXISTS (
                        SELECT 1 FROM facteur.newest n
                        WHERE n.scope = $5 AND n.name = d.supersedes AND n.email_id <> d.email_id
                      ) AS "superseded!"
            "#,
            &start.priorities[..],
            limit,
            lease.as_secs_f64(),
            worker.as_uuid(),
            SCOPE,
            &start.run_at as &[Option<OffsetDateTime>],
            &start.email_ids,
            &start.positions,
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
            superseded: row.superseded,
            withdrawn: row.cancel_requested,
            time_left: left(row.expires_at, row.now),
            hold_unknown: row.hold_unknown,
            priority: u8::try_from(row.priority).unwrap_or_default(),
            run_at: row.run_at,
            claimed_at,
        });
        let claimed: Vec<_> = claimed.collect();
        cursor.advance(&claimed, limit);
        Ok(claimed)
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
            superseded: false,
            withdrawn: false,
            time_left: Duration::from_secs(86_400),
            hold_unknown: false,
            priority: 2,
            run_at: OffsetDateTime::UNIX_EPOCH,
            claimed_at,
        }
    }
}
