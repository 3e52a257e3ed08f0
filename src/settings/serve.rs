//! `facteur serve` and `facteur worker`.

use std::net::SocketAddr;

use super::faults::Faults;
use super::profile::{Environment, Profile};
use super::reader::Reader;
use super::variables::Variables;
use super::{Database, Limits, Log, Otlp, Worker, http, sender};

/// What `facteur serve` and `facteur worker` run with.
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
        let database = Database::read(reader);
        let sender = sender::read(reader, environment);
        let worker = Worker::read(reader);
        Some(Self { profile: profile?, http, limits, database: database?, sender: sender?, worker })
    }
}
