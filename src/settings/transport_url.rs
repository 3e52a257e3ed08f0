//! One URL of `MAIL_TRANSPORTS`: `smtp://user:password@host:587?rate=14/s&quota=50000/d`.
//!
//! Nothing that a fault says shows a part of the URL: with one character out of place, any part of it can be
//! the password's.

use std::time::Duration;

use super::api::{Api, Brevo, Mailgun, Mailjet, Postmark, Region, Scaleway, SendGrid, Ses};
use super::reader::Reader;
use super::relay::{Credentials, Relay, Tls, is_loopback, parse_host};
use super::transports::{Kind, Pace, Way, relay_name};
use super::{relay_certificates, relay_reading};

/// What a URL need not say.
pub(super) struct Defaults {
    /// A relay without a place.
    relay: Relay,
}

impl Defaults {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let certificates = relay_certificates::read(reader);
        Self { relay: relay_reading::read_common(reader, &certificates) }
    }
}

/// A URL, apart; every part decoded.
#[derive(Default)]
struct Parts {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    place: String,
    options: Vec<(String, String)>,
    problems: Vec<String>,
}

/// One way out, or everything that is wrong with its URL.
pub(super) fn parse(url: &str, defaults: &Defaults) -> Result<Way, Vec<String>> {
    let mut parts = Parts::of(url).map_err(|problem| vec![problem])?;
    let kind = match parts.scheme.as_str() {
        "smtp" | "smtps" => parts.smtp(defaults).map(Kind::Smtp),
        _ => parts.api().map(Kind::Api),
    };
    let rate = parts.option("rate", "such as 14/s, 100/m or 1000/h", |text| pace(text, "smh"));
    let quota = parts.option("quota", "such as 50000/d, 1000/h or 100/m", |text| pace(text, "mhd"));
    let connections = parts.option("connections", "a number from 1 to 1000", |text| number(text, 1000));
    let domains = parts.option("domains", "domains, separated by commas", domains).unwrap_or_default();
    let weight = parts.option("weight", "a number from 1 to 1000", |text| number(text, 1000));
    let name = parts.option("name", "1 to 64 letters, digits, dots, dashes or underscores", |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        ((1..=64).contains(&text.len()) && text.chars().all(good)).then(|| text.to_owned())
    });
    parts.refuse_the_rest();
    let connections = connections.unwrap_or(defaults.relay.max_connections);
    match kind {
        Some(kind) if parts.problems.is_empty() => {
            let (kind, usual) = match kind {
                Kind::Smtp(relay) => {
                    let usual = relay_name(&relay);
                    (Kind::Smtp(Relay { max_connections: connections, ..relay }), usual)
                }
                Kind::Api(api) => (Kind::Api(api), parts.scheme.clone()),
            };
            Ok(Way { name: name.unwrap_or(usual), kind, rate, quota, connections, domains, weight })
        }
        _ => Err(parts.problems),
    }
}

impl Parts {
    fn of(url: &str) -> Result<Self, String> {
        const SHAPE: &str = "is not a URL such as smtp://user:password@host:587 (not shown)";
        let (scheme, rest) = url.split_once("://").ok_or(SHAPE)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let odd =
            "has a % that is not followed by two hexadecimal digits, or bytes that are not UTF-8 (not shown)";
        let decoded = |text: &str| decode(text).ok_or(odd);
        let mut parts = Self { scheme: scheme.to_ascii_lowercase(), ..Self::default() };
        if let Some(login) = login {
            if login.contains(['/', '@']) {
                return Err("has a / or an @ in its login, which is written %2F or %40 (not shown)".into());
            }
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            parts.user = Some(decoded(user)?).filter(|user| !user.is_empty());
            parts.password = password.map(decoded).transpose()?.filter(|password| !password.is_empty());
        }
        parts.place = decoded(place)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("has an option without a value (not shown)")?;
            parts.options.push((name.to_owned(), decoded(value)?));
        }
        Ok(parts)
    }

    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// Takes an option out; `accepts` ends the sentence "… is not".
    fn option<T>(&mut self, name: &str, accepts: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (given, rest) = std::mem::take(&mut self.options).into_iter().partition(|(n, _)| n == name);
        self.options = rest;
        let given: Vec<(String, String)> = given;
        if given.len() > 1 {
            self.problem(format!("has {name}= more than once"));
        }
        let parsed = parse(given.first()?.1.trim());
        if parsed.is_none() {
            self.problem(format!("has a {name}= that is not {accepts} (not shown)"));
        }
        parsed
    }

    fn refuse_the_rest(&mut self) {
        if !self.options.is_empty() {
            self.problem(
                "has an option that is not known (not shown); there are name, rate, quota, connections, domains and \
                 weight, tls for SMTP, and region, project, stream or base_url for some providers. A ? or & in a \
                 password is written %3F or %26",
            );
        }
    }

    fn smtp(&mut self, defaults: &Defaults) -> Option<Relay> {
        let implicit = self.scheme == "smtps";
        let (host, port) = self.host_and_port();
        let tls = self.option("tls", "none, starttls (or required) or implicit", |text| match text {
            "none" => Some(Tls::None),
            "starttls" | "required" => Some(Tls::StartTls),
            "implicit" => Some(Tls::Implicit),
            _ => None,
        });
        if implicit && tls.is_some_and(|tls| tls != Tls::Implicit) {
            self.problem("is smtps://, which is implicit TLS, and says another tls=");
        }
        let credentials = match (self.user.take(), self.password.take()) {
            (Some(user), Some(password)) => {
                Some(Credentials { username: user.into(), password: password.into() })
            }
            (None, None) => None,
            _ => {
                self.problem("has half a login; a login is a user name and a password");
                None
            }
        };
        let host = host?;
        let tls = match (tls, port) {
            _ if implicit => Tls::Implicit,
            (Some(tls), _) => tls,
            (None, Some(465)) => Tls::Implicit,
            (None, _) if is_loopback(&host) => Tls::None,
            (None, _) => Tls::StartTls,
        };
        let usual = match tls {
            Tls::Implicit => 465,
            Tls::StartTls => 587,
            Tls::None => 25,
        };
        Some(Relay { host, port: port.unwrap_or(usual), tls, credentials, ..defaults.relay.clone() })
    }

    fn host_and_port(&mut self) -> (Option<String>, Option<u16>) {
        let (host, port) = match self.place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host.to_owned(), Some(port.to_owned())),
            _ => (self.place.clone(), None),
        };
        let parsed = port.as_ref().map(|port| port.parse().ok().filter(|port: &u16| *port > 0));
        if parsed == Some(None) {
            self.problem("has a port that is not a number from 1 to 65535 (not shown)");
        }
        let host = parse_host(&host);
        if host.is_none() {
            self.problem("has no host name or address behind its login (not shown)");
        }
        (host, parsed.flatten())
    }

    /// A provider's API; what it wants of the URL is in the README.
    fn api(&mut self) -> Option<Api> {
        let base_url = self.option("base_url", "an http:// or https:// URL", |text| {
            (text.starts_with("https://") || text.starts_with("http://")).then(|| text.to_owned())
        });
        // Without an @ what is there is the key.
        if self.user.is_none()
            && self.password.is_none()
            && ["sendgrid", "postmark", "brevo"].contains(&&*self.scheme)
        {
            self.user = Some(std::mem::take(&mut self.place));
        }
        match self.scheme.as_str() {
            "ses" => {
                let (key, secret) = self.pair("ses://KEY:SECRET@eu-west-1");
                let region = self.wanted_place("ses://KEY:SECRET@eu-west-1");
                Some(Api::Ses(Ses {
                    region: region?,
                    access_key_id: key?.into(),
                    secret_access_key: secret?.into(),
                    session_token: None,
                    configuration_set: None,
                    base_url,
                }))
            }
            "mailgun" => {
                let region = self.region();
                let key = self.key("mailgun://KEY@mg.example.com");
                let domain = self.wanted_place("mailgun://KEY@mg.example.com");
                Some(Api::Mailgun(Mailgun { domain: domain?, api_key: key?.into(), region, base_url }))
            }
            "sendgrid" => {
                let region = self.region();
                Some(Api::SendGrid(SendGrid {
                    api_key: self.key("sendgrid://KEY")?.into(),
                    region,
                    base_url,
                }))
            }
            "postmark" => {
                let message_stream = self.option("stream", "a message stream", |text| Some(text.to_owned()));
                let server_token = self.key("postmark://TOKEN")?.into();
                Some(Api::Postmark(Postmark { server_token, message_stream, base_url }))
            }
            "brevo" => Some(Api::Brevo(Brevo { api_key: self.key("brevo://KEY")?.into(), base_url })),
            "mailjet" => {
                let region = self.region();
                let (key, secret) = self.pair("mailjet://KEY:SECRET");
                Some(Api::Mailjet(Mailjet {
                    api_key: key?.into(),
                    secret_key: secret?.into(),
                    region,
                    base_url,
                }))
            }
            "scaleway" => {
                let region = self.option("region", "a region such as fr-par", |text| Some(text.to_owned()));
                let secret = self.key("scaleway://SECRET@PROJECT");
                let project = self.wanted_place("scaleway://SECRET@PROJECT");
                Some(Api::Scaleway(Scaleway {
                    region: region.unwrap_or_else(|| "fr-par".to_owned()),
                    project_id: project?,
                    secret_key: secret?.into(),
                    base_url,
                }))
            }
            _ => {
                self.options.clear();
                self.problem(
                    "has a scheme that is not smtp, smtps, ses, mailgun, sendgrid, postmark, brevo, mailjet or \
                     scaleway (not shown)",
                );
                None
            }
        }
    }

    fn region(&mut self) -> Region {
        let region = self.option("region", "eu or us", |text| match text {
            "eu" => Some(Region::Eu),
            "us" => Some(Region::Us),
            _ => None,
        });
        region.unwrap_or_default()
    }

    fn key(&mut self, shape: &str) -> Option<String> {
        let key = self.user.take().or(self.password.take()).filter(|key| !key.is_empty());
        if key.is_none() {
            self.problem(format!("has no key; it is {shape}"));
        }
        key
    }

    /// A key and its secret; `mailjet://KEY:SECRET` has no @.
    fn pair(&mut self, shape: &str) -> (Option<String>, Option<String>) {
        if self.user.is_none()
            && self.password.is_none()
            && let Some((key, secret)) = self.place.split_once(':')
        {
            (self.user, self.password) = (Some(key.to_owned()), Some(secret.to_owned()));
        }
        let pair = (self.user.take(), self.password.take());
        if pair.0.is_none() || pair.1.is_none() {
            self.problem(format!("has no key with its secret; it is {shape}"));
        }
        pair
    }

    fn wanted_place(&mut self, shape: &str) -> Option<String> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let place = Some(self.place.clone()).filter(|place| !place.is_empty() && place.chars().all(good));
        if place.is_none() {
            self.problem(format!("has nothing readable behind its @; it is {shape} (not shown)"));
        }
        place
    }
}

/// `14/s`: a number and one of these units.
pub(super) fn pace(text: &str, units: &str) -> Option<Pace> {
    let (mails, unit) = text.split_once('/')?;
    let mails = mails.parse().ok().filter(|mails| (1..=1_000_000_000).contains(mails))?;
    if unit.len() != 1 || !units.contains(unit) {
        return None;
    }
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => 86_400,
    };
    Some(Pace { mails, per: Duration::from_secs(seconds) })
}

fn number<T: std::str::FromStr + PartialOrd + From<u8>>(text: &str, most: T) -> Option<T> {
    text.parse().ok().filter(|number| *number >= T::from(1) && *number <= most)
}

fn domains(text: &str) -> Option<Vec<String>> {
    let all: Vec<String> = text.split(',').map(|one| one.trim().to_ascii_lowercase()).collect();
    all.iter().all(|one| parse_host(one).is_some()).then_some(all)
}

/// Percent-encoding, RFC 3986 §2.1.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
