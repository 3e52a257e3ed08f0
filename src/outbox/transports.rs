//! What the fleet knows of its ways out: breakers, rates and quotas, one row each.

use std::time::Duration;

use time::OffsetDateTime;

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

    pub(super) fn read(text: &str) -> Self {
        match text {
            "open" => Self::Open,
            "half_open" => Self::HalfOpen,
            _ => Self::Closed,
        }
    }
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
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
