use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::jwt::{self, Role};
use super::{Api, ApiError};
use crate::email::Mailbox;
use crate::settings::{JwtKey, Profile};

/// Characters of the name that newer e-mails supersede older ones by.
const LONGEST_NAME: usize = 128;

/// Who may call.
#[derive(Debug, Clone)]
pub enum Access {
    /// Development: everybody, with any key or none.
    Open,
    /// Bearers of a token that this key signed.
    Bearer(JwtKey),
}

impl From<&Profile> for Access {
    fn from(profile: &Profile) -> Self {
        match profile.jwt() {
            None => Self::Open,
            Some(key) => Self::Bearer(key.clone()),
        }
    }
}

/// A caller who may send: extracting it is the check.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    name: String,
    role: Role,
    /// The domains it may send from; none is every domain.
    domains: Option<Vec<String>>,
    development: bool,
}

impl Caller {
    /// Whose e-mails and whose idempotency keys.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whose e-mails it may see: none is everybody's.
    pub(super) fn sees(&self) -> Option<&str> {
        match self.role {
            Role::Admin => None,
            Role::System => Some(&self.name),
        }
    }

    pub(super) fn in_development(&self) -> bool {
        self.development
    }

    /// # Errors
    /// The token is bound to other domains.
    pub(super) fn may_send_from(&self, from: &Mailbox) -> Result<(), ApiError> {
        match &self.domains {
            Some(domains) if !domains.iter().any(|domain| domain == from.address.domain()) => {
                let given: String = from.address.domain().chars().take(64).collect();
                Err(ApiError::Sender(format!(
                    "from has the domain {given}, and this token may send from {} only",
                    domains.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }

    /// A name that no other caller's e-mails meet.
    ///
    /// # Errors
    /// Too long, empty, or with a control character.
    pub(super) fn own_name(&self, name: String) -> Result<String, ApiError> {
        if !(1..=LONGEST_NAME).contains(&name.chars().count()) || name.contains(char::is_control) {
            let text = "supersedes must be 1 to 128 characters, none of them a control character";
            return Err(ApiError::Invalid(text.into()));
        }
        if self.development {
            return Ok(name);
        }
        // The caller's own name takes none of the characters: what is too long with it is kept by its hash.
        let whole = format!("{}/{name}", self.name);
        Ok(match whole.chars().count() {
            0..=LONGEST_NAME => whole,
            _ => format!("{}/sha256:{}", self.name, hash(&name)),
        })
    }
}

fn hash(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, name.as_bytes()))
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Denied {
    Unauthorized,
    Forbidden,
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthorized => Self::Unauthorized,
            Denied::Forbidden => Self::Forbidden,
        }
    }
}

impl Access {
    /// Who calls, by the token that came along.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let Self::Bearer(key) = self else {
            let name = "development".into();
            return Ok(Caller { name, role: Role::Admin, domains: None, development: true });
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(bearer).ok_or(Denied::Unauthorized)?;
        match jwt::verify(key, token) {
            Ok(Some(bearer)) => {
                // A colon is in no subject: nobody can call themselves so.
                let name = bearer.subject.unwrap_or_else(|| match bearer.role {
                    Role::Admin => "role:admin".into(),
                    Role::System => "role:system".into(),
                });
                Ok(Caller { name, role: bearer.role, domains: bearer.domains, development: false })
            }
            Ok(None) => Err(Denied::Forbidden),
            Err(error) => {
                tracing::debug!(%error, "a token was refused");
                Err(Denied::Unauthorized)
            }
        }
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // Whoever counted the request has looked already.
        let known = parts.extensions.remove::<Result<Self, Denied>>();
        Ok(known.unwrap_or_else(|| api.access.admit(&parts.headers))?)
    }
}

/// A caller of role admin.
pub(super) struct Admin(pub(super) Caller);

impl FromRequestParts<Api> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        if caller.role == Role::Admin { Ok(Self(caller)) } else { Err(ApiError::Forbidden) }
    }
}

/// The scheme is compared without case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_as_many_characters_whoever_calls() {
        for (caller, development) in [("development", true), ("s", false), (&*"s".repeat(58), false)] {
            let name = caller.to_owned();
            let caller = Caller { name, role: Role::System, domains: None, development };
            let own = |length: usize| caller.own_name("n".repeat(length));
            assert!(own(0).is_err() && own(129).is_err() && caller.own_name("a\nb".into()).is_err());
            let (one, other) = (own(128).unwrap(), own(127).unwrap());
            assert!(one != other && one.chars().count() <= LONGEST_NAME, "{one}");
            assert!(development || one.starts_with(&format!("{}/", caller.name())), "{one}");
        }
    }
}
