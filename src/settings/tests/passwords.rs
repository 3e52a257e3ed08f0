//! The password of the database apart from its URL, and passwords that everybody tries first.

use super::{Folder, PRODUCTION, dev, development, only_fault, production, staging, with};
use crate::settings::{Database, ExposeSecret, Settings, Variables, WorkerSettings};

const URL: (&str, &str) = ("DATABASE_URL", "postgres://facteur@db.test:5432/mail");

fn url(settings: &Settings) -> &str {
    settings.database.url.expose_secret()
}

#[test]
fn the_password_of_the_database_can_be_a_file_that_postgres_reads_too() {
    let folder = Folder::new("database-password");
    let file = folder.file("database_password.txt", b"p/w:d@1\n");
    let settings = production(&[URL, ("DATABASE_PASSWORD_FILE", &file)]).expect("no fault");
    assert_eq!(url(&settings), "postgres://facteur:p%2Fw%3Ad%401@db.test:5432/mail");

    let direct = ("DATABASE_DIRECT_URL", "postgres://facteur@db.test:5433/mail");
    let both = [URL, direct, ("DATABASE_PASSWORD", "pw1x9")];
    let access = production(&both).expect("no fault").database.access;
    let direct = access.direct_url.expect("set");
    assert_eq!(direct.expose_secret(), "postgres://facteur:pw1x9@db.test:5433/mail");

    let dev = dev(&[URL, ("DATABASE_PASSWORD", "pw1x9")]).expect("no fault");
    assert!(dev.database_url.expect("set").expose_secret().contains(":pw1x9@"));
    let database = Variables::from_iter([URL, ("DATABASE_PASSWORD", "pw1x9")]);
    assert!(Database::from_variables(&database).is_ok());
}

#[test]
fn two_passwords_or_none_to_put_it_with_are_faults() {
    let (names, text) = only_fault(production(&[("DATABASE_PASSWORD", "pw1x9")]));
    assert_eq!(names, "DATABASE_URL, DATABASE_PASSWORD");
    assert!(text.contains("both hold a password"), "{text}");
    let nobody = ("DATABASE_URL", "postgres://db.test/mail");
    let (names, text) = only_fault(production(&[nobody, ("DATABASE_PASSWORD", "pw1x9")]));
    assert_eq!(names, "DATABASE_URL, DATABASE_PASSWORD");
    assert!(text.contains("names no user"), "{text}");
    let (names, _) = only_fault(production(&[("DATABASE_URL", ""), ("DATABASE_PASSWORD", "pw1x9")]));
    assert_eq!(names, "DATABASE_URL");
}

#[test]
fn a_password_that_everybody_tries_first_is_refused_outside_development() {
    for password in ["changeme", "secret", "aaaaaaaa", "postgres", "facteur"] {
        let changes = [URL, ("DATABASE_PASSWORD", password)];
        for result in [production(&changes), staging(&changes)] {
            let (names, text) = only_fault(result);
            assert_eq!(names, "DATABASE_URL, DATABASE_PASSWORD");
            assert!(text.contains("well known") && !text.contains(password), "{text}");
        }
        assert!(development(&changes).is_ok());

        let inside = format!("postgres://facteur:{password}@db.test/mail");
        assert_eq!(only_fault(production(&[("DATABASE_URL", &inside)])).0, "DATABASE_URL");

        let login = [("EMAIL_HOST_USER", "me"), ("EMAIL_HOST_PASSWORD", password)];
        for result in [production(&login), staging(&login)] {
            assert_eq!(only_fault(result).0, "EMAIL_HOST_PASSWORD");
        }
        let ways = format!("smtp://me:{password}@relay.test");
        let several = [("SMTP_HOST", ""), ("MAIL_TRANSPORTS", ways.as_str())];
        assert_eq!(only_fault(production(&several)).0, "MAIL_TRANSPORTS");
    }
}

#[test]
fn a_worker_needs_neither_key_nor_sender_and_is_held_to_all_the_rest() {
    let worker = |changes: &[(&str, &str)]| WorkerSettings::from_variables(&with(&PRODUCTION, changes));
    let without =
        [("JWT_SECRET", ""), ("EMAIL_FROM", ""), ("METRICS_PORT", "9464"), ("METRICS_HOST", "0.0.0.0")];
    let settings = worker(&without).expect("no fault");
    assert_eq!(settings.ways.len(), 1);
    assert_eq!(settings.metrics.map(|address| address.to_string()).as_deref(), Some("0.0.0.0:9464"));
    assert!(!settings.hold_on_start);
    assert!(worker(&[("MAIL_HOLD_ON_START", "1")]).expect("no fault").hold_on_start);
    assert_eq!(only_fault(worker(&[("MAIL_HOLD_ON_START", "maybe")])).0, "MAIL_HOLD_ON_START");
    assert!(worker(&[("SMTP_TLS", "none")]).is_err(), "nothing in clear");
    assert!(worker(&[("DATABASE_URL", "")]).is_err());
    let faults =
        worker(&[("SMTP_HOST", ""), ("DATABASE_URL", ""), ("WORKER_POLL", "1")]).expect_err("faults");
    assert_eq!(faults.iter().count(), 3, "{faults}");
}
