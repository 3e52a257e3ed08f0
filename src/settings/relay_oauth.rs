//! Where the tokens of XOAUTH2 come from.

use secrecy::SecretString;

use super::reader::{Found, Reader};
use super::relay::is_loopback;

/// Tokens for a mailbox, fetched by client credentials (RFC 6749 §4.4) and shown with XOAUTH2.
#[derive(Debug, Clone)]
pub struct OAuth {
    /// The mailbox that logs in: `SMTP_USERNAME`.
    pub mailbox: SecretString,
    /// Where tokens are fetched: https, or http on this machine.
    pub token_url: String,
    /// Who fetches them.
    pub client_id: String,
    /// What that is proved with.
    pub client_secret: SecretString,
    /// What they are for, where the endpoint wants to know.
    pub scope: Option<String>,
}

/// What the variables say of tokens, the mailbox aside.
pub(super) struct Said {
    token_url: Option<Found<String>>,
    client_id: Option<Found<String>>,
    client_secret: Option<Found<SecretString>>,
    scope: Option<Found<String>>,
}

const NAMES: [&str; 3] = ["SMTP_OAUTH_TOKEN_URL", "SMTP_OAUTH_CLIENT_ID", "SMTP_OAUTH_CLIENT_SECRET"];

impl Said {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let accepts = "a URL of https, or of http on this machine";
        Self {
            token_url: reader.parse(NAMES[0], accepts, parse_url),
            client_id: reader.parse(NAMES[1], "a name without spaces", parse_word),
            client_secret: reader.secret(NAMES[2]),
            scope: reader.parse("SMTP_OAUTH_SCOPE", "a list of words", parse_scope),
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.token_url.is_some()
            || self.client_id.is_some()
            || self.client_secret.is_some()
            || self.scope.is_some()
    }

    /// All of it, or a fault for what is missing.
    pub(super) fn complete(self, reader: &mut Reader<'_>, mailbox: Option<SecretString>) -> Option<OAuth> {
        if !self.is_set() {
            return None;
        }
        let set = [self.token_url.is_some(), self.client_id.is_some(), self.client_secret.is_some()];
        for (name, _) in NAMES.iter().zip(set).filter(|(_, set)| !set) {
            let file = super::known::file_name(name);
            let text = "tokens for XOAUTH2 need a token URL, a client id and a client secret";
            if !reader.is_faulty(&[name, &file]) {
                reader.fault(&[name], text);
            }
        }
        let names = ["SMTP_USERNAME", "SMTP_USERNAME_FILE", "EMAIL_HOST_USER", "EMAIL_HOST_USER_FILE"];
        if mailbox.is_none() && !reader.is_faulty(&names) {
            let text = "XOAUTH2 needs it: the mailbox that the token is for";
            reader.fault(&["SMTP_USERNAME"], text);
        }
        if cfg!(not(feature = "oauth")) {
            let text = "this build cannot fetch tokens: it was made without the feature `oauth`";
            reader.fault(&["SMTP_OAUTH_TOKEN_URL"], text);
        }
        Some(OAuth {
            mailbox: mailbox?,
            token_url: self.token_url?.value,
            client_id: self.client_id?.value,
            client_secret: self.client_secret?.value,
            scope: self.scope.map(|scope| scope.value),
        })
    }
}

/// The client's secret goes there: never in clear over a network, and never with a login in the URL.
fn parse_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(bare) => bare.split(']').next()?,
        None => authority.split(':').next()?,
    };
    let safe = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => is_loopback(host),
        _ => false,
    };
    let plain = text.chars().all(|c| c.is_ascii_graphic()) && !authority.contains('@');
    (safe && plain && !host.is_empty()).then(|| text.to_owned())
}

fn parse_word(text: &str) -> Option<String> {
    let word = !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    word.then(|| text.to_owned())
}

fn parse_scope(text: &str) -> Option<String> {
    (!text.is_empty() && text.chars().all(|c| !c.is_control())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_secret_never_goes_in_clear() {
        let accepted = [
            "https://login.microsoftonline.com/tenant/oauth2/v2.0/token",
            "https://id.test:8443/token?x=1",
            "http://127.0.0.1:8080/token",
            "http://localhost/token",
            "http://[::1]:80/token",
        ];
        for url in accepted {
            assert_eq!(parse_url(url).as_deref(), Some(url));
        }
        let refused = [
            "",
            "https://",
            "id.test/token",
            "http://id.test/token",
            "http://127.0.0.1.evil.test/token",
            "http://localhost@evil.test/token",
            "https://me:hunter2@id.test/token",
            "ftp://localhost/token",
            "https://id.test/a b",
        ];
        for url in refused {
            assert_eq!(parse_url(url), None, "{url}");
        }
    }
}
