//! Facteur: a mail backend with a durable outbox.

#[cfg(feature = "local")]
pub mod inbox;
#[cfg(feature = "local")]
pub mod local_postgres;
pub mod settings;
#[cfg(feature = "cli")]
pub mod telemetry;
