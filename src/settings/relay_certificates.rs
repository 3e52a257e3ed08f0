//! Certificates from files: authorities besides the machine's, and the one that we show.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::reader::{Found, Reader, shown_path};

/// A file larger than this is no list of certificates that anybody wrote.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// The certificate that we show to a relay, with its key.
#[derive(Clone)]
pub struct ClientCertificate {
    /// Ours first, then those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key: never shown.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// What the three files hold; empty where none was named.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<ClientCertificate>,
    /// The variables that were set.
    pub(super) names: Vec<String>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Certificates {
    let authorities = reader.text("SMTP_CA_FILE");
    let certificate = read_path(reader, "SMTP_CLIENT_CERT_FILE", "EMAIL_SSL_CERTFILE");
    let key = read_path(reader, "SMTP_CLIENT_KEY_FILE", "EMAIL_SSL_KEYFILE");
    let named = [&authorities, &certificate, &key];
    let names = named.into_iter().flatten().map(|found| found.name.clone()).collect();
    Certificates {
        authorities: authorities.and_then(|path| read_authorities(reader, &path)).unwrap_or_default(),
        client: read_client(reader, certificate, key),
        names,
    }
}

fn read_path(reader: &mut Reader<'_>, ours: &str, django: &str) -> Option<Found<String>> {
    let (one, other) = (reader.text(ours), reader.text(django));
    reader.agreed(one, other, PartialEq::eq)
}

fn read_authorities(reader: &mut Reader<'_>, path: &Found<String>) -> Option<Vec<CertificateDer<'static>>> {
    let found = certificates(&path.value).and_then(|certificates| {
        let mut roots = RootCertStore::empty();
        match certificates.iter().try_for_each(|one| roots.add(one.clone())) {
            Ok(()) => Ok(certificates),
            Err(error) => Err(format!("holds what is no certificate of an authority: {error}")),
        }
    });
    noted(reader, path, found)
}

fn read_client(
    reader: &mut Reader<'_>,
    certificate: Option<Found<String>>,
    key: Option<Found<String>>,
) -> Option<ClientCertificate> {
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        (Some(set), None) => return half(reader, &set.name, "SMTP_CLIENT_KEY_FILE", "EMAIL_SSL_KEYFILE"),
        (None, Some(set)) => return half(reader, &set.name, "SMTP_CLIENT_CERT_FILE", "EMAIL_SSL_CERTFILE"),
    };
    let chain = certificates(&certificate.value);
    let chain = noted(reader, &certificate, chain);
    let found = private_key(&key.value);
    let found = noted(reader, &key, found);
    let (chain, found) = (chain?, found?);
    let provider = rustls::crypto::ring::default_provider();
    if let Err(error) = CertifiedKey::from_der(chain.clone(), found.clone_key(), &provider) {
        let text = format!(
            "the key in {} does not go with the certificate in {}: {error}",
            shown_path(&key.value),
            shown_path(&certificate.value)
        );
        reader.fault(&[&certificate.name, &key.name], text);
        return None;
    }
    Some(ClientCertificate { chain, key: Arc::new(found) })
}

fn half(reader: &mut Reader<'_>, set: &str, missing: &str, django: &str) -> Option<ClientCertificate> {
    let text = format!("{set} is set without it; a client certificate is a certificate and its key");
    if !reader.is_faulty(&[missing, django]) {
        reader.fault(&[missing], text);
    }
    None
}

/// What a file holds, or a fault that names the variable and the file.
fn noted<T>(reader: &mut Reader<'_>, path: &Found<String>, found: Result<T, String>) -> Option<T> {
    found
        .map_err(|problem| {
            reader.fault(&[&path.name], format!("the file {} {problem}", shown_path(&path.value)));
        })
        .ok()
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = content(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned())
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("holds no certificate in PEM: {error}")),
    }
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    // The parser's own words could quote the key.
    PrivateKeyDer::from_pem_slice(&content(path)?)
        .map_err(|_| "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned())
}

fn content(path: &str) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut content))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() as u64 > LARGEST_FILE {
        return Err("is larger than 4 MiB, which no list of certificates is".to_owned());
    }
    Ok(content)
}
