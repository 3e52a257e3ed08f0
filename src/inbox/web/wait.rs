//! `GET /api/messages/wait`: a test asks for the mail that its application is about to send.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::super::store::Entry;
use super::Desk;
use super::api::{self, Detail};
use super::failure::Failure;
use super::query::{self, Pairs};

const DEFAULT: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);

/// Which mail is waited for.
struct Wanted {
    to: Option<String>,
    /// In lower case.
    subject: Option<String>,
}

/// Answers with the newest mail that matches, now or as soon as there is one.
pub(super) async fn wait(
    State(desk): State<Desk>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Json<Detail>, Failure> {
    let [to, subject, timeout] = query::take(pairs, ["to", "subject", "timeout"])?;
    let wanted = Wanted::new(to, subject)?;
    let timeout = timeout.as_deref().map_or(Ok(DEFAULT), duration)?;
    let search = search(&desk, &wanted, Instant::now() + timeout);
    let Some(found) = desk.stop.run_until_cancelled(search).await else {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            "the inbox is stopping",
        ));
    };
    match found? {
        Some(opened) => Ok(Json(api::detail(opened, &headers))),
        None => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("no such mail arrived within {timeout:?}"),
        )),
    }
}

async fn search(desk: &Desk, wanted: &Wanted, deadline: Instant) -> Result<Option<super::Opened>, Failure> {
    // Registered before looking: a mail that arrives in between is seen by one of the two.
    let mut revisions = desk.store.revisions();
    loop {
        let found = desk.store.list("").into_iter().find(|entry| wanted.matches(entry));
        if let Some(entry) = found
            && let Some(opened) = desk.read(entry).await?
        {
            return Ok(Some(opened));
        }
        match timeout_at(deadline, revisions.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(None),
        }
    }
}

impl Wanted {
    fn new(to: Option<String>, subject: Option<String>) -> Result<Self, Failure> {
        for (name, value) in [("to", &to), ("subject", &subject)] {
            // A test whose variable is empty would otherwise be handed any mail.
            if value.as_deref() == Some("") {
                return Err(Failure::refused_value(format!(
                    "{name} is empty: give it a value, or leave it out"
                )));
            }
        }
        Ok(Self { to, subject: subject.map(|subject| subject.to_lowercase()) })
    }

    fn matches(&self, entry: &Entry) -> bool {
        let summary = &entry.summary;
        let to = self
            .to
            .as_ref()
            .is_none_or(|to| summary.envelope.to.iter().any(|recipient| recipient.eq_ignore_ascii_case(to)));
        let subject =
            self.subject.as_ref().is_none_or(|subject| summary.subject.to_lowercase().contains(subject));
        to && subject
    }
}

/// `500ms`, `10s` or `1m`.
fn duration(text: &str) -> Result<Duration, Failure> {
    let refused = || {
        Failure::refused_value(format!(
            "timeout {} is not a duration of at most 60s such as 500ms, 10s or 1m",
            query::excerpt(text)
        ))
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = text.split_at(unit_at);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    let duration = number.checked_mul(milliseconds).map(Duration::from_millis);
    duration.filter(|duration| *duration <= LONGEST).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        for (text, milliseconds) in
            [("500ms", 500), ("10s", 10_000), ("1m", 60_000), ("0s", 0), ("60000ms", 60_000)]
        {
            assert_eq!(duration(text).expect("this is a duration").as_millis(), milliseconds, "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "61s",
            "2m",
            "1h",
            "1.5s",
            "10 s",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
