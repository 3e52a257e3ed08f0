//! AWS Signature Version 4, as far as one POST or GET without a query needs it. In a file of our own
//! because the published crate would bring a second generation of the SHA-2 and HTTP crates.

use ring::{digest, hmac};
use time::OffsetDateTime;

use crate::settings::{ExposeSecret, SecretString};

/// Whose signature, and for what.
pub(super) struct Signer<'a> {
    pub(super) access_key_id: &'a SecretString,
    pub(super) secret_access_key: &'a SecretString,
    pub(super) session_token: Option<&'a SecretString>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is signed.
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// Already in its canonical form.
    pub(super) path: &'a str,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl Signer<'_> {
    /// The headers that make the request acceptable for some minutes around `now`.
    pub(super) fn sign(&self, request: &Unsigned<'_>, now: OffsetDateTime) -> Vec<(&'static str, String)> {
        let (day, moment) = stamps(now);
        let token = self.session_token.map(|token| token.expose_secret().to_owned());
        // In the order of their names.
        let mut signed = Vec::new();
        signed.extend(request.content_type.map(|kind| ("content-type", kind.to_owned())));
        signed.push(("host", request.host.to_owned()));
        signed.push(("x-amz-date", moment.clone()));
        signed.extend(token.map(|token| ("x-amz-security-token", token)));
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!(
            "{}\n{}\n\n{lines}\n{names}\n{}",
            request.method,
            request.path,
            hex(digest::digest(&digest::SHA256, request.body).as_ref())
        );
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let signature =
            hex(mac(self.key(&day), &format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}")).as_ref());
        let id = self.access_key_id.expose_secret();
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        let own = signed.into_iter().filter(|(name, _)| name.starts_with("x-amz"));
        own.chain([("authorization", authorization)]).collect()
    }

    fn key(&self, day: &str) -> hmac::Tag {
        let secret = format!("AWS4{}", self.secret_access_key.expose_secret());
        let day = mac(secret.as_bytes(), day);
        let region = mac(day, self.region);
        let service = mac(region, self.service);
        mac(service, "aws4_request")
    }
}

fn mac(key: impl AsRef<[u8]>, text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text.as_bytes())
}

/// `20150830` and `20150830T123600Z`.
fn stamps(now: OffsetDateTime) -> (String, String) {
    let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let moment = format!("{day}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second());
    (day, moment)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From AWS's published test suite for Signature Version 4.
    #[test]
    fn the_published_vectors() {
        // 2015-08-30 12:36:00 UTC.
        let moment = OffsetDateTime::from_unix_timestamp(1_440_938_160).unwrap();
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let form = Some("application/x-www-form-urlencoded");
        for (name, method, content_type, body, token, signature) in [
            (
                "get-vanilla",
                "GET",
                None,
                "",
                None,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                None,
                "",
                None,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                form,
                "Param1=value1",
                None,
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-sts-header-before",
                "POST",
                None,
                "",
                Some(token),
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let token = token.map(SecretString::from);
            let signer = Signer {
                access_key_id: &"AKIDEXAMPLE".into(),
                secret_access_key: &"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: token.as_ref(),
                region: "us-east-1",
                service: "service",
            };
            let request = Unsigned {
                method,
                host: "example.amazonaws.com",
                path: "/",
                content_type,
                body: body.as_bytes(),
            };
            let headers = signer.sign(&request, moment);
            let authorization = &headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
            assert!(authorization.ends_with(&format!("Signature={signature}")), "{name}: {authorization}");
        }
    }
}
