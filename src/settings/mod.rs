//! The only reader of the environment.
//!
//! Everything that can be set is read here, once, at start-up; every fault is reported at once,
//! with the name of the variable and what it accepts. The types have no value for what must not
//! run: production without a JWT key, or with a relay that would carry mail in clear over a network.
//!
//! [`Variables`] says where values come from, [`Settings`] and its siblings say what becomes of
//! them, and [`Faults`] why not. `known.rs` is the table of every variable there is.

mod api;
mod database;
mod dev;
mod domain_limits;
#[cfg(feature = "server")]
mod dotenv;
mod duration;
#[cfg(test)]
mod example;
mod faults;
mod fetching;
mod http;
mod jwt;
mod keep;
mod known;
mod limits;
mod log;
mod otlp;
mod outgoing;
mod passwords;
mod probe;
mod profile;
mod reader;
mod relay;
mod relay_certificates;
mod relay_oauth;
mod relay_reading;
mod sender;
mod serve;
#[cfg(test)]
mod tests;
mod transport_url;
mod transports;
mod url_password;
mod variables;
mod worker;

pub use secrecy::{ExposeSecret, SecretString};

pub use self::api::{Api, Brevo, Mailgun, Mailjet, Postmark, Region, Scaleway, SendGrid, Ses};
pub use self::database::{Database, DatabaseAccess, Pooler};
pub use self::dev::DevSettings;
pub use self::domain_limits::{DomainLimit, DomainLimits};
pub use self::duration::parse as parse_duration;
pub use self::faults::{Fault, Faults};
pub use self::fetching::Fetching;
pub use self::jwt::{JwtKey, WeakKey};
pub use self::keep::Keep;
pub use self::limits::Limits;
pub use self::log::{Log, LogFormat};
pub use self::otlp::Otlp;
pub use self::outgoing::Outgoing;
pub use self::probe::read as probe_addresses;
pub use self::profile::{Profile, SecureWays};
#[cfg(feature = "providers")]
pub(crate) use self::relay::is_loopback;
pub use self::relay::{Credentials, PlainRelay, Relay, SecureRelay, Tls};
pub use self::relay_certificates::ClientCertificate;
pub use self::relay_oauth::OAuth;
pub use self::sender::default_sender;
pub use self::serve::{Settings, WorkerSettings};
pub use self::transports::{Kind, Pace, Way};
pub use self::variables::{Variables, os_user};
pub use self::worker::Worker;
