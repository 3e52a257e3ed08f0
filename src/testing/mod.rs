//! Stands in for what cannot be had in a test: an SMTP server and providers' APIs that fail on cue, an authority
//! that certifies them, and a [`TcpProxy`] that breaks the way to any server. The APIs are in [`FakeProvider`].
//!
//! The server is real sockets and real TLS. What it does wrong is written in a [`Script`], what
//! happened is read from the [`SmtpServer`] afterwards: [`accepted`](SmtpServer::accepted) mails,
//! and the [`conversations`](SmtpServer::conversations) byte by byte.
//!
//! ```
//! use facteur::testing::{Fault, Script, SmtpServer, Stage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let script = Script::new()
//!     .at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user"))
//!     .for_recipient("nobody@example.com")
//!     .at(Stage::EndOfData, Fault::stall().accepting())
//!     .on_mail(3);
//! let server = SmtpServer::start(script).await?;
//!
//! let relay = server.relay(); // what a transport or a worker is given
//! assert_eq!(relay.port, server.addr().port());
//! assert_eq!(server.accepted().len(), 0);
//! # Ok(())
//! # }
//! ```

mod authority;
mod base64;
mod channel;
mod fault;
mod journal;
mod login;
mod providers;
mod proxy;
mod record;
mod script;
mod server;
mod session;
mod token_endpoint;
mod transcript;

pub use authority::{AuthorityError, Identity, TestAuthority};
pub use fault::Fault;
pub use providers::{Cue, FakeProvider, Provider, Reply, TakenMail, Trouble};
pub use proxy::TcpProxy;
pub use record::AcceptedMail;
pub use script::{Script, Stage};
pub use server::{Counters, SmtpServer};
pub use token_endpoint::TokenEndpoint;
pub use transcript::{Chunk, Conversation, Speaker};
