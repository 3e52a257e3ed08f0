//! `facteur dev`.

use super::{Pair, dev, only_fault};
use crate::settings::{ExposeSecret, Tls};

#[test]
fn needs_nothing() {
    let dev = dev(&[]).expect("no fault");
    let addresses = [dev.http, dev.inbox_http, dev.inbox_smtp].map(|address| address.to_string());
    assert_eq!(addresses, ["127.0.0.1:8000", "127.0.0.1:1080", "127.0.0.1:1025"]);
    assert_eq!((dev.relay.host.as_str(), dev.relay.port), ("127.0.0.1", 1025));
    assert_eq!(dev.relay.tls, Tls::None);
    assert!(dev.database_url.is_none());
    assert_eq!(dev.home.to_str(), Some(".facteur"));
    assert_eq!(dev.sender, "noreply@local.test");
}

#[test]
fn the_relay_and_the_inbox_find_each_other() {
    let cases: [(&[Pair<'_>], &str, u16); 9] = [
        (&[("INBOX_SMTP_PORT", "0")], "127.0.0.1:0", 0),
        (&[("INBOX_SMTP_PORT", "2025")], "127.0.0.1:2025", 2025),
        (&[("SMTP_HOST", "localhost"), ("SMTP_PORT", "1026")], "localhost:1026", 1026),
        (&[("SMTP_HOST", "::1"), ("SMTP_PORT", "1026")], "::1:1026", 1026),
        (&[("SMTP_PORT", "1026")], "127.0.0.1:1026", 1026),
        (&[("SMTP_HOST", "localhost"), ("INBOX_SMTP_PORT", "2025")], "localhost:2025", 2025),
        (
            &[("SMTP_HOST", "localhost"), ("SMTP_PORT", "1026"), ("INBOX_SMTP_PORT", "2025")],
            "localhost:1026",
            2025,
        ),
        (&[("SMTP_HOST", "maildev"), ("SMTP_PORT", "1026")], "maildev:1026", 1025),
        (&[("SMTP_HOST", "maildev"), ("INBOX_SMTP_PORT", "2025")], "maildev:1025", 2025),
    ];
    for (changes, relay, inbox) in cases {
        let dev = dev(changes).expect("no fault");
        assert_eq!(format!("{}:{}", dev.relay.host, dev.relay.port), relay);
        assert_eq!(dev.inbox_smtp.to_string(), format!("127.0.0.1:{inbox}"));
    }
}

#[test]
fn takes_what_is_set() {
    let dev = dev(&[
        ("APP_ENV", "development"),
        ("HTTP_HOST", "0.0.0.0"),
        ("HTTP_PORT", "9000"),
        ("INBOX_HTTP_PORT", "9080"),
        ("FACTEUR_HOME", "/var/tmp/post"),
        ("DATABASE_URL", "postgres://db.test/mail"),
        ("EMAIL_FROM", "a@b.test"),
    ]);
    let dev = dev.expect("no fault");
    assert_eq!(dev.http.to_string(), "0.0.0.0:9000");
    assert_eq!(dev.inbox_http.to_string(), "127.0.0.1:9080");
    assert_eq!(dev.home.to_str(), Some("/var/tmp/post"));
    let url = dev.database_url.expect("no fault");
    assert_eq!(url.expose_secret(), "postgres://db.test/mail");
    assert_eq!(dev.sender, "a@b.test");
}

#[test]
fn is_development_and_nothing_else() {
    for value in ["production", "staging"] {
        let (names, text) = only_fault(dev(&[("APP_ENV", value)]));
        assert_eq!(names, "APP_ENV");
        assert!(text.contains("development") && text.contains("facteur serve"), "{text}");
    }
}

#[test]
fn two_doors_cannot_share_a_port() {
    let cases: [(&[Pair<'_>], &str); 3] = [
        (&[("HTTP_PORT", "1080")], "HTTP_PORT, INBOX_HTTP_PORT"),
        (&[("SMTP_PORT", "8000")], "HTTP_PORT, INBOX_SMTP_PORT"),
        (&[("INBOX_HTTP_PORT", "1025")], "INBOX_HTTP_PORT, INBOX_SMTP_PORT"),
    ];
    for (changes, expected) in cases {
        assert_eq!(only_fault(dev(changes)).0, expected);
    }
    let free = ["HTTP_PORT", "INBOX_HTTP_PORT", "INBOX_SMTP_PORT"].map(|name| (name, "0"));
    assert!(dev(&free).is_ok());
}
