//! Facteur: a mail backend with a durable outbox.

#[cfg(feature = "server")]
pub mod app;
pub mod delivery;
pub mod email;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "local")]
pub mod inbox;
#[cfg(feature = "local")]
pub mod local_postgres;
pub mod outbox;
pub mod settings;
#[cfg(feature = "server")]
pub mod telemetry;
pub mod transport;

pub use email::{Email, EmailId, InvalidEmail};
