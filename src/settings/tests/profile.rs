//! Development, staging, production; the sender; the API's address.

use super::{PRODUCTION, development, only_fault, production, staging, with};
use crate::settings::{Database, JwtKey, Profile, Settings, Tls, Variables};

#[test]
fn production_is_what_an_unset_app_env_means() {
    for changes in [&[][..], &[("APP_ENV", "production")], &[("APP_ENV", "")]] {
        let settings = production(changes).expect("no fault");
        assert!(matches!(settings.profile, Profile::Production { .. }));
        assert!(settings.profile.jwt().is_some());
        assert!(!settings.profile.is_development());
    }
}

#[test]
fn the_other_environments_are_named() {
    assert!(matches!(staging(&[]).expect("no fault").profile, Profile::Staging { .. }));
    let settings = development(&[]).expect("no fault");
    assert!(settings.profile.is_development());
    assert!(settings.profile.jwt().is_none());
    assert_eq!(settings.sender, "noreply@local.test");
}

#[test]
fn a_misspelt_environment_is_the_only_fault() {
    for value in ["dev-ish", "prod", "Production", "dev"] {
        let (names, text) = only_fault(Settings::from_variables(&with(
            &[],
            &[("APP_ENV", value), ("DATABASE_URL", "postgres://db.test/mail")],
        )));
        assert_eq!(names, "APP_ENV");
        assert!(text.contains("development, staging or production"), "{text}");
    }
}

#[test]
fn every_fault_is_found_at_once() {
    let faults = Settings::from_variables(&Variables::default()).expect_err("a fault");
    let names: Vec<&str> = faults.iter().flat_map(|fault| fault.names()).map(String::as_str).collect();
    assert_eq!(names, ["SMTP_HOST", "JWT_SECRET", "DATABASE_URL", "EMAIL_FROM"]);
    assert_eq!(faults.to_string().lines().count(), 4);

    let faults = production(&[
        ("SMTP_PORT", "many"),
        ("HTTP_PORT", "70000"),
        ("LOG_FORMAT", "xml"),
        ("WORKER_POLL", "1"),
        ("API_DATABASE_CONNECTIONS", "0"),
        ("JWT_SECRET", "changeme"),
        ("EMAIL_FROM", "nobody"),
    ]);
    assert_eq!(faults.expect_err("a fault").iter().count(), 7);
}

#[test]
fn what_is_required_outside_development_is_named() {
    for name in ["SMTP_HOST", "EMAIL_FROM", "DATABASE_URL", "JWT_SECRET"] {
        for result in [production(&[(name, "")]), staging(&[(name, "")])] {
            let (names, text) = only_fault(result);
            assert_eq!(names, name);
            assert!(text.starts_with("required"), "{text}");
        }
    }
}

#[test]
fn a_weak_key_is_refused_in_staging_too() {
    for key in ["changeme", "secret", "short-but-random-x9", &"a".repeat(64)] {
        for result in [production(&[("JWT_SECRET", key)]), staging(&[("JWT_SECRET", key)])] {
            let (names, text) = only_fault(result);
            assert_eq!(names, "JWT_SECRET");
            assert!(!text.contains(key), "{text}");
        }
    }
}

#[test]
fn commands_read_no_more_than_they_need() {
    let database = Variables::from_iter([("DATABASE_URL", "postgresql://db.test/mail")]);
    let database = Database::from_variables(&database).expect("no fault");
    assert_eq!((database.access.api_connections, database.access.worker_connections), (10, 4));
    assert_eq!(only_fault(Database::from_variables(&Variables::default())).0, "DATABASE_URL");

    assert!(JwtKey::from_variables(&Variables::from_iter([("JWT_SECRET", super::KEY)])).is_ok());
    assert_eq!(only_fault(JwtKey::from_variables(&Variables::default())).0, "JWT_SECRET");
}

#[test]
fn the_api_listens_on_this_machine_in_development_and_for_all_elsewhere() {
    let cases: [(_, &[_], _); 6] = [
        (development as fn(&_) -> _, &[], "127.0.0.1:8000"),
        (staging, &[], "0.0.0.0:8000"),
        (production, &[], "0.0.0.0:8000"),
        (development, &[("HTTP_HOST", "0.0.0.0"), ("HTTP_PORT", "0")], "0.0.0.0:0"),
        (production, &[("HTTP_HOST", "localhost")], "127.0.0.1:8000"),
        (production, &[("HTTP_HOST", "[::1]"), ("HTTP_PORT", "9")], "[::1]:9"),
    ];
    for (read, changes, expected) in cases {
        let settings: Settings = read(changes).expect("no fault");
        assert_eq!(settings.http.to_string(), expected);
    }
    assert_eq!(only_fault(production(&[("HTTP_HOST", "api.test")])).0, "HTTP_HOST");
}

#[test]
fn a_sender_that_is_none_is_refused() {
    let (names, text) = only_fault(production(&[("EMAIL_FROM", "a@b@c\r\nX")]));
    assert_eq!(names, "EMAIL_FROM");
    assert_eq!(text, r#""a@b@c\r\nX" is not an address, or Name <address>"#);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_text_is_a_fault() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let pairs = PRODUCTION.map(|(name, value)| (name, OsString::from(value)));
    let odd = [("SMTP_PORT", OsString::from_vec(vec![b'2', 0xff]))];
    let variables = pairs.into_iter().chain(odd).collect();
    let (names, text) = only_fault(Settings::from_variables(&variables));
    assert_eq!((names.as_str(), text.as_str()), ("SMTP_PORT", "is not UTF-8 text"));
}

#[test]
fn production_takes_a_plain_relay_on_this_machine_only() {
    let plain = ("SMTP_TLS", "none");
    for host in ["localhost", "127.0.0.1", "::1"] {
        let settings = production(&[("SMTP_HOST", host), plain]).expect("no fault");
        assert_eq!(settings.profile.relay().tls, Tls::None);
    }
    for tls in [plain, ("EMAIL_USE_TLS", "False")] {
        let (names, text) = only_fault(production(&[tls]));
        assert_eq!(names, "SMTP_TLS, EMAIL_USE_TLS, EMAIL_USE_SSL");
        assert!(text.contains("in clear"), "{text}");
    }
    let catcher = staging(&[("SMTP_HOST", "maildev"), plain, ("SMTP_PORT", "1025")]).expect("no fault");
    assert_eq!(catcher.profile.relay().tls, Tls::None);
}
