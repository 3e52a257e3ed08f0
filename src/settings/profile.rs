//! Development, staging, production: what each lets happen.

use super::jwt::{self, JwtKey};
use super::reader::Reader;
use super::relay::{Relay, SecureRelay};
use super::relay_reading::{self, CATCHER_PORT};

/// Where Facteur runs, and with it what it lets happen.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A laptop: no token anywhere, and any relay.
    Development {
        /// Where mail goes.
        relay: Relay,
    },
    /// Production with a mail catcher allowed.
    Staging {
        /// What bearer tokens are signed with.
        jwt: JwtKey,
        /// Where mail goes.
        relay: Relay,
    },
    /// Tokens always, TLS always.
    Production {
        /// What bearer tokens are signed with.
        jwt: JwtKey,
        /// Where mail goes.
        relay: SecureRelay,
    },
}

impl Profile {
    /// The SMTP server that mail leaves through.
    pub fn relay(&self) -> &Relay {
        match self {
            Self::Development { relay } | Self::Staging { relay, .. } => relay,
            Self::Production { relay, .. } => relay.get(),
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
        let relay = relay_reading::read(reader, environment, CATCHER_PORT);
        if environment == Environment::Development {
            return Some(Self::Development { relay: relay? });
        }
        // Both are read before either is missed, so that both faults are found.
        let jwt = jwt::read(reader);
        if environment == Environment::Staging {
            let (jwt, relay) = (jwt?, relay?);
            return Some(Self::Staging { jwt, relay });
        }
        let relay = relay.and_then(|relay| secure(reader, relay));
        let (jwt, relay) = (jwt?, relay?);
        Some(Self::Production { jwt, relay })
    }
}

fn secure(reader: &mut Reader<'_>, relay: Relay) -> Option<SecureRelay> {
    SecureRelay::new(relay)
        .map_err(|plain| {
            let names = ["SMTP_TLS", "EMAIL_USE_TLS", "EMAIL_USE_SSL"];
            reader.fault_unless_known(&names, plain.to_string());
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
