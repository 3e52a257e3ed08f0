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

/// What a claim returns.
struct Row {
    email_id: Uuid,
    position: i16,
    priority: i16,
    run_at: OffsetDateTime,
    lease_token: i64,
    recipient: String,
    attempt: i16,
    max_attempts: i16,
    hold_unknown: bool,
    expires_at: OffsetDateTime,
    cancel_requested: bool,
    now: OffsetDateTime,
    superseded: bool,
}

/// The one statement of a claim: `$due` finds and locks what is to be leased.
macro_rules! claiming {
    ($outbox:expr, $lease:expr, $worker:expr, $due:literal, $($given:expr),+) => {
        sqlx::query_as!(
            Row,
            $due + r#"
            UPDATE facteur.deliveries d
            SET state = 'sending', attempt = d.attempt + 1, lease_token = d.lease_token + 1,
                lease_until = now() + make_interval(secs => $1), worker_id = $2, data_started = false
            FROM due
            WHERE d.email_id = due.email_id AND d.position = due.position
            RETURNING d.email_id, d.position, d.priority, d.run_at, d.lease_token, d.recipient, d.attempt, d.max_attempts,
                      d.hold_unknown, d.expires_at, d.cancel_requested, now() AS "now!",
                      d.supersedes IS NOT NULL AND EXISTS (
                        SELECT 1 FROM facteur.newest n
                        WHERE n.scope = $3 AND n.name = d.supersedes AND n.email_id <> d.email_id
                      ) AS "superseded!"
            "#,
            $lease.as_secs_f64(),
            $worker.as_uuid(),
            SCOPE,
            $($given),+
        )
        .fetch_all(&$outbox.line)
        .await?
    };
}

impl Row {
    fn claimed(self, claimed_at: Instant) -> ClaimedDelivery {
        ClaimedDelivery {
            id: DeliveryId { email: EmailId::from(self.email_id), position: self.position },
            token: LeaseToken::new(self.lease_token),
            recipient: self.recipient,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            expired: self.expires_at <= self.now,
            superseded: self.superseded,
            withdrawn: self.cancel_requested,
            time_left: left(self.expires_at, self.now),
            hold_unknown: self.hold_unknown,
            priority: u8::try_from(self.priority).unwrap_or_default(),
            run_at: self.run_at,
            claimed_at,
        }
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
        self.claim_around(cursor, worker, limit, lease, turn, &[]).await
    }

    /// As [`claim_on`](Self::claim_on), and leaves what is for these domains where it is.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_around(
        &self,
        cursor: &mut Cursor,
        worker: SessionId,
        limit: i64,
        lease: Duration,
        turn: u64,
        without: &[String],
    ) -> Result<Vec<ClaimedDelivery>, OutboxError> {
        let claimed_at = Instant::now();
        let start = Start::of(cursor.start(claimed_at), turn);
        // NULL, so that no row's domain is looked at where nothing is left out.
        let without = (!without.is_empty()).then_some(without);
        let rows = claiming!(
            self,
            lease,
            worker,
            r#"
            -- Per priority, so that each index scan ends at the first row that is not due.
            -- MATERIALIZED: the planner may otherwise run the locking subquery more than once.
            WITH due AS MATERIALIZED (
              SELECT q.email_id, q.position
              FROM unnest($4::smallint[], $5::timestamptz[], $6::uuid[], $7::smallint[])
                     AS p (priority, run_at, email_id, position)
              CROSS JOIN LATERAL (
                SELECT d.email_id, d.position
                FROM facteur.deliveries d
                WHERE d.state = 'queued' AND d.priority = p.priority AND d.run_at <= now()
                  AND (d.run_at, d.email_id, d.position)
                      > (coalesce(p.run_at, '-infinity'), p.email_id, p.position)
                  AND ($9::text[] IS NULL OR lower(split_part(d.recipient, '@', -1) COLLATE "C") <> ALL ($9))
                ORDER BY d.run_at, d.email_id, d.position
                LIMIT $8
                FOR UPDATE SKIP LOCKED
              ) q
              LIMIT $8
            )
            "#,
            &start.priorities[..],
            &start.run_at as &[Option<OffsetDateTime>],
            &start.email_ids,
            &start.positions,
            limit,
            without as Option<&[String]>
        );
        let claimed: Vec<_> = rows.into_iter().map(|row| row.claimed(claimed_at)).collect();
        cursor.advance(&claimed, limit);
        Ok(claimed)
    }

    /// Leases due deliveries to these domains and to no other: of each so many, the most urgent first.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_for(
        &self,
        worker: SessionId,
        domains: &[(String, i64)],
        lease: Duration,
    ) -> Result<Vec<ClaimedDelivery>, OutboxError> {
        let claimed_at = Instant::now();
        let names: Vec<String> = domains.iter().map(|(name, _)| name.clone()).collect();
        let numbers: Vec<i64> = domains.iter().map(|(_, number)| *number).collect();
        let rows = claiming!(
            self,
            lease,
            worker,
            r#"
            WITH due AS MATERIALIZED (
              SELECT q.email_id, q.position
              FROM unnest($4::text[], $5::bigint[]) AS w (domain, number)
              CROSS JOIN LATERAL (
                SELECT s.email_id, s.position
                FROM generate_series(0, 3) AS p (priority)
                CROSS JOIN LATERAL (
                  SELECT d.email_id, d.position
                  FROM facteur.deliveries d
                  WHERE d.state = 'queued' AND d.priority = p.priority::smallint AND d.run_at <= now()
                    AND lower(split_part(d.recipient, '@', -1) COLLATE "C") = w.domain
                  ORDER BY d.run_at, d.email_id, d.position
                  LIMIT w.number
                  FOR UPDATE SKIP LOCKED
                ) s
                LIMIT w.number
              ) q
            )
            "#,
            &names,
            &numbers
        );
        Ok(rows.into_iter().map(|row| row.claimed(claimed_at)).collect())
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
