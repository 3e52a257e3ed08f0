use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::Stage;
use super::deadlines::Deadlines;
use super::failure::Failure;
use crate::settings::Relay;

/// Why TLS cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No authority to check the relay's certificate against.
    #[error(
        "this machine has no certificate authorities to check the relay's certificate against; install ca-certificates"
    )]
    NoAuthorities,
    /// rustls refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// Not a name that a certificate could carry.
    #[error("{0:?} is not a host name or address that a certificate could be checked against")]
    Name(String),
}

/// Checks the relay's certificate against its name and a set of authorities.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts these authorities and the relay's own; shows the relay's client certificate to whoever asks.
    pub(super) fn new(relay: &Relay, mut roots: RootCertStore) -> Result<Self, TlsError> {
        let host = relay.host.as_str();
        for authority in &relay.authorities {
            roots.add(authority.clone())?;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &relay.client_certificate {
            Some(ours) => config.with_client_auth_cert(ours.chain.clone(), ours.key.clone_key())?,
            None => config.with_no_client_auth(),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// The handshake. A certificate that does not hold is not a passing fault.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        deadlines: &Deadlines,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let stage = Stage::Tls;
        match timeout(deadlines.tls, self.connector.connect(self.name.clone(), stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if is_certificate_fault(&error) => {
                Err(Failure::Unfit { stage, text: error.to_string() })
            }
            Ok(Err(error)) => Err(Failure::Broken { stage, text: error.to_string() }),
            Err(_) => Err(Failure::late(stage)),
        }
    }
}

/// The authorities that this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
///
/// # Errors
/// None could be read.
pub fn machine_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
}

/// Theirs does not hold, or they do not take ours. With TLS 1.3 the latter comes to light at the
/// first read after the handshake.
pub(super) fn is_certificate_fault(error: &std::io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => true,
        Some(rustls::Error::AlertReceived(alert)) => matches!(
            alert,
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                // The signature on ours is not by whom it names.
                | Alert::DecryptError
                | Alert::AccessDenied
        ),
        _ => false,
    }
}
