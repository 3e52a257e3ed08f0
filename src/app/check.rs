use std::io::Write;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{AppError, pool};
use crate::outbox::Outbox;
use crate::settings::{Kind, Settings, Way};
use crate::transport::Transport;

const PATIENCE: Duration = Duration::from_secs(10);

/// Says of settings, database and each transport whether they work; sends nothing.
///
/// # Errors
/// One of them does not; which and why is on `out`.
pub async fn check(settings: &Settings, out: &mut impl Write) -> Result<(), AppError> {
    let mut say = |good: bool, what: &str, text: &str| {
        let mark = if good { "ok  " } else { "FAIL" };
        // A closed pipe is no reason to stop checking: the exit code still tells.
        let _ = writeln!(out, "{mark}  {what:<9} {text}");
        good
    };
    let mut good = say(true, "settings", environment(settings));
    good &= match database(settings).await {
        Ok(text) => say(true, "database", &text),
        Err(text) => say(false, "database", &text),
    };
    for way in settings.profile.ways() {
        good &= match transport(way).await {
            Ok(text) => say(true, "transport", &text),
            Err(text) => say(false, "transport", &text),
        };
    }
    if good { Ok(()) } else { Err(AppError::Check) }
}

fn environment(settings: &Settings) -> &'static str {
    use crate::settings::Profile;
    match settings.profile {
        Profile::Development { .. } => "development: no token asked for, any relay",
        Profile::Staging { .. } => "staging: tokens asked for, any relay",
        Profile::Production { .. } => {
            "production: tokens asked for, TLS to a relay that is not on this machine"
        }
    }
}

async fn database(settings: &Settings) -> Result<String, String> {
    let pool = pool(&settings.database, 1).map_err(|e| e.to_string())?;
    // A pool would only say that it waited in vain.
    let reached = timeout(PATIENCE, PgConnection::connect_with(&pool.connect_options())).await;
    let reached = reached.map_err(|_| "no answer in 10 s; is DATABASE_URL right?")?;
    let connection =
        reached.map_err(|error| format!("{error}; is Postgres running, is DATABASE_URL right?"))?;
    // Its goodbye is of no interest.
    let _ = connection.close().await;
    match timeout(PATIENCE, Outbox::new(pool).status()).await {
        Err(_) => Err("no answer in 10 s".into()),
        Ok(Err(error)) => Err(format!("{error}; was `facteur migrate` run?")),
        Ok(Ok(status)) => Ok(format!(
            "Postgres {}, {} waiting, {} being sent",
            status.server, status.queued, status.sending
        )),
    }
}

async fn transport(way: &Way) -> Result<String, String> {
    let transport = Transport::open(way).map_err(|e| e.to_string())?;
    match (transport.check().await, &way.kind) {
        (Ok(()), Kind::Smtp(relay)) => {
            let login = if relay.has_login() { "logged in" } else { "reached, no login set" };
            Ok(format!("{}: {login}, TLS: {:?}", way.name, relay.tls))
        }
        (Ok(()), Kind::Api(_)) => Ok(format!("{}: the key is good", way.name)),
        (Err(report), _) => {
            let code = report.code.map(|code| format!("{code} ")).unwrap_or_default();
            Err(format!("{}: {} failed: {code}{}", way.name, report.stage, report.text.escape_debug()))
        }
    }
}
