use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::jwt::{self, Role};
use super::{Api, ApiError};
use crate::settings::{JwtKey, Profile};

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
pub(super) struct Caller;

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Access::Bearer(key) = &api.access else { return Ok(Self) };
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(bearer).ok_or(ApiError::Unauthorized)?;
        match jwt::verify(key, token) {
            Ok(Some(Role::Admin | Role::System)) => Ok(Self),
            Ok(None) => Err(ApiError::Forbidden),
            Err(error) => {
                tracing::debug!(%error, "a token was refused");
                Err(ApiError::Unauthorized)
            }
        }
    }
}

/// The scheme is compared without case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start_matches(' '))
}
