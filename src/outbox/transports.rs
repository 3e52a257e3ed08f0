//! What the fleet knows of its ways out: breakers, rates and quotas, one row each.

use std::time::Duration;

use time::OffsetDateTime;

use super::by_hand::named;
use super::storable::storable;
use super::{Outbox, OutboxError};

/// What a way out's breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerState {
    /// Mail goes through.
    #[default]
    Closed,
    /// None does, for a time.
    Open,
    /// One probe at a time does.
    HalfOpen,
}

impl BreakerState {
    /// `closed`, `open` or `half_open`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "open" => Self::Open,
            "half_open" => Self::HalfOpen,
            _ => Self::Closed,
        }
    }
}

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

/// The one mail that tries a way whose breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    token: i64,
    /// How many times in a row the breaker has been opened.
    pub rounds: u16,
}

/// One way out as its row has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TransportState {
    /// As in the settings.
    pub name: String,
    /// The breaker.
    pub state: BreakerState,
    /// Since when.
    pub since: Option<OffsetDateTime>,
    /// Of an open one, from now until a probe may go; of a half-open one, until another may.
    /// None: until a person resets it.
    pub held_for: Option<Duration>,
    /// Why it is not closed. Hostile text.
    pub reason: Option<String>,
    /// How many times in a row it has been opened.
    pub rounds: u16,
    /// Grows with each change of the breaker.
    pub version: i64,
    /// Who opened it by hand.
    pub tripped_by: Option<String>,
    /// Who last closed it by hand.
    pub reset_by: Option<String>,
    /// From now until it has its full pace again.
    pub slow_for: Option<Duration>,
    /// How far the rate has been used ahead of time.
    pub ahead: Duration,
    /// When the window of `used` began.
    pub window_start: Option<OffsetDateTime>,
    /// Mails reserved in that window.
    pub used: i64,
    /// When a mail last left this way, give or take half a minute.
    pub last_success: Option<OffsetDateTime>,
    /// The database's clock when this was read.
    pub now: Option<OffsetDateTime>,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ProbeEnd<'a> {
    /// The way works: the breaker closes.
    Good,
    /// It does not: the breaker opens again, for so long, because of that.
    Bad(Duration, &'a str),
    /// The mail said nothing of the way: another may try at once.
    Unused,
}

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 500;
/// A probe that was not heard of for so long is taken for lost.
const PROBE_LIFE: Duration = Duration::from_secs(120);

impl Outbox {
    /// Reads the rows of these ways out, or of all that there ever were; one that has no row yet is closed.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn transports(&self, names: Option<&[String]>) -> Result<Vec<TransportState>, OutboxError> {
        let rows = sqlx::query!(
            r#"
            SELECT name, state::text AS "state!", since, reason, rounds, version, tripped_by, reset_by, window_start, used,
                   last_success, clock_timestamp() AS "now!",
                   extract(epoch FROM coalesce(probe_until, held_until) - clock_timestamp())::float8 AS held_for,
                   extract(epoch FROM slow_until - clock_timestamp())::float8 AS slow_for,
                   extract(epoch FROM next_at - clock_timestamp())::float8 AS ahead
            FROM facteur.transports WHERE $1::text[] IS NULL OR name = ANY($1)
            ORDER BY name
            "#,
            names as Option<&[String]>,
        )
        .fetch_all(&self.line)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| TransportState {
                name: row.name,
                state: BreakerState::read(&row.state),
                since: Some(row.since),
                held_for: row.held_for.map(seconds),
                reason: row.reason,
                rounds: row.rounds.unsigned_abs(),
                version: row.version,
                tripped_by: row.tripped_by,
                reset_by: row.reset_by,
                slow_for: row.slow_for.map(seconds).filter(|left| !left.is_zero()),
                ahead: row.ahead.map(seconds).unwrap_or_default(),
                window_start: row.window_start,
                used: row.used,
                last_success: row.last_success,
                now: Some(row.now),
            })
            .collect())
    }

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

    /// Opens a breaker for the whole fleet, for so long; only from the state of which the caller has evidence.
    /// Whether it did.
    ///
    /// # Errors
    /// The database cannot be reached; the breaker stays as it is.
    pub async fn open_breaker(
        &self,
        name: &str,
        seen_version: i64,
        hold: Duration,
        reason: &str,
    ) -> Result<bool, OutboxError> {
        let opened = sqlx::query!(
            "INSERT INTO facteur.transports AS t (name, state, held_until, reason, rounds, version)
             VALUES ($1, 'open', clock_timestamp() + make_interval(secs => $3), $4, 1, 1)
             ON CONFLICT (name) DO UPDATE
             SET state = 'open', since = clock_timestamp(), held_until = excluded.held_until, reason = $4,
                 rounds = least(t.rounds + 1, 1000), version = t.version + 1
             WHERE t.version = $2 AND t.state = 'closed'",
            name,
            seen_version,
            hold.as_secs_f64(),
            storable(reason, LONGEST_REASON),
        )
        .execute(&self.line)
        .await?;
        Ok(opened.rows_affected() == 1)
    }

    /// Says what became of a probe. Whether it was still the newest one.
    ///
    /// # Errors
    /// The database cannot be reached; the probe then runs out by itself.
    pub async fn end_probe(&self, name: &str, probe: Probe, end: ProbeEnd<'_>) -> Result<bool, OutboxError> {
        let (kind, hold, reason) = match end {
            ProbeEnd::Good => ("good", Duration::ZERO, None),
            ProbeEnd::Bad(hold, reason) => ("bad", hold, Some(storable(reason, LONGEST_REASON))),
            ProbeEnd::Unused => ("unused", Duration::ZERO, None),
        };
        let ended = sqlx::query!(
            "UPDATE facteur.transports
             SET state = CASE $3 WHEN 'good' THEN 'closed' ELSE 'open' END::facteur.breaker_state,
                 since = clock_timestamp(),
                 held_until = CASE WHEN $3 <> 'good' THEN clock_timestamp() + make_interval(secs => $4) END,
                 reason = CASE $3 WHEN 'good' THEN NULL WHEN 'bad' THEN $5 ELSE reason END,
                 rounds = CASE $3 WHEN 'good' THEN 0 WHEN 'bad' THEN least(rounds + 1, 1000) ELSE rounds END,
                 version = version + 1, probe_until = NULL,
                 last_success = CASE $3 WHEN 'good' THEN clock_timestamp() ELSE last_success END
             WHERE name = $1 AND state = 'half_open' AND probe = $2",
            name,
            probe.token,
            kind,
            hold.as_secs_f64(),
            reason as Option<String>,
        )
        .execute(&self.line)
        .await?;
        Ok(ended.rows_affected() == 1)
    }

    /// Halves the pace of a way out for so long.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn slow_down(&self, name: &str, length: Duration) -> Result<(), OutboxError> {
        sqlx::query!(
            "INSERT INTO facteur.transports AS t (name, slow_until)
             VALUES ($1, clock_timestamp() + make_interval(secs => $2))
             ON CONFLICT (name) DO UPDATE SET slow_until = greatest(t.slow_until, excluded.slow_until)",
            name,
            length.as_secs_f64(),
        )
        .execute(&self.line)
        .await?;
        Ok(())
    }

    /// Notes that a mail left this way. For now and then, not for each.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn note_success(&self, name: &str) -> Result<(), OutboxError> {
        sqlx::query!(
            "INSERT INTO facteur.transports AS t (name, last_success) VALUES ($1, clock_timestamp())
             ON CONFLICT (name) DO UPDATE SET last_success = clock_timestamp()",
            name,
        )
        .execute(&self.line)
        .await?;
        Ok(())
    }

    /// Opens a breaker by hand, for so long or until it is reset. `actor` is kept: 1 to 128 characters.
    ///
    /// # Errors
    /// The actor is not one, or the database cannot be reached.
    pub async fn trip(&self, name: &str, length: Option<Duration>, actor: &str) -> Result<(), OutboxError> {
        sqlx::query!(
            "INSERT INTO facteur.transports AS t (name, state, held_until, reason, version, tripped_by)
             VALUES ($1, 'open', clock_timestamp() + make_interval(secs => $2), 'tripped by hand', 1, $3)
             ON CONFLICT (name) DO UPDATE
             SET state = 'open', since = clock_timestamp(), held_until = excluded.held_until,
                 reason = excluded.reason, tripped_by = excluded.tripped_by, probe_until = NULL,
                 version = t.version + 1, probe = t.probe + 1",
            name,
            length.map(|length| length.as_secs_f64()) as Option<f64>,
            named(actor)?,
        )
        .execute(&self.line)
        .await?;
        tracing::warn!(transport = name, actor, "opened by hand");
        Ok(())
    }

    /// Closes a breaker by hand and ends its slow-down. Whether there was a row of that name.
    ///
    /// # Errors
    /// The actor is not one, or the database cannot be reached.
    pub async fn reset(&self, name: &str, actor: &str) -> Result<bool, OutboxError> {
        let reset = sqlx::query!(
            "UPDATE facteur.transports
             SET state = 'closed', since = CASE state WHEN 'closed' THEN since ELSE clock_timestamp() END,
                 held_until = NULL, reason = NULL, rounds = 0, slow_until = NULL, tripped_by = NULL, reset_by = $2,
                 probe_until = NULL, version = version + 1, probe = probe + 1
             WHERE name = $1",
            name,
            named(actor)?,
        )
        .execute(&self.line)
        .await?;
        if reset.rows_affected() == 1 {
            tracing::info!(transport = name, actor, "closed by hand");
        }
        Ok(reset.rows_affected() == 1)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
