use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::base64::pem;

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not a host name, or no randomness.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// rustls does not take it.
    #[error("the certificate cannot be used: {0}")]
    Use(#[from] rustls::Error),
    /// Clients cannot be checked against it.
    #[error("clients cannot be checked: {0}")]
    Clients(#[from] VerifierBuilderError),
}

/// An authority that lives as long as a test, and certifies what the test asks for.
pub struct TestAuthority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key: what a server proves its name with.
#[derive(Clone)]
pub struct Identity {
    pub(super) config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl TestAuthority {
    /// A new authority, which nobody trusts yet.
    ///
    /// # Errors
    /// There is no randomness to make its key from.
    pub fn new() -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// What a client that trusts this authority is given.
    ///
    /// # Errors
    /// rustls does not take its certificate.
    pub fn roots(&self) -> Result<RootCertStore, AuthorityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }

    /// Its certificate as a file has it: what `SMTP_CA_FILE` names.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// A certificate that a client of this name shows.
    ///
    /// # Errors
    /// It is not a host name.
    pub fn issue_client(&self, name: &str) -> Result<Identity, AuthorityError> {
        let mut params = params(name)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.signed(params)
    }

    /// A certificate for this host name or address, valid for long.
    ///
    /// # Errors
    /// It is not a host name.
    pub fn issue(&self, host: &str) -> Result<Identity, AuthorityError> {
        self.signed(params(host)?)
    }

    /// The same, but it expired in 2001.
    ///
    /// # Errors
    /// It is not a host name.
    pub fn issue_expired(&self, host: &str) -> Result<Identity, AuthorityError> {
        let mut params = params(host)?;
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.signed(params)
    }

    fn signed(&self, params: CertificateParams) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Identity::new(vec![certificate.der().clone()], &key)
    }
}

impl Identity {
    /// A certificate that vouches for itself.
    ///
    /// # Errors
    /// It is not a host name.
    pub fn self_signed(host: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params(host)?.self_signed(&key)?;
        Self::new(vec![certificate.der().clone()], &key)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<Self, AuthorityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())?;
        Ok(Self { config: Arc::new(config), chain, key: key.secret_der().to_vec() })
    }

    /// The same, of a server that turns away whoever shows no certificate of this authority.
    ///
    /// # Errors
    /// rustls does not take it.
    pub fn for_clients_of(mut self, authority: &TestAuthority) -> Result<Self, AuthorityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(authority.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), key)?;
        self.config = Arc::new(config);
        Ok(self)
    }

    /// Its certificate as a file has it.
    pub fn pem(&self) -> String {
        self.chain.iter().map(|one| pem("CERTIFICATE", one)).collect()
    }

    /// Its private key as a file has it.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn params(host: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

impl fmt::Debug for TestAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestAuthority")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}
