//! Development, staging, production: what each lets happen.

use super::jwt::{self, JwtKey};
use super::reader::Reader;
#[cfg(test)]
use super::relay::Relay;
use super::relay::{PlainRelay, SecureRelay};
use super::relay_reading::{self, CATCHER_PORT};
use super::transports::{self, Kind, Way};

/// Where Facteur runs, and with it what it lets happen.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A laptop: no token anywhere, and any relay.
    Development {
        /// Where mail goes, in order of preference.
        ways: Vec<Way>,
    },
    /// Production with a mail catcher allowed.
    Staging {
        /// What bearer tokens are signed with.
        jwt: JwtKey,
        /// Where mail goes, in order of preference.
        ways: Vec<Way>,
    },
    /// Tokens always, TLS always.
    Production {
        /// What bearer tokens are signed with.
        jwt: JwtKey,
        /// Where mail goes, in order of preference.
        ways: SecureWays,
    },
}

impl Profile {
    /// The ways that mail leaves by, in order of preference.
    pub fn ways(&self) -> &[Way] {
        match self {
            Self::Development { ways } | Self::Staging { ways, .. } => ways,
            Self::Production { ways, .. } => ways.get(),
        }
    }

    /// The one SMTP server that most tests are about.
    #[cfg(test)]
    pub(super) fn relay(&self) -> &Relay {
        match &self.ways()[0].kind {
            Kind::Smtp(relay) => relay,
            Kind::Api(_) => panic!("an API"),
        }
    }

    /// The key that bearer tokens are signed with; none in development, where nothing asks for one.
    pub fn jwt(&self) -> Option<&JwtKey> {
        match self {
            Self::Development { .. } => None,
            Self::Staging { jwt, .. } | Self::Production { jwt, .. } => Some(jwt),
        }
    }

    /// Whether mail may go to `@localhost`, the one domain without a dot.
    pub fn is_development(&self) -> bool {
        matches!(self, Self::Development { .. })
    }

    pub(super) fn read(reader: &mut Reader<'_>, environment: Environment) -> Option<Self> {
        let ways = read_ways(reader, environment);
        if environment == Environment::Development {
            return Some(Self::Development { ways: ways? });
        }
        // Both are read before either is missed, so that both faults are found.
        let jwt = jwt::read(reader);
        if environment == Environment::Staging {
            let (jwt, ways) = (jwt?, ways?);
            return Some(Self::Staging { jwt, ways });
        }
        let ways = ways.and_then(|ways| secure(reader, ways));
        let (jwt, ways) = (jwt?, ways?);
        Some(Self::Production { jwt, ways })
    }
}

/// The ways that mail may leave by in this environment.
pub(super) fn ways_for(reader: &mut Reader<'_>, environment: Environment) -> Option<Vec<Way>> {
    let ways = read_ways(reader, environment)?;
    match environment {
        Environment::Production => secure(reader, ways).map(|SecureWays(ways)| ways),
        Environment::Staging | Environment::Development => Some(ways),
    }
}

fn read_ways(reader: &mut Reader<'_>, environment: Environment) -> Option<Vec<Way>> {
    if transports::is_set(reader) {
        return transports::read(reader, environment);
    }
    relay_reading::read(reader, environment, CATCHER_PORT).map(|relay| vec![Way::of_relay(relay)])
}

/// Ways that carry nothing in clear over a network: TLS, or a loopback address.
#[derive(Debug, Clone)]
pub struct SecureWays(Vec<Way>);

impl SecureWays {
    /// Takes ways of which each SMTP server has TLS or is on this machine; APIs are HTTPS.
    pub fn new(ways: Vec<Way>) -> Result<Self, PlainRelay> {
        for way in &ways {
            if let Kind::Smtp(relay) = &way.kind {
                SecureRelay::new(relay.clone())?;
            }
        }
        Ok(Self(ways))
    }

    /// The ways themselves.
    pub fn get(&self) -> &[Way] {
        &self.0
    }
}

fn secure(reader: &mut Reader<'_>, ways: Vec<Way>) -> Option<SecureWays> {
    SecureWays::new(ways)
        .map_err(|plain| {
            let names =
                ["SMTP_TLS", "EMAIL_USE_TLS", "EMAIL_USE_SSL", "MAIL_TRANSPORTS", "MAIL_TRANSPORTS_FILE"];
            if !reader.is_faulty(&names) {
                reader.fault(&names[..3], plain.to_string());
            }
        })
        .ok()
}

/// What `APP_ENV` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Environment {
    Development,
    Staging,
    Production,
}

impl Environment {
    /// Reads `APP_ENV`. One that is misspelt is a fault, and the rest is then held to what holds
    /// everywhere: nobody knows which of the stricter rules were meant.
    pub(super) fn read(reader: &mut Reader<'_>, unset: Self) -> Self {
        let found = Self::find(reader).map(|found| found.value);
        match found {
            None if reader.is_faulty(&["APP_ENV"]) => Self::Development,
            None => unset,
            Some(environment) => environment,
        }
    }

    fn find(reader: &mut Reader<'_>) -> Option<super::reader::Found<Self>> {
        reader.parse("APP_ENV", "development, staging or production", |text| match text {
            "development" => Some(Self::Development),
            "staging" => Some(Self::Staging),
            "production" => Some(Self::Production),
            _ => None,
        })
    }
}
