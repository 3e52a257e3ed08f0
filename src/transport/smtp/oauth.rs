//! Tokens for XOAUTH2, by client credentials (RFC 6749 §4.4).

#[cfg(feature = "oauth")]
mod endpoint;

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::Stage;
use super::failure::Failure;
use crate::settings::{ExposeSecret, OAuth, SecretString};

#[cfg(not(feature = "oauth"))]
mod endpoint {
    use super::{Failure, Fetched, OAuth, Stage};

    /// Fetches nothing.
    pub(super) struct Endpoint;

    impl Endpoint {
        pub(super) fn new(_: &OAuth) -> Self {
            Self
        }

        pub(super) async fn fetch(&self, _: &OAuth) -> Result<Fetched, Failure> {
            let text = "this build cannot fetch tokens: it was made without the feature `oauth`".into();
            Err(Failure::Unfit { stage: Stage::Auth, text })
        }
    }
}

/// A token is not shown in its last minute, nor in the last tenth of a short life.
const MARGIN: Duration = Duration::from_secs(60);

/// The one token of a relay, shared by its connections and fetched by one of them at a time.
pub(super) struct Tokens {
    oauth: OAuth,
    endpoint: endpoint::Endpoint,
    /// Held while it is fetched: the others wait for the same.
    current: Mutex<Option<Token>>,
}

struct Token {
    secret: SecretString,
    good_until: Instant,
}

/// What the endpoint gave, and for how long.
struct Fetched {
    secret: SecretString,
    lives: Duration,
}

impl Tokens {
    pub(super) fn new(oauth: &OAuth) -> Self {
        Self { oauth: oauth.clone(), endpoint: endpoint::Endpoint::new(oauth), current: Mutex::default() }
    }

    pub(super) fn mailbox(&self) -> &SecretString {
        &self.oauth.mailbox
    }

    /// A token that was good when last heard of, and is not the one that a server has just refused.
    pub(super) async fn get(
        &self,
        refused: Option<&SecretString>,
        patience: Duration,
    ) -> Result<SecretString, Failure> {
        let got = timeout(patience, self.get_or_fetch(refused)).await;
        got.unwrap_or_else(|_| {
            let text = "no answer from the token endpoint in time".into();
            Err(Failure::Broken { stage: Stage::Auth, text })
        })
    }

    async fn get_or_fetch(&self, refused: Option<&SecretString>) -> Result<SecretString, Failure> {
        let mut current = self.current.lock().await;
        let same = |token: &Token| {
            refused.is_some_and(|refused| refused.expose_secret() == token.secret.expose_secret())
        };
        if let Some(token) = &*current
            && !same(token)
            && Instant::now() < token.good_until
        {
            return Ok(token.secret.clone());
        }
        // Forgotten first: one that was refused is not shown again because no other could be had.
        *current = None;
        let asked = Instant::now();
        let Fetched { secret, lives } = self.endpoint.fetch(&self.oauth).await?;
        let good_until = asked + lives.saturating_sub(MARGIN.min(lives / 10));
        *current = Some(Token { secret: secret.clone(), good_until });
        Ok(secret)
    }
}
