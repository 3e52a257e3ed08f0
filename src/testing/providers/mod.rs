//! Providers' HTTP APIs on a port of this machine: real sockets, the real answers of their documentation,
//! and whatever should go wrong.

mod brevo;
mod mailgun;
mod mailjet;
mod manners;
mod postmark;
mod record;
mod reply;
mod scaleway;
mod sendgrid;
mod server;
mod ses;
mod wire;

pub use manners::{Provider, Trouble};
pub use record::TakenMail;
pub use reply::{Cue, Reply};
pub use server::FakeProvider;
