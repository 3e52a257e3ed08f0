//! One file per way out; every answer becomes one [`Outcome`].

mod open;
mod outcome;
pub mod smtp;

use std::future::Future;

pub use open::OpenError;
pub use outcome::{Outcome, Report, Stage};

/// One mail for one recipient, ready for the wire.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The envelope's sender.
    pub from: &'a str,
    /// The envelope's recipient.
    pub to: &'a str,
    /// The rendered message: CRLF line ends, ASCII.
    pub message: &'a [u8],
}

/// What a transport asks on the way, so that nothing leaves under a lease that is lost.
pub trait Gate: Sync {
    /// Asked before the content is announced. False: nothing may be sent.
    fn before_data(&self) -> impl Future<Output = bool> + Send;

    /// Asked right before the last byte that makes the mail a mail. False: the connection is
    /// dropped instead, and there is no mail.
    fn before_dot(&self) -> bool;

    /// Resolves when a mail that has not come to its last byte should be given up.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

/// A way out of the house.
#[derive(Debug)]
pub enum Transport {
    /// An SMTP server.
    Smtp(smtp::SmtpTransport),
}

impl Transport {
    /// What logs, events and outcomes call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Smtp(smtp) => smtp.name(),
        }
    }

    /// Sends one mail; ends within the deadlines of its stages, whatever the server does.
    pub async fn send(&self, parcel: Parcel<'_>, gate: &impl Gate) -> Outcome {
        match self {
            Self::Smtp(smtp) => smtp.send(parcel, gate).await,
        }
    }

    /// Logs in and out again, without sending.
    ///
    /// # Errors
    /// What stands in the way, as sending would meet it.
    pub async fn check(&self) -> Result<(), Report> {
        match self {
            Self::Smtp(smtp) => smtp.check().await,
        }
    }

    /// Closes connections that idled for too long.
    pub async fn close_idle(&self) {
        match self {
            Self::Smtp(smtp) => smtp.close_idle().await,
        }
    }
}
