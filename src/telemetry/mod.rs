//! What tells of Facteur from outside: the log, and what is counted and measured.
//!
//! Counting goes through the `metrics` facade: without a recorder it costs next to nothing and goes nowhere.
//! `facteur serve` and `facteur dev` install one and answer `GET /metrics` with it; an application that
//! uses the library installs its own, and calls [`describe`] with [`PROCESS`] for the help texts.

#[cfg(feature = "server")]
mod exposition;
pub mod families;
#[cfg(feature = "server")]
mod log;
mod trace;

#[cfg(feature = "server")]
pub use exposition::{Exposition, recorder};
pub use families::{DATABASE, Family, Kind, PROCESS, describe};
#[cfg(feature = "server")]
pub use log::{TelemetryError, init};
#[cfg(feature = "server")]
pub use trace::Traces;
pub(crate) use trace::{TARGET as TRACE, continues, traceparent};
