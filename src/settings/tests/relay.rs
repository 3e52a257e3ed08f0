//! The two families of SMTP variables.

use std::time::Duration;

use super::{Folder, Pair, development, only_fault, production, staging};
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

const OAUTH: [Pair<'_>; 4] = [
    ("SMTP_USERNAME", "shop@acme.test"),
    ("SMTP_OAUTH_TOKEN_URL", "https://login.test/tenant/token"),
    ("SMTP_OAUTH_CLIENT_ID", "client"),
    ("SMTP_OAUTH_CLIENT_SECRET", "hunter2"),
];

#[cfg(feature = "oauth")]
#[test]
fn tokens_need_a_mailbox_and_no_password() {
    for changes in [OAUTH.to_vec(), [&OAUTH[..], &[("SMTP_PASSWORD", "hunter3")]].concat()] {
        let settings = production(&changes).expect("no fault");
        let relay = settings.profile.relay();
        let oauth = relay.oauth.as_ref().expect("tokens");
        assert_eq!((oauth.client_id.as_str(), oauth.scope.as_deref()), ("client", None));
        assert_eq!(relay.credentials.is_some(), changes.len() > OAUTH.len());
        assert!(!format!("{settings:?}").contains("hunter"));
    }
    for (missing, _) in OAUTH {
        let changes: Vec<_> = OAUTH.into_iter().filter(|(name, _)| *name != missing).collect();
        let (names, text) = only_fault(production(&changes));
        assert_eq!(names, missing);
        assert!(!text.contains("hunter"), "{text}");
    }
    let (names, _) = only_fault(production(&[
        ("SMTP_OAUTH_TOKEN_URL", "http://login.test/token"),
        OAUTH[0],
        OAUTH[2],
        OAUTH[3],
    ]));
    assert_eq!(names, "SMTP_OAUTH_TOKEN_URL");
    // A token is a login: not in clear over a network.
    let (names, _) = only_fault(staging(&[&OAUTH[..], &[("SMTP_TLS", "none")]].concat()));
    assert_eq!(names, "SMTP_TLS");
    let host = ("SMTP_HOST", "relay.test");
    let settings = development(&[&OAUTH[..], &[host]].concat()).expect("no fault");
    assert_eq!(settings.profile.relay().tls, Tls::StartTls);
}

#[cfg(not(feature = "oauth"))]
#[test]
fn a_build_that_cannot_fetch_tokens_says_so() {
    let (names, text) = only_fault(production(&OAUTH));
    assert_eq!(names, "SMTP_OAUTH_TOKEN_URL");
    assert!(text.contains("feature `oauth`"), "{text}");
}

#[test]
fn limits_of_a_connection_are_settings() {
    let settings = production(&[
        ("SMTP_MAX_PER_CONNECTION", "10"),
        ("SMTP_IDLE_TIMEOUT", "90s"),
        ("SMTP_MAX_CONNECTION_AGE", "1h"),
    ]);
    let settings = settings.expect("no fault");
    let relay = settings.profile.relay();
    assert_eq!(relay.max_per_connection, 10);
    assert_eq!(relay.idle_timeout, Duration::from_secs(90));
    assert_eq!(relay.max_connection_age, Duration::from_secs(3_600));
    let settings = production(&[]).expect("no fault");
    let relay = settings.profile.relay();
    assert_eq!(relay.max_per_connection, 100);
    assert_eq!(relay.idle_timeout, Duration::from_secs(20));
    assert_eq!(relay.max_connection_age, Duration::from_secs(300));
    let refused = [
        ("SMTP_MAX_PER_CONNECTION", "0"),
        ("SMTP_MAX_PER_CONNECTION", "-1"),
        ("SMTP_IDLE_TIMEOUT", "20"),
        ("SMTP_IDLE_TIMEOUT", "0s"),
        ("SMTP_MAX_CONNECTION_AGE", "25h"),
    ];
    for (name, value) in refused {
        assert_eq!(only_fault(production(&[(name, value)])).0, name, "{value}");
    }
}

/// Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 36500 -nodes`, for this test alone.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUffZZ2OI6ksO5fMua1UeeWKG/4bMwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHY2EudGVzdDAgFw0yNjExMjIyMTM5NDNaGA8yMTI2MTAyOTIx
Mzk0M1owEjEQMA4GA1UEAwwHY2EudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABD0fOJIx2XCwHag4qNgnQmTfeu48IvLbrGksYExCXjUJooaA4xGcMX20vWsf
M27drEwXdPXsZCeEOyHxcDOtj2ajUzBRMB0GA1UdDgQWBBSQIQF6QR2tyyZilt8l
8YUqPaTibTAfBgNVHSMEGDAWgBSQIQF6QR2tyyZilt8l8YUqPaTibTAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIH2wa12/hf06W410agcREC0NNhWC
quj2eg/Gi88/V7u4AiEAnB/mEVfZV8WLmqQCgmQ7sLB4NUReMcL+cwsZt+xtjsY=
-----END CERTIFICATE-----";
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBnFQ1i5fgu2kmhW2
vvmfgQpAEZf8z9JsX6gCdcUwPe+hRANCAAQ9HziSMdlwsB2oOKjYJ0Jk33ruPCLy
26xpLGBMQl41CaKGgOMRnDF9tL1rHzNu3axMF3T17GQnhDsh8XAzrY9m
-----END PRIVATE KEY-----";

#[test]
fn certificates_are_read_at_the_start_and_a_bad_file_is_named() {
    let folder = Folder::new("certificates");
    let good = folder.file("good.pem", CERTIFICATE.as_bytes());
    let two = folder.file("two.pem", [CERTIFICATE, CERTIFICATE].join("\n").as_bytes());
    let key = folder.file("key.pem", KEY.as_bytes());
    for (file, count) in [(&good, 1), (&two, 2)] {
        let settings = production(&[("SMTP_CA_FILE", file)]).expect("no fault");
        assert_eq!(settings.profile.relay().authorities.len(), count);
    }
    let other_key = folder.file("other.pem", OTHER_KEY.as_bytes());
    let text = folder.file("text.pem", b"hunter2");
    let empty = folder.file("empty.pem", b"");
    let broken = folder.file("broken.pem", CERTIFICATE.replace("MIIB", "MIIA").as_bytes());
    let cut = folder.file("cut.pem", &CERTIFICATE.as_bytes()[..100]);
    let missing = folder.file("missing.pem", b"").replace("missing", "nowhere");
    for file in [&text, &empty, &broken, &cut, &missing, &key] {
        let (names, text) = only_fault(production(&[("SMTP_CA_FILE", file)]));
        assert_eq!(names, "SMTP_CA_FILE", "{file}");
        assert!(text.contains(file.as_str()) && !text.contains("hunter2"), "{text}");
    }
    let families =
        [("SMTP_CLIENT_CERT_FILE", "SMTP_CLIENT_KEY_FILE"), ("EMAIL_SSL_CERTFILE", "EMAIL_SSL_KEYFILE")];
    for (cert_name, key_name) in families {
        let settings = production(&[(cert_name, &good), (key_name, &key)]).expect("no fault");
        let ours = settings.profile.relay().client_certificate.as_ref().expect("a certificate");
        assert_eq!(ours.chain.len(), 1);
        assert!(!format!("{settings:?}").contains("key.pem"));
        for file in [&text, &missing, &good] {
            let (names, text) = only_fault(production(&[(cert_name, &good), (key_name, file)]));
            assert_eq!(names, key_name);
            assert!(text.contains(file.as_str()) && !text.contains("hunter2"), "{text}");
        }
        assert_eq!(only_fault(production(&[(cert_name, &text), (key_name, &key)])).0, cert_name);
        // Each is sound, and they do not belong together.
        let (names, _) = only_fault(production(&[(cert_name, &good), (key_name, &other_key)]));
        assert_eq!(names, format!("{cert_name}, {key_name}"));
    }
    assert_eq!(only_fault(production(&[("SMTP_CLIENT_CERT_FILE", &good)])).0, "SMTP_CLIENT_KEY_FILE");
    assert_eq!(only_fault(production(&[("EMAIL_SSL_KEYFILE", &key)])).0, "SMTP_CLIENT_CERT_FILE");
    let two_families =
        [("SMTP_CLIENT_CERT_FILE", &*good), ("EMAIL_SSL_CERTFILE", &*two), ("SMTP_CLIENT_KEY_FILE", &*key)];
    let (names, _) = only_fault(production(&two_families));
    assert_eq!(names, "SMTP_CLIENT_CERT_FILE, EMAIL_SSL_CERTFILE");
}

#[test]
fn whoever_names_a_certificate_wants_tls() {
    let folder = Folder::new("wants-tls");
    let file = folder.file("ca.pem", CERTIFICATE.as_bytes());
    let ca = ("SMTP_CA_FILE", file.as_str());
    for settings in
        [production(&[("SMTP_HOST", "localhost"), ca]), development(&[("SMTP_HOST", "maildev"), ca])]
    {
        assert_eq!(settings.expect("no fault").profile.relay().tls, Tls::StartTls);
    }
    let settings = production(&[("SMTP_PORT", "465"), ca]).expect("no fault");
    assert_eq!(settings.profile.relay().tls, Tls::Implicit);
    let (names, text) = only_fault(staging(&[("SMTP_TLS", "none"), ca]));
    assert_eq!(names, "SMTP_CA_FILE");
    assert!(text.contains("starttls"), "{text}");
}

const OTHER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/Fl7bWkLK8OO1dtg
fwF2TobLF10r+BcZuNeaQbTQ34GhRANCAARLWVXYMvYGjZUg7xJjFWGGlghboqCb
HJ2vDXiOU8uwn9305nSURu4xy3+UynORq0HzABRDFjdhAjWV+t9/kjkx
-----END PRIVATE KEY-----";
