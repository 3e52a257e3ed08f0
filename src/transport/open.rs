//! From what the settings name to what mail leaves through.

use super::Transport;
use super::smtp::{SmtpTransport, TlsError};
#[cfg(not(feature = "providers"))]
use crate::settings::Api;
use crate::settings::{Kind, Way};

/// Why a way out cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// TLS cannot be set up.
    #[error("transport {name}: {source}")]
    Tls {
        /// Which way.
        name: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The API's client cannot be set up.
    #[cfg(feature = "providers")]
    #[error("transport {name}: {source}")]
    Api {
        /// Which way.
        name: String,
        /// Why.
        #[source]
        source: super::api::ApiError,
    },
    /// This program was built without it.
    #[cfg(not(feature = "providers"))]
    #[error(
        "transport {name}: {provider}'s API is not built in; give the provider's SMTP server instead, as smtp://…"
    )]
    NotBuiltIn {
        /// Which way.
        name: String,
        /// Whose API.
        provider: &'static str,
    },
}

impl Transport {
    /// Opens a way out; nothing is connected yet.
    ///
    /// # Errors
    /// TLS cannot be set up, or this program was built without that provider.
    pub fn open(way: &Way) -> Result<Self, OpenError> {
        let name = || way.name.clone();
        match &way.kind {
            Kind::Smtp(relay) => match SmtpTransport::new(relay) {
                Ok(smtp) => Ok(Self::Smtp(smtp)),
                Err(source) => Err(OpenError::Tls { name: name(), source }),
            },
            #[cfg(feature = "providers")]
            Kind::Api(api) => match super::api::ApiTransport::new(api) {
                Ok(api) => Ok(Self::Api(api)),
                Err(source) => Err(OpenError::Api { name: name(), source }),
            },
            #[cfg(not(feature = "providers"))]
            Kind::Api(api) => Err(OpenError::NotBuiltIn { name: name(), provider: provider(api) }),
        }
    }
}

#[cfg(not(feature = "providers"))]
fn provider(api: &Api) -> &'static str {
    match api {
        Api::Ses(_) => "Amazon SES",
        Api::Mailgun(_) => "Mailgun",
        Api::SendGrid(_) => "SendGrid",
        Api::Postmark(_) => "Postmark",
        Api::Brevo(_) => "Brevo",
        Api::Mailjet(_) => "Mailjet",
        Api::Scaleway(_) => "Scaleway",
    }
}
