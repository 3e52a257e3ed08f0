//! Bearer tokens: HS256, with the cryptography that TLS brings already (ring).

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::hmac;
use serde::{Deserialize, Serialize};
use signature::{Signer, Verifier};
use time::{Duration, OffsetDateTime};

use crate::email::Address;
use crate::settings::JwtKey;

const ISSUER: &str = "facteur";
const AUDIENCE: &str = "facteur";
const LEEWAY: u64 = 5;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything. A token lives 24 hours at most.
    Admin,
    /// An application that sends. A token lives 30 days at most.
    System,
}

impl Role {
    /// How long a token of this role may live.
    pub fn longest_life(self) -> Duration {
        match self {
            Self::Admin => Duration::hours(24),
            Self::System => Duration::days(30),
        }
    }
}

/// Why a token is not one.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Signature, algorithm, form, issuer, audience or time.
    #[error("the token does not hold: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// A life that is longer than the role may have.
    #[error("the token lives longer than its role may")]
    TooLong,
    /// A subject that is not one.
    #[error("the subject must be 1 to 58 ASCII letters, digits and . _ - @")]
    Subject,
    /// A domain that is not one, or no domain at all.
    #[error("{0:?} is not a domain that mail can come from")]
    Domain(String),
}

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// What it may do.
    pub role: Role,
    /// Its name, 1 to 58 ASCII letters, digits and `. _ - @`: bearers of one name share what they sent.
    pub subject: Option<String>,
    /// The domains that it may send from; none is every domain.
    pub domains: Option<Vec<String>>,
}

impl Bearer {
    /// A bearer without a name, for every domain.
    pub fn of(role: Role) -> Self {
        Self { role, subject: None, domains: None }
    }

    fn check(mut self) -> Result<Self, TokenError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
        let good = |subject: &String| (1..=58).contains(&subject.len()) && subject.bytes().all(plain);
        if self.subject.as_ref().is_some_and(|subject| !good(subject)) {
            return Err(TokenError::Subject);
        }
        for domain in self.domains.iter_mut().flatten() {
            // As the domain of a sender is kept: in lower case and A-labels.
            let address = format!("a@{domain}").parse::<Address>();
            *domain = address.map_err(|_| TokenError::Domain(domain.clone()))?.domain().to_owned();
        }
        match &self.domains {
            Some(domains) if domains.is_empty() => Err(TokenError::Domain(String::new())),
            _ => Ok(self),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    /// As it came: a role that is not known is a good token without rights.
    role: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domains: Option<Vec<String>>,
}

/// A token of this role, good from now for `life`.
///
/// # Errors
/// The life is longer than the role may have.
pub fn mint(key: &JwtKey, role: Role, life: Duration, now: OffsetDateTime) -> Result<String, TokenError> {
    mint_for(key, Bearer::of(role), life, now)
}

/// A token of this bearer, good from now for `life`.
///
/// # Errors
/// The life is longer than the role may have, or the subject or a domain is none.
pub fn mint_for(
    key: &JwtKey,
    bearer: Bearer,
    life: Duration,
    now: OffsetDateTime,
) -> Result<String, TokenError> {
    let Bearer { role, subject, domains } = bearer.check()?;
    if life > role.longest_life() {
        return Err(TokenError::TooLong);
    }
    let claims = Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        iat: now.unix_timestamp(),
        exp: (now + life).unix_timestamp(),
        role: serde_json::to_value(role)
            .map_err(|e| TokenError::Invalid(ErrorKind::Json(e.into()).into()))?,
        sub: subject,
        domains,
    };
    use_ring();
    let key = EncodingKey::from_secret(key.bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// Who bears a good token; none when its role is not one of ours.
///
/// The algorithm is ours, never the token's; `kid`, `jku`, `x5u` and `jwk` are not looked at.
pub(super) fn verify(key: &JwtKey, token: &str) -> Result<Option<Bearer>, TokenError> {
    use_ring();
    let mut rules = Validation::new(Algorithm::HS256);
    rules.leeway = LEEWAY;
    rules.validate_nbf = true;
    rules.set_required_spec_claims(&["exp", "aud", "iss"]);
    rules.set_audience(&[AUDIENCE]);
    rules.set_issuer(&[ISSUER]);
    let key = DecodingKey::from_secret(key.bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules)?.claims;
    let role = serde_json::from_value::<Role>(claims.role).ok();
    let longest = role.unwrap_or(Role::System).longest_life().whole_seconds();
    let left = claims.exp - OffsetDateTime::now_utc().unix_timestamp();
    if left > longest + i64::try_from(LEEWAY).unwrap_or_default() {
        return Err(TokenError::TooLong);
    }
    let Some(role) = role else { return Ok(None) };
    Bearer { role, subject: claims.sub, domains: claims.domains }.check().map(Some)
}

/// Tells jsonwebtoken what to compute with: once a process, the first time wins.
fn use_ring() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| Ok(Box::new(Hs256::new(algorithm, key.as_bytes())?)),
        verifier_factory: |algorithm, key| Ok(Box::new(Hs256::new(algorithm, key.try_get_as_bytes()?)?)),
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Already installed: by us, or by an application that chose its own.
    let _ = RING.install_default();
}

struct Hs256(hmac::Key);

impl Hs256 {
    fn new(algorithm: &Algorithm, secret: &[u8]) -> JwtResult<Self> {
        match algorithm {
            Algorithm::HS256 => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret))),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, given).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn key() -> JwtKey {
        JwtKey::new("gR7pXw2mKq9vTz4nYc6bLh8sJd1fAe3u".to_owned().into()).expect("32 bytes")
    }

    fn now() -> i64 {
        OffsetDateTime::now_utc().unix_timestamp()
    }

    fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", base64url(tag.as_ref()))
    }

    fn base64url(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let chunk = |c: &[u8]| {
            let n = c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - c.len()));
            (0..=c.len())
                .map(move |i| char::from(ALPHABET[(n >> (18 - 6 * i)) as usize & 63]))
                .collect::<String>()
        };
        bytes.chunks(3).map(chunk).collect()
    }

    fn claims() -> Value {
        json!({"iss": "facteur", "aud": "facteur", "iat": now(), "exp": now() + 3_600, "role": "admin"})
    }

    fn hs256() -> Value {
        json!({"alg": "HS256", "typ": "JWT"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn what_is_minted_holds() {
        for role in [Role::Admin, Role::System] {
            let token = mint(&key(), role, role.longest_life(), OffsetDateTime::now_utc()).unwrap();
            assert_eq!(verify(&key(), &token).unwrap(), Some(Bearer::of(role)));
        }
        let long = mint(&key(), Role::Admin, Duration::hours(25), OffsetDateTime::now_utc());
        assert!(matches!(long, Err(TokenError::TooLong)));
    }

    #[test]
    fn a_token_made_by_hand_holds_so_that_the_refusals_below_mean_something() {
        assert_eq!(
            verify(&key(), &signed(&hs256(), &claims(), key().bytes())).unwrap(),
            Some(Bearer::of(Role::Admin))
        );
    }

    #[test]
    fn forged_and_stale_tokens_do_not() {
        let mut no_exp = claims();
        no_exp.as_object_mut().unwrap().remove("exp");
        for (why, claims) in [
            ("no exp", no_exp),
            ("exp is a string", with("exp", json!((now() + 60).to_string()))),
            ("exp in milliseconds", with("exp", json!((now() + 60) * 1_000))),
            ("expired a minute ago", with("exp", json!(now() - 60))),
            ("too long a life", with("exp", json!(now() + 25 * 3_600))),
            ("another audience", with("aud", json!("elsewhere"))),
            ("another issuer", with("iss", json!("elsewhere"))),
            ("not yet", with("nbf", json!(now() + 600))),
        ] {
            assert!(verify(&key(), &signed(&hs256(), &claims, key().bytes())).is_err(), "{why}");
        }
        for alg in ["none", "None", "NONE", "RS256", "HS384", "ES256"] {
            let token = signed(&json!({"alg": alg}), &claims(), key().bytes());
            assert!(verify(&key(), &token).is_err(), "{alg}");
            let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
            assert!(verify(&key(), &unsigned).is_err(), "{alg} without a signature");
        }
        let other_key = signed(&hs256(), &claims(), b"another key of thirty-two bytes!!");
        assert!(verify(&key(), &other_key).is_err());
        for garbage in ["", ".", "..", "a.b.c", "Bearer x"] {
            assert!(verify(&key(), garbage).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn what_the_header_points_to_is_not_followed() {
        let header = json!({"alg": "HS256", "kid": "../../dev/null", "jku": "http://127.0.0.1:1/", "jwk": {"kty": "oct", "k": ""}});
        let signed_by_us = verify(&key(), &signed(&header, &claims(), key().bytes()));
        assert_eq!(signed_by_us.unwrap(), Some(Bearer::of(Role::Admin)), "the header changes nothing");
        assert!(verify(&key(), &signed(&header, &claims(), b"")).is_err());
    }

    #[test]
    fn a_bearer_may_have_a_name_and_domains() {
        let bearer = |domains: &[&str]| Bearer {
            role: Role::System,
            subject: Some("shop@x".into()),
            domains: Some(domains.iter().map(|d| (*d).to_owned()).collect()),
        };
        let mint = |bearer| mint_for(&key(), bearer, Duration::HOUR, OffsetDateTime::now_utc());
        let token = mint(bearer(&["Example.COM", "ü.test"])).unwrap();
        assert_eq!(verify(&key(), &token).unwrap(), Some(bearer(&["example.com", "xn--tda.test"])));
        for domains in [&[][..], &["a b.test"], &["@x.test"], &[""]] {
            assert!(matches!(mint(bearer(domains)), Err(TokenError::Domain(_))), "{domains:?}");
        }
        for subject in ["", "a:b", "a b", "role:admin", &"s".repeat(59)] {
            let bearer = Bearer { subject: Some(subject.into()), ..Bearer::of(Role::System) };
            assert!(matches!(mint(bearer), Err(TokenError::Subject)), "{subject:?}");
            let by_hand = signed(&hs256(), &with("sub", json!(subject)), key().bytes());
            assert!(verify(&key(), &by_hand).is_err(), "{subject:?}");
        }
        for domains in [json!("x.test"), json!([]), json!([7]), json!({})] {
            let by_hand = signed(&hs256(), &with("domains", domains.clone()), key().bytes());
            assert!(verify(&key(), &by_hand).is_err(), "{domains}");
        }
    }

    #[test]
    fn roles_are_compared_exactly() {
        for role in [json!("Admin"), json!(["admin"]), json!("admin "), json!("root"), json!(1), json!(null)]
        {
            let token = signed(&hs256(), &with("role", role.clone()), key().bytes());
            assert_eq!(verify(&key(), &token).unwrap(), None, "{role}");
        }
    }
}
