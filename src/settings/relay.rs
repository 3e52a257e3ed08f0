//! The SMTP server that mail leaves through.

use std::net::IpAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use secrecy::SecretString;

use super::relay_certificates::ClientCertificate;
use super::relay_oauth::OAuth;

/// How mail is handed to one SMTP server.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Host name or address; the name is what its certificate is checked against.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What protects the connection.
    pub tls: Tls,
    /// The login, where the server wants one.
    pub credentials: Option<Credentials>,
    /// The name given in EHLO; the machine's own when unset.
    pub hello_name: Option<String>,
    /// Authorities of one's own, besides the machine's: `SMTP_CA_FILE`.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What we show to a server that asks who connects.
    pub client_certificate: Option<ClientCertificate>,
    /// Tokens, where the server wants them instead of a password: goes before the credentials.
    pub oauth: Option<OAuth>,
    /// At most this many connections at once.
    pub max_connections: usize,
    /// A connection that has carried so many mails is closed.
    pub max_per_connection: u32,
    /// One that carried none for so long is closed.
    pub idle_timeout: Duration,
    /// One that has been open for so long is closed.
    pub max_connection_age: Duration,
}

/// Mails on one connection: many relays count them.
pub(super) const MAX_PER_CONNECTION: u32 = 100;
/// Shorter than the five minutes after which servers hang up (RFC 5321 §4.5.3.2.7).
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Old connections lead to addresses that a name no longer has.
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);

/// What protects the connection to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Plain text: loopback and development only.
    None,
    /// Plain text, then `STARTTLS`, which the server must offer (port 587).
    StartTls,
    /// TLS from the first byte (port 465, RFC 8314).
    Implicit,
}

/// The login at a relay.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Some providers put an API key here, so it is kept like the password.
    pub username: SecretString,
    /// The password.
    pub password: SecretString,
}

/// A relay that carries nothing in clear over a network: TLS, or a loopback address.
#[derive(Debug, Clone)]
pub struct SecureRelay(Relay);

/// A relay that would carry mail in clear over a network.
#[derive(Debug, thiserror::Error)]
#[error(
    "mail would cross the network in clear: use starttls or implicit TLS; \
     none is for a server on this machine (localhost, 127.0.0.1, ::1)"
)]
pub struct PlainRelay;

impl Relay {
    /// A relay in clear and without a login; the rest is as it is when no variable is set.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            tls: Tls::None,
            credentials: None,
            hello_name: None,
            authorities: Vec::new(),
            client_certificate: None,
            oauth: None,
            max_connections: 8,
            max_per_connection: MAX_PER_CONNECTION,
            idle_timeout: IDLE_TIMEOUT,
            max_connection_age: MAX_CONNECTION_AGE,
        }
    }

    /// Whether something secret is said to log in.
    pub fn has_login(&self) -> bool {
        self.credentials.is_some() || self.oauth.is_some()
    }

    /// Whether the server is on this machine: `localhost`, or an address of the loopback interface.
    /// Any other name can lead anywhere.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl SecureRelay {
    /// Takes a relay that has TLS or is on this machine.
    pub fn new(relay: Relay) -> Result<Self, PlainRelay> {
        if relay.tls == Tls::None && !relay.is_loopback() {
            return Err(PlainRelay);
        }
        Ok(Self(relay))
    }

    /// The relay itself.
    pub fn get(&self) -> &Relay {
        &self.0
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A host name or an address, without a port and without a scheme.
pub(super) fn parse_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let host = bare.unwrap_or(text);
    if host.parse::<IpAddr>().is_ok() {
        return Some(host.to_owned());
    }
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let acceptable = bare.is_none()
        && (1..=253).contains(&host.len())
        && host.chars().all(name)
        && host.starts_with(|c: char| c.is_ascii_alphanumeric());
    acceptable.then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(host: &str, tls: Tls) -> Relay {
        Relay { tls, ..Relay::new(host, 25) }
    }

    #[test]
    fn a_secure_relay_has_tls_or_is_this_machine() {
        let loopback = ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"];
        for host in loopback {
            assert!(SecureRelay::new(relay(host, Tls::None)).is_ok(), "{host}");
        }
        let elsewhere = [
            "relay.test",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "127.1",
            "maildev",
        ];
        for host in elsewhere {
            assert!(SecureRelay::new(relay(host, Tls::None)).is_err(), "{host}");
            assert!(SecureRelay::new(relay(host, Tls::StartTls)).is_ok(), "{host}");
            assert!(SecureRelay::new(relay(host, Tls::Implicit)).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_more() {
        let accepted = ["relay.test", "mail-1", "mail_dev", "10.0.0.1", "::1", "smtp.test."];
        for host in accepted {
            assert_eq!(parse_host(host).as_deref(), Some(host));
        }
        assert_eq!(parse_host("[::1]").as_deref(), Some("::1"));
        let refused = [
            "",
            "relay.test:25",
            "smtp://relay.test",
            "me@relay.test",
            "re lay",
            "relay\r\nX",
            "-x",
            ".",
            "[relay]",
            "é.test",
        ];
        for host in refused {
            assert_eq!(parse_host(host), None, "{host:?}");
        }
    }
}
