//! Delivery: takes due mail from the outbox, sends it, and writes down what became of it.
//!
//! Decided purely, then acted on: [`RetryPolicy`] and the verdict have no I/O; the worker has no rules.

mod attempt;
mod cool_off;
mod counts;
mod gate;
mod held;
mod in_flight;
mod pulse;
mod retry_policy;
mod run;
mod settler;
mod verdict;
mod worker;

pub use retry_policy::RetryPolicy;
pub use run::Shutdown;
pub use worker::{Tick, Worker};
