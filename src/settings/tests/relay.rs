//! The two families of SMTP variables.

use super::{Pair, development, only_fault, production, staging};
use crate::settings::{Relay, Tls};

const LOGIN: [Pair<'_>; 2] = [("SMTP_USERNAME", "me"), ("SMTP_PASSWORD", "hunter2")];

fn tls_and_port(relay: &Relay) -> (Tls, u16) {
    (relay.tls, relay.port)
}

#[test]
fn what_is_unsaid_follows_from_what_is_said() {
    let cases: [(&[Pair<'_>], _); 10] = [
        (&[], (Tls::StartTls, 587)),
        (&[("SMTP_PORT", "465")], (Tls::Implicit, 465)),
        (&[("SMTP_PORT", "2525")], (Tls::StartTls, 2525)),
        (&[("SMTP_TLS", "implicit")], (Tls::Implicit, 465)),
        (&[("SMTP_TLS", "StartTLS"), ("SMTP_PORT", "465")], (Tls::StartTls, 465)),
        (&[("SMTP_HOST", "localhost")], (Tls::None, 25)),
        (&[("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", "465")], (Tls::Implicit, 465)),
        (&[("EMAIL_USE_SSL", "True")], (Tls::Implicit, 465)),
        (&[("EMAIL_USE_TLS", "1"), ("EMAIL_USE_SSL", "off")], (Tls::StartTls, 587)),
        (&[("EMAIL_USE_SSL", "False")], (Tls::StartTls, 587)),
    ];
    for (changes, expected) in cases {
        for settings in [production(changes), staging(changes)] {
            assert_eq!(tls_and_port(settings.expect("no fault").profile.relay()), expected, "{changes:?}");
        }
    }
}

#[test]
fn development_assumes_a_mail_catcher() {
    let cases: [(&[Pair<'_>], &str, _); 6] = [
        (&[], "127.0.0.1", (Tls::None, 1025)),
        (&[("SMTP_HOST", "maildev")], "maildev", (Tls::None, 1025)),
        (&[("EMAIL_HOST", "maildev"), ("EMAIL_PORT", "25")], "maildev", (Tls::None, 25)),
        (&[("SMTP_HOST", "a.test"), ("SMTP_PORT", "465")], "a.test", (Tls::Implicit, 465)),
        (&[("SMTP_HOST", "a.test"), ("SMTP_TLS", "starttls")], "a.test", (Tls::StartTls, 587)),
        (&[("SMTP_PORT", "2525")], "127.0.0.1", (Tls::None, 2525)),
    ];
    for (changes, host, expected) in cases {
        let settings = development(changes).expect("no fault");
        let relay = settings.profile.relay();
        assert_eq!((relay.host.as_str(), tls_and_port(relay)), (host, expected));
    }
}

#[test]
fn a_login_is_not_sent_in_clear_by_default_even_in_development() {
    let [username, password] = LOGIN;
    let relay = |changes: &[Pair<'_>]| development(changes).expect("no fault").profile.relay().tls;
    assert_eq!(relay(&[("SMTP_HOST", "relay.test"), username, password]), Tls::StartTls);
    assert_eq!(relay(&[("SMTP_HOST", "localhost"), username, password]), Tls::None);
    let plain = ("SMTP_TLS", "none");
    assert_eq!(relay(&[("SMTP_HOST", "relay.test"), plain, username, password]), Tls::None);
}

#[test]
fn a_login_in_clear_over_a_network_is_refused_outside_development() {
    let [username, password] = LOGIN;
    let (names, _) = only_fault(staging(&[("SMTP_TLS", "none"), username, password]));
    assert_eq!(names, "SMTP_TLS");
    let (names, _) = only_fault(staging(&[("EMAIL_USE_TLS", "False"), username, password]));
    assert_eq!(names, "EMAIL_USE_TLS");
    only_fault(production(&[("SMTP_TLS", "none"), username, password]));
    let here = ("SMTP_HOST", "localhost");
    assert!(staging(&[here, ("SMTP_TLS", "none"), username, password]).is_ok());
}

#[test]
fn either_family_is_enough() {
    let settings = production(&[
        ("SMTP_HOST", ""),
        ("EMAIL_HOST", "relay.test"),
        ("EMAIL_PORT", "2525"),
        ("EMAIL_USE_TLS", "True"),
        ("EMAIL_HOST_USER", "me"),
        ("EMAIL_HOST_PASSWORD", "hunter2"),
        ("EMAIL_FROM", ""),
        ("DEFAULT_FROM_EMAIL", "Acme <a@acme.test>"),
    ]);
    let settings = settings.expect("no fault");
    let relay = settings.profile.relay();
    assert_eq!((relay.host.as_str(), tls_and_port(relay)), ("relay.test", (Tls::StartTls, 2525)));
    assert!(relay.credentials.is_some());
    assert_eq!(settings.sender, "Acme <a@acme.test>");
}

/// Each setting that both families have, with two values that differ.
const PAIRS: [(&str, &str, &str, &str); 6] = [
    ("SMTP_HOST", "EMAIL_HOST", "one.test", "two.test"),
    ("SMTP_PORT", "EMAIL_PORT", "587", "2525"),
    ("SMTP_USERNAME", "EMAIL_HOST_USER", "hunter1", "hunter2"),
    ("SMTP_PASSWORD", "EMAIL_HOST_PASSWORD", "hunter1", "hunter2"),
    ("SMTP_TLS", "EMAIL_USE_SSL", "starttls", "True"),
    ("EMAIL_FROM", "DEFAULT_FROM_EMAIL", "a@acme.test", "b@acme.test"),
];

#[test]
fn families_that_disagree_are_both_named() {
    for (ours, django, one, two) in PAIRS {
        let mut changes = LOGIN.to_vec();
        changes.retain(|(name, _)| *name != ours);
        changes.extend([(ours, one), (django, two)]);
        let (names, text) = only_fault(production(&changes));
        assert_eq!(names, format!("{ours}, {django}"));
        assert!(!text.contains("hunter"), "{text}");
    }
    let (names, _) = only_fault(production(&[("SMTP_TLS", "implicit"), ("EMAIL_USE_TLS", "yes")]));
    assert_eq!(names, "SMTP_TLS, EMAIL_USE_TLS");
}

#[test]
fn families_that_agree_are_fine() {
    for (ours, django, one, _) in PAIRS {
        let same = if django == "EMAIL_USE_SSL" { "False" } else { one };
        let mut changes = LOGIN.to_vec();
        changes.retain(|(name, _)| *name != ours);
        changes.extend([(ours, one), (django, same)]);
        production(&changes).expect("no fault");
    }
    production(&[("SMTP_HOST", "Relay.test"), ("EMAIL_HOST", "relay.TEST")]).expect("no fault");
}

#[test]
fn djangos_two_flags_exclude_each_other() {
    for yes in ["True", "true", "1", "yes", "on", "T"] {
        let (names, _) = only_fault(production(&[("EMAIL_USE_TLS", yes), ("EMAIL_USE_SSL", yes)]));
        assert_eq!(names, "EMAIL_USE_TLS, EMAIL_USE_SSL");
    }
    for no in ["False", "0", "no", "OFF", "f"] {
        let settings = production(&[("EMAIL_USE_TLS", no), ("EMAIL_USE_SSL", "True")]);
        assert_eq!(settings.expect("no fault").profile.relay().tls, Tls::Implicit);
    }
    assert_eq!(only_fault(production(&[("EMAIL_USE_TLS", "maybe")])).0, "EMAIL_USE_TLS");
}

#[test]
fn a_login_has_two_halves() {
    let cases = [
        ("SMTP_USERNAME", "SMTP_PASSWORD"),
        ("EMAIL_HOST_USER", "SMTP_PASSWORD"),
        ("SMTP_PASSWORD", "SMTP_USERNAME"),
        ("EMAIL_HOST_PASSWORD", "SMTP_USERNAME"),
    ];
    for (set, missing) in cases {
        let (names, text) = only_fault(production(&[(set, "hunter2")]));
        assert_eq!(names, missing);
        assert!(text.contains(set) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_login_without_a_server_is_refused_in_development() {
    assert_eq!(only_fault(development(&LOGIN)).0, "SMTP_HOST");
    assert_eq!(only_fault(development(&[("SMTP_TLS", "starttls")])).0, "SMTP_HOST");
    assert!(development(&[("EMAIL_USE_TLS", "False")]).is_ok());
}

#[test]
fn what_is_malformed_is_named_once_with_what_is_accepted() {
    let cases = [
        ("SMTP_HOST", "relay.test:25", "a host name"),
        ("SMTP_PORT", "0", "1 to 65535"),
        ("SMTP_PORT", "65536", "1 to 65535"),
        ("EMAIL_PORT", "smtp", "1 to 65535"),
        ("SMTP_TLS", "ssl", "none, starttls or implicit"),
        ("SMTP_HELLO_NAME", "a b", "a host name"),
        ("SMTP_HELLO_NAME", "10.0.0.1", "a host name"),
        ("SMTP_MAX_CONNECTIONS", "0", "1 to 1000"),
    ];
    for (name, value, accepts) in cases {
        let (names, text) = only_fault(production(&[(name, value)]));
        assert_eq!(names, name);
        assert!(text.contains(accepts) && text.contains(value), "{text}");
    }
}

#[test]
fn the_rest_of_the_relay() {
    let settings = production(&[]).expect("no fault");
    assert_eq!(settings.profile.relay().max_connections, 8);
    assert_eq!(settings.profile.relay().hello_name, None);
    for name in ["mail.acme.test", "[10.0.0.1]"] {
        let settings = production(&[("SMTP_HELLO_NAME", name), ("SMTP_MAX_CONNECTIONS", "3")]);
        let settings = settings.expect("no fault");
        assert_eq!(settings.profile.relay().hello_name.as_deref(), Some(name));
        assert_eq!(settings.profile.relay().max_connections, 3);
    }
}
