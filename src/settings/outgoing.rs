//! What sending takes, and nothing else: `facteur send`.

use super::faults::Faults;
use super::profile::{Environment, Ways};
use super::reader::Reader;
use super::sender;
use super::transports::Way;
use super::variables::Variables;

/// What mail leaves with: no database, no door, no token.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The ways that mail leaves by, in order of preference.
    pub ways: Vec<Way>,
    /// `EMAIL_FROM`: the sender of mail that names none.
    pub sender: String,
}

impl Outgoing {
    /// Reads them, under the rules of the environment that `APP_ENV` names.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_variables(variables: &Variables) -> Result<Self, Faults> {
        let mut reader = Reader::new(variables);
        let environment = Environment::read(&mut reader, Environment::Production);
        let ways = Ways::read(&mut reader, environment).map(Ways::into_vec);
        let sender = sender::read(&mut reader, environment);
        let outgoing = ways.zip(sender).map(|(ways, sender)| Self { ways, sender });
        reader.finish(outgoing)
    }
}
