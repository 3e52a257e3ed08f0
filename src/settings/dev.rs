//! `facteur dev`: development, on this machine, with what it brings itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use secrecy::SecretString;

use super::database::{self, DatabaseAccess};
use super::faults::Faults;
use super::profile::Environment;
use super::reader::Reader;
use super::relay::Relay;
use super::relay_reading::{self, CATCHER_PORT};
use super::transports::{self, Way};
use super::variables::Variables;
use super::worker::Worker;
use super::{DomainLimits, Limits, Log, http, sender};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What `facteur dev` runs with: development, on this machine, with what it brings itself.
#[derive(Debug, Clone)]
pub struct DevSettings {
    /// Where the API listens.
    pub http: SocketAddr,
    /// What the API lets one caller do.
    pub limits: Limits,
    /// Where the page of the inbox listens.
    pub inbox_http: SocketAddr,
    /// Where the inbox takes mail.
    pub inbox_smtp: SocketAddr,
    /// Where mail goes: the inbox, unless `SMTP_HOST` names something else.
    /// Port 0 is the inbox's, which only whoever opens it learns.
    pub relay: Relay,
    /// `MAIL_TRANSPORTS`: where mail goes instead; empty when unset.
    pub transports: Vec<Way>,
    /// `DATABASE_URL`; a private Postgres when unset.
    pub database_url: Option<SecretString>,
    /// How the database is reached.
    pub database: DatabaseAccess,
    /// The folder of the private Postgres and of the inbox: `.facteur` here, unless `FACTEUR_HOME` says otherwise.
    pub home: PathBuf,
    /// `FACTEUR_POSTGRES_MIRROR`: where PostgreSQL is downloaded from, instead of its makers' own place.
    pub postgres_mirror: Option<String>,
    /// `EMAIL_FROM`: the sender of mail that names none.
    pub sender: String,
    /// The worker's pace.
    pub worker: Worker,
    /// How much may go to one recipients' domain.
    pub domains: DomainLimits,
}

impl DevSettings {
    /// Reads everything that `facteur dev` runs with, or says everything that is wrong with it.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let settings = Self::read(&mut reader);
        reader.finish(settings)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        refuse_other_environments(reader);
        Log::read(reader);
        let http = http::read(reader, Environment::Development);
        let limits = Limits::read(reader, Environment::Development);
        let inbox_http = http::read_port(reader, "INBOX_HTTP_PORT").unwrap_or(1080);
        let inbox_smtp = http::read_port(reader, "INBOX_SMTP_PORT");
        let catcher = inbox_smtp.unwrap_or(CATCHER_PORT);
        let transports = transports::read(reader, Environment::Development);
        let relay = relay_reading::read(reader, Environment::Development, catcher);
        let sender = sender::read(reader, Environment::Development);
        let (database_url, database) = database::read(reader);
        let worker = Worker::read(reader);
        let domains = DomainLimits::read(reader);
        let home = reader.text("FACTEUR_HOME");
        let mirror = reader.text("FACTEUR_POSTGRES_MIRROR");

        let relay = relay?;
        let relays_port = Some(relay.port).filter(|_| relay.is_loopback());
        let inbox_smtp = inbox_smtp.or(relays_port).unwrap_or(CATCHER_PORT);
        check_ports(reader, [http.port(), inbox_http, inbox_smtp]);
        Some(Self {
            http,
            limits,
            inbox_http: SocketAddr::new(LOOPBACK, inbox_http),
            inbox_smtp: SocketAddr::new(LOOPBACK, inbox_smtp),
            relay,
            transports: transports.unwrap_or_default(),
            database_url,
            database,
            home: home.map_or_else(|| ".facteur".into(), |found| found.value.into()),
            postgres_mirror: mirror.map(|found| found.value),
            sender: sender?,
            worker,
            domains,
        })
    }
}

/// Whoever wrote `APP_ENV=production` does not want open doors and mail that goes nowhere.
fn refuse_other_environments(reader: &mut Reader<'_>) {
    if Environment::read(reader, Environment::Development) != Environment::Development {
        let text = "`facteur dev` is development: without tokens, on this machine; for staging \
                    and production use `facteur serve`";
        reader.fault(&["APP_ENV"], text);
    }
}

fn check_ports(reader: &mut Reader<'_>, [api, page, smtp]: [u16; 3]) {
    let pairs = [
        ("HTTP_PORT", api, "INBOX_HTTP_PORT", page),
        ("HTTP_PORT", api, "INBOX_SMTP_PORT", smtp),
        ("INBOX_HTTP_PORT", page, "INBOX_SMTP_PORT", smtp),
    ];
    for (one, port, other, same) in pairs {
        // Port 0 is whichever is free, a different one each time.
        if port == same && port != 0 {
            let text = format!("both are {port}; each needs a port of its own");
            reader.fault(&[one, other], text);
        }
    }
}
