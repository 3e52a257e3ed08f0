#![doc = include_str!("../README.md")]

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
mod crash;
pub mod delivery;
pub mod email;
// Its examples run against a Postgres that `local` brings.
#[cfg(any(not(doctest), feature = "local"))]
#[doc = include_str!("guide.md")]
pub mod guide {}
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "local")]
pub mod inbox;
#[cfg(feature = "local")]
pub mod local_postgres;
pub mod outbox;
mod send;
pub mod settings;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;

pub use email::{Attachment, Email, EmailId, InvalidEmail};
pub use outbox::{Outbox, OutboxError, enqueue, migrate};
pub use send::{SendError, send_email};
