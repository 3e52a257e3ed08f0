//! Facteur: a mail backend with a durable outbox.

pub mod delivery;
pub mod email;
#[cfg(feature = "local")]
pub mod inbox;
#[cfg(feature = "local")]
pub mod local_postgres;
pub mod outbox;
pub mod settings;
#[cfg(feature = "cli")]
pub mod telemetry;
pub mod transport;

pub use email::{Email, EmailId, InvalidEmail};
