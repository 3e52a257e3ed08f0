//! How a way's breaker changes: by evidence, by its probe, by hand.

use std::time::Duration;

use super::by_hand::named;
use super::storable::storable;
use super::{Outbox, OutboxError};

/// The one mail that tries a way whose breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub(super) token: i64,
    /// How many times in a row the breaker has been opened.
    pub rounds: u16,
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

impl Outbox {
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
