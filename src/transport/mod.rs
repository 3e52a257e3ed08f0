//! One file per way out; every answer becomes one [`Outcome`].

#[cfg(feature = "providers")]
pub mod api;
mod open;
mod outcome;
mod recorder;
mod reply;
pub mod smtp;

use std::future::Future;

use crate::email::StoredEmail;

pub use open::OpenError;
pub use outcome::{Outcome, Report, Stage};
pub use recorder::{Recorder, Said, Speaker};
pub(crate) use reply::{enhanced, says_too_fast};

/// One mail for one recipient, ready for the wire.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The envelope's sender.
    pub from: &'a str,
    /// The envelope's recipient.
    pub to: &'a str,
    /// The rendered message: CRLF line ends, ASCII.
    pub message: &'a [u8],
    /// What it was rendered from, for an API that wants parts and not a message.
    pub email: &'a StoredEmail,
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
#[cfg_attr(
    feature = "providers",
    expect(
        clippy::large_enum_variant,
        reason = "there are a few of them in a process, and they stay where they are"
    )
)]
pub enum Transport {
    /// An SMTP server.
    Smtp(smtp::SmtpTransport),
    /// A provider's HTTP API.
    #[cfg(feature = "providers")]
    Api(api::ApiTransport),
}

impl Transport {
    /// What logs, events and outcomes call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Smtp(smtp) => smtp.name(),
            #[cfg(feature = "providers")]
            Self::Api(api) => api.name(),
        }
    }

    /// The same, with everything that is said on the way taken down.
    #[must_use]
    pub fn recording(self, recorder: Recorder) -> Self {
        match self {
            Self::Smtp(smtp) => Self::Smtp(smtp.recording(recorder)),
            #[cfg(feature = "providers")]
            Self::Api(api) => Self::Api(api.recording(recorder)),
        }
    }

    /// Sends one mail; ends within the deadlines of its stages, whatever the server does.
    pub async fn send(&self, parcel: Parcel<'_>, gate: &impl Gate) -> Outcome {
        match self {
            Self::Smtp(smtp) => smtp.send(parcel, gate).await,
            #[cfg(feature = "providers")]
            Self::Api(api) => api.send(parcel, gate).await,
        }
    }

    /// Logs in and out again, without sending.
    ///
    /// # Errors
    /// What stands in the way, as sending would meet it.
    pub async fn check(&self) -> Result<(), Report> {
        match self {
            Self::Smtp(smtp) => smtp.check().await,
            #[cfg(feature = "providers")]
            Self::Api(api) => api.check().await,
        }
    }

    /// Closes connections that idled for too long.
    pub async fn close_idle(&self) {
        match self {
            Self::Smtp(smtp) => smtp.close_idle().await,
            // Its connections are closed by the client after some seconds.
            #[cfg(feature = "providers")]
            Self::Api(_) => {}
        }
    }
}
