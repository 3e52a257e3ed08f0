//! `facteur serve`, and `facteur worker`, which has no door and so needs neither key nor sender.

use std::net::SocketAddr;

use super::faults::Faults;
use super::profile::{Environment, Profile, Ways};
use super::reader::Reader;
use super::variables::Variables;
use super::{Database, DomainLimits, Limits, Log, Otlp, Way, Worker, http, sender};

/// What `facteur serve` runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Facteur runs, and with it what it lets happen.
    pub profile: Profile,
    /// Where the API listens.
    pub http: SocketAddr,
    /// What the API lets one caller do.
    pub limits: Limits,
    /// The database.
    pub database: Database,
    /// `EMAIL_FROM`: the sender of mail that names none, as `Name <address>` or a bare address.
    pub sender: String,
    /// The worker's pace.
    pub worker: Worker,
    /// How much may go to one recipients' domain.
    pub domains: DomainLimits,
    /// Where metrics and probes have a port of their own.
    pub metrics: Option<SocketAddr>,
    /// Whether what is in the queue at the start is parked: after a restore.
    pub hold_on_start: bool,
}

/// What `facteur worker` runs with.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Where mail goes, in order of preference; nothing in clear over a network in production.
    pub ways: Vec<Way>,
    /// The database.
    pub database: Database,
    /// The worker's pace.
    pub worker: Worker,
    /// How much may go to one recipients' domain.
    pub domains: DomainLimits,
    /// Where metrics and probes have a port; none is no port at all.
    pub metrics: Option<SocketAddr>,
    /// Whether what is in the queue at the start is parked: after a restore.
    pub hold_on_start: bool,
}

impl WorkerSettings {
    /// Reads everything that a worker needs, or says everything that is wrong with it.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let settings = Self::read(&mut reader);
        reader.finish(settings)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let environment = Environment::read(reader, Environment::Production);
        Log::read(reader);
        Otlp::read(reader);
        let ways = Ways::read(reader, environment);
        let database = Database::read(reader, environment);
        let worker = Worker::read(reader);
        let metrics = http::read_metrics(reader);
        let hold_on_start = read_hold(reader);
        let domains = DomainLimits::read(reader);
        Some(Self { ways: ways?.into_vec(), database: database?, worker, domains, metrics, hold_on_start })
    }
}

/// What a worker takes of a process that has a door too.
impl From<&Settings> for WorkerSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            ways: settings.profile.ways().to_vec(),
            database: settings.database.clone(),
            worker: settings.worker.clone(),
            domains: settings.domains.clone(),
            metrics: settings.metrics,
            hold_on_start: settings.hold_on_start,
        }
    }
}

fn read_hold(reader: &mut Reader<'_>) -> bool {
    reader.flag("MAIL_HOLD_ON_START").is_some_and(|found| found.value)
}

impl Settings {
    /// Reads everything that Facteur serves with, or says everything that is wrong with it.
    ///
    /// The variables of the log are held to their rules here too, so that their faults come with
    /// the others.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let settings = Self::read(&mut reader);
        reader.finish(settings)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let environment = Environment::read(reader, Environment::Production);
        Log::read(reader);
        Otlp::read(reader);
        // Everything is read before anything is missed, so that every fault is found.
        let profile = Profile::read(reader, environment);
        let http = http::read(reader, environment);
        let limits = Limits::read(reader, environment);
        let database = Database::read(reader, environment);
        let sender = sender::read(reader, environment);
        let worker = Worker::read(reader);
        let metrics = http::read_metrics(reader);
        let hold_on_start = read_hold(reader);
        let domains = DomainLimits::read(reader);
        let (profile, database, sender) = (profile?, database?, sender?);
        Some(Self { profile, http, limits, database, sender, worker, domains, metrics, hold_on_start })
    }
}
