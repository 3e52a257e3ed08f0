//! The password inside `postgres://user:password@host:5432/name`.

/// Why a password cannot be put into a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("both hold a password; keep the one you mean and take the other out")]
    Two,
    #[error("a password is set, and the URL names no user for it: postgres://user@host:5432/name")]
    NoUser,
}

/// The URL with this password for its user.
pub(super) fn insert(url: &str, password: &str) -> Result<String, Refused> {
    let (start, user, rest) = split(url).ok_or(Refused::NoUser)?;
    if user.contains(':') || of_query(url).is_some() {
        return Err(Refused::Two);
    }
    if user.is_empty() {
        return Err(Refused::NoUser);
    }
    Ok(format!("{start}{user}:{}@{rest}", encoded(password)))
}

/// The password that a URL holds, decoded.
pub(super) fn of(url: &str) -> Option<String> {
    let inside = split(url).and_then(|(_, user, _)| user.split_once(':')).map(|(_, password)| password);
    inside.or_else(|| of_query(url)).map(decoded)
}

/// `postgres://`, what is before the `@`, and what is after it.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let at = start + url[start..end].rfind('@')?;
    Some((&url[..start], &url[start..at], &url[at + 1..]))
}

fn of_query(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("password="))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_it_a_password_comes_back_as_it_went_in() {
        for password in ["simple", "a:b@c/d?e#f%41", "é ü\"'\\", "100%"] {
            let url = insert("postgres://me@db:5432/mail?sslmode=require", password).expect("put in");
            assert_eq!(of(&url).as_deref(), Some(password), "{url}");
            assert!(url.ends_with("@db:5432/mail?sslmode=require"), "{url}");
        }
    }

    #[test]
    fn one_password_at_most_and_a_user_for_it() {
        assert_eq!(insert("postgres://me:one@db/mail", "two"), Err(Refused::Two));
        assert_eq!(insert("postgres://me@db/mail?password=one", "two"), Err(Refused::Two));
        assert_eq!(insert("postgres://db/mail", "two"), Err(Refused::NoUser));
        assert_eq!(insert("postgres://db/mail?options=a@b", "two"), Err(Refused::NoUser));
        assert_eq!(of("postgres://me@db/mail"), None);
        assert_eq!(of("postgres://db/mail?password=x%20y").as_deref(), Some("x y"));
    }
}
