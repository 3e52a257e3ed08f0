//! `facteur events`: the send log as JSON lines, for the one who runs it.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{AppError, pool};
use crate::email::EmailId;
pub use crate::outbox::When;
use crate::outbox::{EventLog, LoggedEvent, Outbox};
use crate::settings::Database;

/// An event is written with the time at which its statement ran, and seen once it was committed: who follows stays so far behind.
const BEHIND: time::Duration = time::Duration::seconds(2);
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Which events are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// From then on; none: from the beginning of the e-mail.
    pub since: Option<When>,
    /// Before then; none: before now.
    pub until: Option<When>,
    /// Of this e-mail alone.
    pub email: Option<EmailId>,
    /// Goes on with what happens, until it is ended.
    pub follow: bool,
}

/// Writes each event as a line of JSON, in the order of time. A reader that goes away ends it, and that is no failure.
///
/// # Errors
/// The database is away, or what was written to cannot take more.
pub async fn events(database: &Database, wanted: Wanted, out: &mut impl Write) -> Result<(), AppError> {
    let outbox = Outbox::new(pool(database, 1)?).with_deadline(database.access.timeout);
    let now = outbox.database_clock().await?;
    let ends = [wanted.since, wanted.until].map(|when| when.map(|when| when.on(now)));
    if let [Some(since), Some(until)] = ends
        && until <= since
    {
        return Err(AppError::NoTimeBetween);
    }
    let mut log = outbox.event_log(wanted.since, wanted.email).await?;
    let mut out = BufWriter::new(out);
    match export(&outbox, &mut log, wanted, &mut out).await {
        Err(Ended::Unread) => Ok(()),
        Err(Ended::Failed(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// Why an export ended early.
enum Ended {
    /// Nobody reads it any more.
    Unread,
    Failed(AppError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(AppError::Output(error)),
        }
    }
}

async fn export(
    outbox: &Outbox,
    log: &mut EventLog,
    wanted: Wanted,
    out: &mut BufWriter<impl Write>,
) -> Result<(), Ended> {
    loop {
        let now = outbox.database_clock().await.map_err(|error| Ended::Failed(error.into()))?;
        let until = match wanted.until {
            Some(when) => when.on(now),
            None if wanted.follow => now - BEHIND,
            None => now,
        };
        while let Some(page) = log.next_page(until).await.map_err(|error| Ended::Failed(error.into()))? {
            for event in &page {
                writeln!(out, "{}", line(event))?;
            }
            out.flush()?;
        }
        if !wanted.follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// The line's fields, in this order; each is there in each line.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    email: String,
    message_id: Option<&'a str>,
    delivery: Option<i16>,
    recipient: Option<&'a str>,
    kind: &'a str,
    attempt: Option<i16>,
    transport: Option<&'a str>,
    stage: Option<&'a str>,
    code: Option<i16>,
    reply: Option<&'a str>,
    actor: Option<&'a str>,
    worker: Option<String>,
    lease: Option<i64>,
}

fn line(event: &LoggedEvent) -> String {
    let line = Line {
        at: micros(event.at),
        email: event.email.to_string(),
        message_id: event.message_id.as_deref(),
        delivery: event.position,
        recipient: event.recipient.as_deref(),
        kind: &event.kind,
        attempt: event.attempt,
        transport: event.transport.as_deref(),
        stage: event.stage.as_deref(),
        code: event.code,
        reply: event.reply.as_deref(),
        actor: event.actor.as_deref(),
        worker: event.worker.map(|id| id.to_string()),
        lease: event.lease,
    };
    // Fails for keys that are not texts, which these are.
    escaped(&serde_json::to_string(&line).unwrap_or_default())
}

/// RFC 3339 in UTC, always with six digits, so that lines sort as their times do.
fn micros(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let whole = at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default();
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), at.microsecond())
}

/// JSON leaves some characters as they are that a terminal obeys, or that turn the direction of text.
fn escaped(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reply: &str) -> LoggedEvent {
        LoggedEvent {
            at: OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1_500_000),
            email: uuid::Uuid::nil().into(),
            message_id: None,
            position: Some(0),
            recipient: Some("ada@x.test".into()),
            kind: "failed".into(),
            attempt: Some(1),
            transport: None,
            stage: None,
            code: Some(550),
            reply: Some(reply.into()),
            actor: None,
            worker: None,
            lease: None,
        }
    }

    #[test]
    fn what_a_server_said_is_kept_and_harms_no_terminal() {
        let hostile = "550 \u{1b}[2J\u{9b}31m\r\n\u{202e}\u{2028}\"quoted\" é";
        let line = line(&event(hostile));
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["reply"], hostile);
    }

    #[test]
    fn times_sort_as_texts() {
        assert_eq!(micros(event("").at), "1970-01-01T00:00:01.500000Z");
        assert_eq!(micros(OffsetDateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
    }
}
