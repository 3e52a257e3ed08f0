//! The only reader of the environment.
//!
//! Everything that can be set is read here, once, at start-up; every fault is reported at once,
//! with the name of the variable and what it accepts. The types have no value for what must not
//! run: production without a JWT key, or with a relay that would carry mail in clear over a network.
//!
//! [`Variables`] says where values come from, [`Settings`] and its siblings say what becomes of
//! them, and [`Faults`] why not. `known.rs` is the table of every variable there is.

mod database;
mod dev;
#[cfg(feature = "server")]
mod dotenv;
mod duration;
#[cfg(test)]
mod example;
mod faults;
mod http;
mod jwt;
mod keep;
mod known;
mod limits;
mod log;
mod profile;
mod reader;
mod relay;
mod relay_reading;
mod sender;
mod serve;
#[cfg(test)]
mod tests;
mod variables;
mod worker;

pub use secrecy::{ExposeSecret, SecretString};

pub use self::database::{Database, DatabaseAccess, Pooler};
pub use self::dev::DevSettings;
pub use self::faults::{Fault, Faults};
pub use self::jwt::{JwtKey, WeakKey};
pub use self::keep::Keep;
pub use self::limits::Limits;
pub use self::log::{Log, LogFormat};
pub use self::profile::Profile;
pub use self::relay::{Credentials, PlainRelay, Relay, SecureRelay, Tls};
pub use self::sender::default_sender;
pub use self::serve::Settings;
pub use self::variables::Variables;
pub use self::worker::Worker;
