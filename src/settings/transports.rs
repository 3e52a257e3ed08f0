//! `MAIL_TRANSPORTS`: the ways out, in order of preference.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::api::Api;
use super::profile::Environment;
use super::reader::{Found, Reader};
use super::relay::{Relay, SecureRelay, Tls};
use super::transport_url::{self, Defaults};

/// The variables of the one relay, which say nothing beside `MAIL_TRANSPORTS`.
const ONE_RELAY: [&str; 19] = [
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USERNAME",
    "SMTP_USERNAME_FILE",
    "SMTP_PASSWORD",
    "SMTP_PASSWORD_FILE",
    "SMTP_TLS",
    "EMAIL_HOST",
    "EMAIL_PORT",
    "EMAIL_HOST_USER",
    "EMAIL_HOST_USER_FILE",
    "EMAIL_HOST_PASSWORD",
    "EMAIL_HOST_PASSWORD_FILE",
    "EMAIL_USE_TLS",
    "SMTP_OAUTH_TOKEN_URL",
    "SMTP_OAUTH_CLIENT_ID",
    "SMTP_OAUTH_CLIENT_SECRET",
    "SMTP_OAUTH_CLIENT_SECRET_FILE",
    "SMTP_OAUTH_SCOPE",
];

/// One way out, and how much may go through it.
#[derive(Debug, Clone)]
pub struct Way {
    /// What logs, events, metrics and `facteur transports` call it; no two have the same.
    pub name: String,
    /// Where it leads.
    pub kind: Kind,
    /// So many mails in such a time, evenly; exact for all processes together.
    pub rate: Option<Pace>,
    /// So many mails in each minute, hour or day (UTC), however fast.
    pub quota: Option<Pace>,
    /// Mails at once, at most, in one process.
    pub connections: usize,
    /// The domains that it may carry mail from, in lower case; empty is any.
    pub domains: Vec<String>,
    /// Its share of all mail; set for all ways or for none.
    pub weight: Option<u32>,
}

/// Where a way leads.
#[derive(Debug, Clone)]
pub enum Kind {
    /// An SMTP server.
    Smtp(Relay),
    /// A provider's HTTP API.
    Api(Api),
}

/// So many mails in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At least one.
    pub mails: u32,
    /// A second, a minute, an hour or a day.
    pub per: Duration,
}

impl Way {
    /// The one relay of the `SMTP_…` variables, under the name that its transport has.
    pub fn of_relay(relay: Relay) -> Self {
        Self {
            name: relay_name(&relay),
            connections: relay.max_connections,
            kind: Kind::Smtp(relay),
            rate: None,
            quota: None,
            domains: Vec::new(),
            weight: None,
        }
    }
}

/// `smtp:host:port`, as logs and outcomes have always called it.
pub(super) fn relay_name(relay: &Relay) -> String {
    let place = if relay.host.contains(':') {
        format!("[{}]:{}", relay.host, relay.port)
    } else {
        format!("{}:{}", relay.host, relay.port)
    };
    format!("smtp:{place}").chars().take(64).collect()
}

/// Reads `MAIL_TRANSPORTS`; none when it is not set. Every fault of every transport is noted.
pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> Option<Vec<Way>> {
    let Found { name, value } = reader.secret("MAIL_TRANSPORTS")?;
    let set: Vec<&str> = ONE_RELAY.into_iter().filter(|one| reader.text(one).is_some()).collect();
    if !set.is_empty() {
        let names: Vec<&str> = std::iter::once(name.as_str()).chain(set).collect();
        reader.fault(&names, "both say where mail goes; keep MAIL_TRANSPORTS or the others");
    }
    let defaults = Defaults::read(reader);
    let urls: Vec<&str> = value.expose_secret().split_whitespace().collect();
    let mut ways = Vec::new();
    for (position, url) in (1..).zip(&urls) {
        match transport_url::parse(url, &defaults) {
            Ok(way) => {
                hold_to(reader, environment, &name, position, &way);
                ways.push(way);
            }
            Err(problems) => {
                for problem in problems {
                    reader.fault(&[&name], format!("transport {position} {problem}"));
                }
            }
        }
    }
    if urls.is_empty() {
        reader.fault(
            &[&name],
            "names no transport; it is URLs such as smtp://user:password@host:587, separated by spaces",
        );
    }
    check_together(reader, &name, &ways);
    Some(ways)
}

/// Whether the variable is set at all, rightly or not: the one relay's are then not missed.
pub(super) fn is_set(reader: &mut Reader<'_>) -> bool {
    reader.text("MAIL_TRANSPORTS").is_some() || reader.text("MAIL_TRANSPORTS_FILE").is_some()
}

/// What the environment asks of each, as it does of the one relay.
fn hold_to(reader: &mut Reader<'_>, environment: Environment, variable: &str, position: usize, way: &Way) {
    let Kind::Smtp(relay) = &way.kind else { return };
    let text = match environment {
        Environment::Production => SecureRelay::new(relay.clone()).err().map(|plain| plain.to_string()),
        Environment::Staging
            if relay.tls == Tls::None && relay.credentials.is_some() && !relay.is_loopback() =>
        {
            Some("the login would cross the network in clear: use starttls or implicit TLS".to_owned())
        }
        Environment::Staging | Environment::Development => None,
    };
    if let Some(text) = text {
        reader.fault(&[variable], format!("transport {position} ({}): {text}", way.name));
    }
}

fn check_together(reader: &mut Reader<'_>, variable: &str, ways: &[Way]) {
    for (position, way) in ways.iter().enumerate() {
        if ways[..position].iter().any(|other| other.name == way.name) {
            let text =
                format!("two transports are called {:?}; give one of them another with name=", way.name);
            reader.fault(&[variable], text);
        }
    }
    let weighted = ways.iter().filter(|way| way.weight.is_some()).count();
    if weighted != 0 && weighted != ways.len() {
        reader.fault(&[variable], "weight= is for all transports or for none");
    }
}
