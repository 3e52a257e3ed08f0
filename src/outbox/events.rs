//! The send log: what happened between two moments, in order, page by page.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::connection::Line;
use super::{Outbox, OutboxError};
use crate::email::EmailId;

/// So many events are in memory at once.
const PAGE: usize = 10_000;
/// What is asked of one statement spans so long at least, when much happened at once.
const SHORTEST_SPAN: time::Duration = time::Duration::milliseconds(1);
/// With how long a span the reading begins; it grows where little happened.
const FIRST_SPAN: time::Duration = time::Duration::minutes(1);
/// Clocks of those who made an id and of the database differ by less.
const CLOCKS: time::Duration = time::Duration::days(1);

/// A moment, on the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(OffsetDateTime),
}

/// One event with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// When it was written.
    pub at: OffsetDateTime,
    /// Of which e-mail.
    pub email: EmailId,
    /// Its Message-ID, without angle brackets; none when the e-mail is gone.
    pub message_id: Option<String>,
    /// Which delivery, from 0; none: of the whole e-mail.
    pub position: Option<i16>,
    /// To whom that is.
    pub recipient: Option<String>,
    /// `accepted`, `sent`, `retry`, …: docs/events.md has all.
    pub kind: String,
    /// Which attempt.
    pub attempt: Option<i16>,
    /// By which way out.
    pub transport: Option<String>,
    /// Where on that way it ended.
    pub stage: Option<String>,
    /// The reply code.
    pub code: Option<i16>,
    /// The server's words, or what happened where no server spoke. Hostile text.
    pub reply: Option<String>,
    /// Who did it, of what a person did.
    pub actor: Option<String>,
    /// Which worker process.
    pub worker: Option<Uuid>,
    /// The fencing token.
    pub lease: Option<i64>,
}

/// Reads events from one moment on. Each page is a short statement: no snapshot is held between two, however
/// slowly they are read.
#[derive(Debug)]
pub struct EventLog {
    outbox: Outbox,
    from: OffsetDateTime,
    span: time::Duration,
    /// The last one that was read, when its moment may have more.
    after: Option<Place>,
    /// Between these; all when nobody asked for one.
    emails: (Uuid, Uuid),
}

/// Where in the order an event stands.
#[derive(Debug, Clone)]
struct Place(OffsetDateTime, Uuid, i16, String, i64);

impl Outbox {
    /// The events from `since` on, of one e-mail or of all; of one e-mail and without a moment, from its beginning.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn event_log(
        &self,
        since: Option<When>,
        email: Option<EmailId>,
    ) -> Result<EventLog, OutboxError> {
        let now = self.database_clock().await?;
        let from = match since {
            Some(when) => when.on(now),
            None => email.and_then(begun).unwrap_or(now) - CLOCKS,
        };
        let (emails, span) = match email {
            Some(id) => ((id.as_uuid(), id.as_uuid()), now - from + CLOCKS),
            None => ((self.first_email_with_events_from(from).await?, Uuid::max()), FIRST_SPAN),
        };
        Ok(EventLog { outbox: self.clone(), from, span, after: None, emails })
    }

    /// The database's clock now.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn database_clock(&self) -> Result<OffsetDateTime, OutboxError> {
        let now = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(&self.line).await?;
        Ok(now)
    }

    /// Where the weeks begin that have to be looked at. One pass over what has no index by time.
    async fn first_email_with_events_from(&self, from: OffsetDateTime) -> Result<Uuid, OutboxError> {
        let first = sqlx::query_scalar!(
            // There is no min(uuid) before Postgres 18; the text sorts alike.
            r#"SELECT coalesce(min(email_id::text), 'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid AS "first!"
               FROM facteur.events WHERE at >= $1"#,
            from
        );
        Ok(first.fetch_one(&self.line.for_content()).await?)
    }
}

impl When {
    /// The moment itself; before everything when it would be before the calendar.
    pub fn on(self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => time::Duration::try_from(ago)
                .ok()
                .and_then(|ago| now.checked_sub(ago))
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        }
    }
}

/// By the clock in its id.
fn begun(id: EmailId) -> Option<OffsetDateTime> {
    let (seconds, nanos) = id.as_uuid().get_timestamp()?.to_unix();
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    Some(at + time::Duration::nanoseconds(i64::from(nanos)))
}

impl EventLog {
    /// The next events before `until`, in the order of their time; none when there are no more.
    ///
    /// Asked again later with a later `until`, it goes on.
    ///
    /// # Errors
    /// The database cannot be reached; the same may be asked again.
    pub async fn next_page(
        &mut self,
        until: OffsetDateTime,
    ) -> Result<Option<Vec<LoggedEvent>>, OutboxError> {
        while self.from < until {
            let to = self.from.checked_add(self.span).unwrap_or(until).min(until);
            let page = self.read(to).await?;
            self.advance(&page, to);
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// Where the next page begins, and how long it may span.
    fn advance(&mut self, page: &[LoggedEvent], to: OffsetDateTime) {
        match page.last() {
            Some(last) if page.len() == PAGE => {
                self.span = (last.at - self.from).max(SHORTEST_SPAN);
                self.from = last.at;
                self.after = Some(last.place());
            }
            _ => {
                self.from = to;
                self.after = None;
                if page.len() < PAGE / 4 {
                    self.span = self.span.saturating_mul(2);
                }
            }
        }
    }

    async fn read(&self, to: OffsetDateTime) -> Result<Vec<LoggedEvent>, OutboxError> {
        let none = Place(self.from, Uuid::nil(), i16::MIN, String::new(), i64::MIN);
        let Place(at, email, position, kind, lease) = self.after.as_ref().unwrap_or(&none);
        // Unnamed: planned for this span each time, by the index that fits it. To compile such a plan, or to share it out
        // among processes, takes longer than to run it.
        let line = Line { named_statements: false, ..self.outbox.line.for_content() };
        let mut page = line.begin().await?;
        sqlx::query!(
            "SELECT set_config('jit', 'off', true) AS jit, set_config('max_parallel_workers_per_gather', '0', true) AS workers"
        )
        .fetch_one(&mut page)
        .await?;
        let rows = sqlx::query!(
            r#"
            -- What belongs to them is looked up one by one, for this page alone.
            SELECT e.at, e.email_id, e.position, e.kind, e.attempt, e.transport, e.stage, e.code, e.detail, e.actor,
                   e.worker_id, e.lease_token,
                   (SELECT m.message_id FROM facteur.emails m WHERE m.id = e.email_id) AS message_id,
                   coalesce(
                     (SELECT d.recipient FROM facteur.deliveries d WHERE d.email_id = e.email_id AND d.position = e.position),
                     (SELECT o.recipient FROM facteur.outcomes o WHERE o.email_id = e.email_id AND o.position = e.position)
                   ) AS recipient
            FROM (
              SELECT * FROM facteur.events
              WHERE at >= $1 AND at < $2 AND email_id BETWEEN $3 AND $4
                AND (at, email_id, coalesce(position, -1::smallint), kind, coalesce(lease_token, -1)) > ($5, $6, $7, $8, $9)
              ORDER BY at, email_id, coalesce(position, -1::smallint), kind, coalesce(lease_token, -1)
              LIMIT $10
            ) e
            ORDER BY e.at, e.email_id, coalesce(e.position, -1::smallint), e.kind, coalesce(e.lease_token, -1)
            "#,
            self.from,
            to,
            self.emails.0,
            self.emails.1,
            at,
            email,
            position,
            kind,
            lease,
            PAGE as i64,
        )
        .fetch_all(&mut page)
        .await?;
        page.commit().await?;
        let page = rows.into_iter().map(|row| LoggedEvent {
            at: row.at,
            email: row.email_id.into(),
            message_id: row.message_id,
            position: row.position,
            recipient: row.recipient,
            kind: row.kind,
            attempt: row.attempt,
            transport: row.transport,
            stage: row.stage,
            code: row.code,
            reply: row.detail,
            actor: row.actor,
            worker: row.worker_id,
            lease: row.lease_token,
        });
        Ok(page.collect())
    }
}

impl LoggedEvent {
    fn place(&self) -> Place {
        let position = self.position.unwrap_or(-1);
        Place(self.at, self.email.as_uuid(), position, self.kind.clone(), self.lease.unwrap_or(-1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_the_calendar_is_the_beginning() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        assert_eq!(When::Ago(Duration::from_secs(3_600)).on(now), now - time::Duration::hours(1));
        assert_eq!(When::Ago(Duration::MAX).on(now), OffsetDateTime::UNIX_EPOCH);
    }

    #[test]
    fn an_id_says_when_its_email_began() {
        let now = OffsetDateTime::now_utc();
        let begun = begun(Uuid::now_v7().into()).expect("a UUIDv7");
        assert!((begun - now).abs() < time::Duration::minutes(1), "{begun}");
    }
}
