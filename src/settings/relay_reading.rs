//! The two families of SMTP variables, and what follows from what they leave unsaid.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::profile::Environment;
use super::reader::{Found, Reader};
use super::relay::{self, Credentials, Relay, Tls, is_loopback, parse_host};
use super::relay_certificates::{self, Certificates};
use super::relay_oauth::{self, OAuth};

/// The port of mail catchers: MailHog, Maildev, Mailpit, and Facteur's own inbox.
pub(super) const CATCHER_PORT: u16 = 1025;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What the variables say, both families taken together.
struct Said {
    host: Option<Found<String>>,
    port: Option<Found<u16>>,
    tls: Option<Found<Tls>>,
    credentials: Option<Credentials>,
    oauth: Option<OAuth>,
    certificates: Certificates,
}

/// What every SMTP server of these settings has in common, wherever it is.
pub(super) fn read_common(reader: &mut Reader<'_>, certificates: &Certificates) -> Relay {
    let hello_name = reader.parse("SMTP_HELLO_NAME", "a host name", parse_hello_name);
    Relay {
        hello_name: hello_name.map(|found| found.value),
        authorities: certificates.authorities.clone(),
        client_certificate: certificates.client.clone(),
        max_connections: reader.number("SMTP_MAX_CONNECTIONS", 8, 1..=1000),
        max_per_connection: reader.number("SMTP_MAX_PER_CONNECTION", relay::MAX_PER_CONNECTION, 1..=100_000),
        idle_timeout: reader.duration("SMTP_IDLE_TIMEOUT", relay::IDLE_TIMEOUT, SECOND..=HOUR),
        max_connection_age: reader.duration(
            "SMTP_MAX_CONNECTION_AGE",
            relay::MAX_CONNECTION_AGE,
            SECOND..=24 * HOUR,
        ),
        ..Relay::new("", 0)
    }
}

/// Reads the relay; in development it is on this machine, at `catcher_port`, unless said otherwise.
pub(super) fn read(reader: &mut Reader<'_>, environment: Environment, catcher_port: u16) -> Option<Relay> {
    let said = Said::read(reader);
    let common = read_common(reader, &said.certificates);

    let host = match &said.host {
        Some(host) => host.value.clone(),
        None => host_unsaid(reader, environment, &said)?,
    };
    let tls = said.tls.as_ref().map(|tls| tls.value);
    let tls = tls.unwrap_or_else(|| default_tls(environment, &host, &said));
    let port = said.port.as_ref().map(|port| port.value);
    let port = port.unwrap_or_else(|| default_port(environment, &host, tls, catcher_port));

    let relay = Relay { host, port, tls, credentials: said.credentials, oauth: said.oauth, ..common };
    if relay.tls == Tls::None
        && let Some(name) = said.certificates.names.first()
    {
        let text = "is for TLS, and there is none: use starttls or implicit TLS, or unset it";
        reader.fault(&[name], text);
    }
    if environment == Environment::Staging
        && relay.tls == Tls::None
        && relay.has_login()
        && !relay.is_loopback()
    {
        let text = "the login would cross the network in clear: use starttls or implicit TLS, \
                    or no login (a mail catcher needs none)";
        reader.fault(&[said.tls.as_ref().map_or("SMTP_TLS", |tls| &tls.name)], text);
    }
    Some(relay)
}

impl Said {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (host, port, tls) = (read_host(reader), read_port(reader), read_tls(reader));
        let (credentials, oauth) = read_login(reader);
        let certificates = relay_certificates::read(reader);
        Self { host, port, tls, credentials, oauth, certificates }
    }

    fn has_login(&self) -> bool {
        self.credentials.is_some() || self.oauth.is_some()
    }
}

fn read_host(reader: &mut Reader<'_>) -> Option<Found<String>> {
    let accepts = "a host name or an address (the port goes into SMTP_PORT)";
    let one = reader.parse("SMTP_HOST", accepts, parse_host);
    let other = reader.parse("EMAIL_HOST", accepts, parse_host);
    reader.agreed(one, other, |one, other| one.eq_ignore_ascii_case(other))
}

fn read_port(reader: &mut Reader<'_>) -> Option<Found<u16>> {
    let parse = |text: &str| text.parse().ok().filter(|&port| port > 0);
    let accepts = "a port: a number from 1 to 65535";
    let one = reader.parse("SMTP_PORT", accepts, parse);
    let other = reader.parse("EMAIL_PORT", accepts, parse);
    reader.agreed(one, other, PartialEq::eq)
}

fn read_tls(reader: &mut Reader<'_>) -> Option<Found<Tls>> {
    let one = reader.parse("SMTP_TLS", "none, starttls or implicit", parse_tls);
    let other = read_django_tls(reader);
    reader.agreed(one, other, PartialEq::eq)
}

fn parse_tls(text: &str) -> Option<Tls> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Some(Tls::None),
        "starttls" => Some(Tls::StartTls),
        "implicit" => Some(Tls::Implicit),
        _ => None,
    }
}

/// Django's two flags. `EMAIL_USE_SSL=False` alone says nothing: it leaves `STARTTLS` open.
fn read_django_tls(reader: &mut Reader<'_>) -> Option<Found<Tls>> {
    let starttls = reader.flag("EMAIL_USE_TLS");
    let implicit = reader.flag("EMAIL_USE_SSL");
    match (starttls, implicit) {
        (Some(Found { value: true, .. }), Some(Found { value: true, .. })) => {
            let text = "only one of the two can be True: EMAIL_USE_TLS is STARTTLS (port 587), \
                        EMAIL_USE_SSL is TLS from the first byte (port 465)";
            reader.fault(&["EMAIL_USE_TLS", "EMAIL_USE_SSL"], text);
            None
        }
        (_, Some(Found { name, value: true })) => Some(Found { name, value: Tls::Implicit }),
        (Some(Found { name, value }), _) => {
            Some(Found { name, value: if value { Tls::StartTls } else { Tls::None } })
        }
        _ => None,
    }
}

/// A password, tokens, or both: then the password is for a server that does not offer XOAUTH2.
fn read_login(reader: &mut Reader<'_>) -> (Option<Credentials>, Option<OAuth>) {
    let username = read_secret(reader, "SMTP_USERNAME", "EMAIL_HOST_USER");
    let password = read_secret(reader, "SMTP_PASSWORD", "EMAIL_HOST_PASSWORD");
    let tokens = relay_oauth::Said::read(reader);
    if !tokens.is_set() {
        return (read_credentials(reader, username, password), None);
    }
    let mailbox = username.as_ref().map(|found| found.value.clone());
    let oauth = tokens.complete(reader, mailbox);
    let password = username.zip(password);
    let credentials = password
        .map(|(username, password)| Credentials { username: username.value, password: password.value });
    (credentials, oauth)
}

fn read_credentials(
    reader: &mut Reader<'_>,
    username: Option<Found<SecretString>>,
    password: Option<Found<SecretString>>,
) -> Option<Credentials> {
    match (username, password) {
        (Some(username), Some(password)) => {
            Some(Credentials { username: username.value, password: password.value })
        }
        (Some(username), None) => {
            half_a_login(reader, &username.name, &["SMTP_PASSWORD", "EMAIL_HOST_PASSWORD"]);
            None
        }
        (None, Some(password)) => {
            half_a_login(reader, &password.name, &["SMTP_USERNAME", "EMAIL_HOST_USER"]);
            None
        }
        (None, None) => None,
    }
}

fn read_secret(reader: &mut Reader<'_>, ours: &str, django: &str) -> Option<Found<SecretString>> {
    let one = reader.secret(ours);
    let other = reader.secret(django);
    reader.agreed(one, other, |one, other| one.expose_secret() == other.expose_secret())
}

fn half_a_login(reader: &mut Reader<'_>, set: &str, missing: &[&str; 2]) {
    let text = format!("{set} is set without it; a login is a user name and a password");
    let files = missing.map(super::known::file_name);
    let [ours, django] = missing;
    // The other half may have been set, and refused for a reason that is noted already.
    if !reader.is_faulty(&[ours, django, &files[0], &files[1]]) {
        reader.fault(&[ours], text);
    }
}

/// Without a host: in development this machine's inbox, which has neither login nor TLS.
fn host_unsaid(reader: &mut Reader<'_>, environment: Environment, said: &Said) -> Option<String> {
    let names = ["SMTP_HOST", "EMAIL_HOST"];
    if environment != Environment::Development {
        let text = "required: the SMTP server that mail leaves through";
        if !reader.is_faulty(&names) {
            reader.fault(&["SMTP_HOST"], text);
        }
        return None;
    }
    let wants_tls = said.tls.as_ref().is_some_and(|tls| tls.value != Tls::None);
    if (wants_tls || said.has_login()) && !reader.is_faulty(&names) {
        let text = "a login or TLS is set, but no server; name it, or unset them to use the \
                    inbox of this machine, which has neither";
        reader.fault(&["SMTP_HOST"], text);
    }
    Some("127.0.0.1".to_owned())
}

/// A login is never sent in clear over a network because nobody thought of TLS, not even in
/// development; and whoever names a certificate wants TLS.
fn default_tls(environment: Environment, host: &str, said: &Said) -> Tls {
    if !said.certificates.names.is_empty() && said.port.as_ref().is_none_or(|port| port.value != 465) {
        return Tls::StartTls;
    }
    let catcher = environment == Environment::Development && !said.has_login();
    match said.port {
        Some(Found { value: 465, .. }) => Tls::Implicit,
        _ if catcher || is_loopback(host) => Tls::None,
        _ => Tls::StartTls,
    }
}

fn default_port(environment: Environment, host: &str, tls: Tls, catcher_port: u16) -> u16 {
    match tls {
        Tls::Implicit => 465,
        Tls::StartTls => 587,
        Tls::None if environment != Environment::Development => 25,
        Tls::None if is_loopback(host) => catcher_port,
        Tls::None => CATCHER_PORT,
    }
}

/// What may follow EHLO: a name, or an address in brackets.
fn parse_hello_name(text: &str) -> Option<String> {
    let host = parse_host(text)?;
    let literal = text.starts_with('[');
    (literal || host.parse::<std::net::IpAddr>().is_err()).then(|| text.to_owned())
}
