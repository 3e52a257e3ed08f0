use super::token_endpoint::Book;

/// Who may send, and how it is asked.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) mechanisms: String,
    /// The tokens that are as good as the password.
    pub(super) tokens: Option<Book>,
}

impl Login {
    pub(super) fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            mechanisms: "PLAIN LOGIN".to_owned(),
            tokens: None,
        }
    }

    /// Nobody has a password here.
    pub(super) fn xoauth2(mailbox: &str, tokens: Book) -> Self {
        let mechanisms = "PLAIN LOGIN XOAUTH2".to_owned();
        Self { mechanisms, tokens: Some(tokens), ..Self::new(mailbox, "\0") }
    }

    /// `user=` mailbox, `auth=Bearer` token, ^A behind each and behind both.
    pub(super) fn takes_token(&self, response: &str) -> bool {
        let said = decode(response).and_then(|bytes| String::from_utf8(bytes).ok());
        let start = format!("user={}\x01auth=Bearer ", self.username);
        let token = said.as_deref().and_then(|said| said.strip_prefix(&start)?.strip_suffix("\x01\x01"));
        token.zip(self.tokens.as_ref()).is_some_and(|(token, book)| book.is_good(token))
    }

    /// RFC 4616: an authorization identity nobody uses, the name, the password, NUL between them.
    pub(super) fn takes_plain(&self, response: &str) -> bool {
        decode(response).as_deref() == Some(format!("\0{}\0{}", self.username, self.password).as_bytes())
    }

    /// The two answers of AUTH LOGIN.
    pub(super) fn takes_login(&self, username: &str, password: &str) -> bool {
        decode(username).as_deref() == Some(self.username.as_bytes())
            && decode(password).as_deref() == Some(self.password.as_bytes())
    }

    pub(super) fn offers(&self, mechanism: &str) -> bool {
        self.mechanisms.split_whitespace().any(|offered| offered.eq_ignore_ascii_case(mechanism))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// Base64 (RFC 4648 §4); none for what is not.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|one| *one == digit)?;
        held = (held << 6) | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
        assert_eq!(decode("Zg==").as_deref(), Some(&b"f"[..]));
        assert_eq!(decode("Zm8=").as_deref(), Some(&b"fo"[..]));
        assert_eq!(decode("Zm9vYmFy").as_deref(), Some(&b"foobar"[..]));
        assert_eq!(decode("/+8=").as_deref(), Some(&[255, 239][..]));
        assert_eq!(decode("Zg"), None);
        assert_eq!(decode("Z!=="), None);
    }

    #[test]
    fn both_ways_to_log_in() {
        let login = Login::new("ada", "s3cret");
        assert!(login.takes_plain("AGFkYQBzM2NyZXQ="));
        assert!(!login.takes_plain("AGFkYQB3cm9uZw=="));
        assert!(login.takes_login("YWRh", "czNjcmV0"));
        assert!(!login.takes_login("YWRh", "d3Jvbmc="));
    }
}
