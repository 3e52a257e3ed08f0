//! How much may go a way now: breaker, rate and quota, for all processes together.

use std::time::Duration;

use super::breaker::Probe;
use super::transports::{BreakerState, seconds};
use super::{Outbox, OutboxError};

/// How much may go a way: the settings' part of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// The time between two mails at an even pace; none without a rate.
    pub every: Option<Duration>,
    /// Mails that may go at once after a pause; at least one.
    pub burst: u32,
    /// Mails in a window; none without a quota.
    pub quota: Option<u32>,
    /// The quota's window, aligned to UTC: a minute, an hour or a day.
    pub window: Duration,
}

/// What was granted to whoever asked to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// Mails that may go now.
    pub now: u32,
    /// When none may: until when there is no use in asking again. None: until a person acts.
    pub wait: Option<Duration>,
    /// The breaker, after this.
    pub state: BreakerState,
    /// When the one mail that may go is a probe: what its outcome is reported with.
    pub probe: Option<Probe>,
}

/// A probe that was not heard of for so long is taken for lost.
const PROBE_LIFE: Duration = Duration::from_secs(120);

impl Outbox {
    /// Reserves up to `wanted` mails of a way out for sending now: breaker, rate and quota, for all processes together.
    ///
    /// While the breaker is not closed, at most one is granted, the probe. `eager` asks for it before
    /// its time: a process that has just started may have better settings.
    ///
    /// # Errors
    /// The database cannot be reached: nothing may be sent.
    pub async fn reserve(
        &self,
        name: &str,
        limits: &Limits,
        wanted: u32,
        eager: bool,
    ) -> Result<Granted, OutboxError> {
        if let Some(granted) = self.reserve_once(name, limits, wanted, eager).await? {
            return Ok(granted);
        }
        sqlx::query!("INSERT INTO facteur.transports (name) VALUES ($1) ON CONFLICT DO NOTHING", name)
            .execute(&self.line)
            .await?;
        let granted = self.reserve_once(name, limits, wanted, eager).await?;
        // Somebody deleted the row in between: ask again in a moment.
        Ok(granted.unwrap_or(Granted {
            now: 0,
            wait: Some(Duration::from_secs(1)),
            state: BreakerState::Closed,
            probe: None,
        }))
    }

    /// None when there is no row.
    async fn reserve_once(
        &self,
        name: &str,
        limits: &Limits,
        wanted: u32,
        eager: bool,
    ) -> Result<Option<Granted>, OutboxError> {
        let row = sqlx::query!(
            r#"
            -- The row first, then the clock: who waited for the row does not reckon with an older time.
            WITH held AS MATERIALIZED (SELECT * FROM facteur.transports WHERE name = $1 FOR UPDATE),
            clock AS MATERIALIZED (SELECT held.*, clock_timestamp() AS now FROM held),
            told AS MATERIALIZED (
              SELECT c.*,
                -- Half of the pace while it asked for less.
                $3::float8 * CASE WHEN slow_until > now THEN 2 ELSE 1 END AS every,
                greatest(next_at, now) AS due,
                to_timestamp(floor(extract(epoch FROM now)::float8 / $6::float8) * $6::float8) AS this_window,
                CASE state WHEN 'closed' THEN now WHEN 'half_open' THEN probe_until
                  ELSE CASE WHEN $7 AND tripped_by IS NULL THEN now ELSE coalesce(held_until, 'infinity') END
                END AS passable_at
              FROM clock c
            ),
            limits AS MATERIALIZED (
              SELECT t.*,
                CASE WHEN window_start >= this_window THEN used ELSE 0 END AS used_now,
                greatest(window_start, this_window) AS in_window,
                CASE WHEN every IS NULL THEN $2::int::float8
                     ELSE floor($4::float8 - extract(epoch FROM due - now)::float8 / every + 1e-6) END AS by_rate
              FROM told t
            ),
            grant_ AS MATERIALIZED (
              SELECT l.*,
                greatest(0, least($2::int, by_rate, coalesce($5::int - used_now, $2::int),
                                  CASE WHEN passable_at > now THEN 0 WHEN state = 'closed' THEN $2::int ELSE 1 END))::int AS n
              FROM limits l
            ),
            written AS (
              UPDATE facteur.transports t
              SET next_at = CASE WHEN g.every IS NULL THEN NULL ELSE g.due + make_interval(secs => g.every * g.n) END,
                  window_start = CASE WHEN $5::int IS NULL THEN NULL ELSE g.in_window END,
                  used = CASE WHEN $5::int IS NULL THEN 0 ELSE g.used_now + g.n END,
                  state = CASE WHEN g.state = 'closed' THEN g.state ELSE 'half_open' END,
                  since = CASE WHEN g.state = 'open' THEN g.now ELSE g.since END,
                  version = g.version + CASE WHEN g.state = 'open' THEN 1 ELSE 0 END,
                  probe = g.probe + CASE WHEN g.state = 'closed' THEN 0 ELSE 1 END,
                  probe_until = CASE WHEN g.state <> 'closed' THEN g.now + make_interval(secs => $8) END,
                  tripped_by = NULL
              FROM grant_ g WHERE t.name = g.name AND g.n > 0
              RETURNING t.state, t.probe
            )
            SELECT g.n AS "n!", g.rounds AS "rounds!",
              coalesce((SELECT state FROM written), g.state)::text AS "state!",
              (SELECT probe FROM written WHERE state <> 'closed') AS probe,
              isfinite(g.passable_at) AS "finite!",
              greatest(0,
                CASE WHEN isfinite(g.passable_at) THEN extract(epoch FROM g.passable_at - g.now) ELSE 0 END,
                CASE WHEN g.by_rate < 1 THEN extract(epoch FROM g.due - g.now) - ($4 - 1) * g.every ELSE 0 END,
                CASE WHEN g.used_now >= $5::int THEN extract(epoch FROM g.in_window - g.now) + $6 ELSE 0 END
              )::float8 AS "wait!"
            FROM grant_ g
            "#,
            name,
            i32::try_from(wanted).unwrap_or(i32::MAX),
            limits.every.map(|every| every.as_secs_f64()) as Option<f64>,
            f64::from(limits.burst.max(1)),
            limits.quota.map(|quota| i32::try_from(quota).unwrap_or(i32::MAX)) as Option<i32>,
            limits.window.max(Duration::from_secs(1)).as_secs_f64(),
            eager,
            PROBE_LIFE.as_secs_f64(),
        )
        .fetch_optional(&self.line)
        .await?;
        Ok(row.map(|row| Granted {
            now: row.n.unsigned_abs(),
            wait: row.finite.then(|| seconds(row.wait)),
            state: BreakerState::read(&row.state),
            probe: row.probe.map(|token| Probe { token, rounds: row.rounds.unsigned_abs() }),
        }))
    }

    /// Gives back what was reserved for mails that were never begun.
    ///
    /// # Errors
    /// The database cannot be reached; the quota then counts mails that were not sent.
    pub async fn give_back(&self, name: &str, limits: &Limits, unused: u32) -> Result<(), OutboxError> {
        let every = limits.every.unwrap_or_default().as_secs_f64();
        sqlx::query!(
            "UPDATE facteur.transports
             SET used = greatest(0, used - CASE WHEN window_start + make_interval(secs => $4) > clock_timestamp()
                                             THEN $2::bigint ELSE 0 END),
                 next_at = next_at - make_interval(secs => $3::float8 * $2::bigint)
             WHERE name = $1",
            name,
            i64::from(unused),
            every,
            limits.window.as_secs_f64(),
        )
        .execute(&self.line)
        .await?;
        Ok(())
    }
}
