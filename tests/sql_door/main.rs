//! The SQL door beside the library's, and HTTP's: what one takes the others take, as the same rows and the same bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod both;
mod broken;
mod domains;
mod http;
mod mail;
mod naughty;
mod options;
mod paper;
mod random;
mod role;
mod rows;
mod speed;
mod table;
mod wake;
