//! Delivery: takes due mail from the outbox, sends it, and writes down what became of it.
//!
//! Decided purely, then acted on: [`RetryPolicy`] and the verdict have no I/O; the worker has no rules.

mod attempt;
mod blame;
mod breaker;
mod counts;
mod domains;
mod gate;
mod held;
mod in_flight;
mod lane;
mod order;
mod pulse;
mod retry_policy;
mod route;
mod run;
mod settler;
mod upkeep;
mod verdict;
mod worker;

pub use retry_policy::RetryPolicy;
pub use route::Route;
pub use run::Shutdown;
pub use worker::{Tick, Worker};
