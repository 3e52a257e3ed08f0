//! The HTTP door as the Resend clients use it, over a real socket, with a real Postgres: the conformance
//! list of the contract, and what is ours besides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod attachments;
mod batch;
mod door;
mod emails;
mod fetch;
mod file_server;
mod keys;
mod life;
mod limits;
mod lists;
mod naughty;
mod roles;
mod rust_sdk;
mod sdk;
mod vanishing;
