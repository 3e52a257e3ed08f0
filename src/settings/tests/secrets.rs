//! Secrets: from files, and never in a message.

use super::{Folder, KEY, PRODUCTION, Pair, dev, only_fault, production, with};
use crate::settings::known::{KNOWN, file_name};
use crate::settings::reader::Reader;
use crate::settings::{ExposeSecret, JwtKey, Settings, Variables};

fn read(content: &[u8]) -> Option<String> {
    let folder = Folder::new("read");
    let path = folder.file(&format!("{:?}", std::thread::current().id()), content);
    let variables = Variables::from_iter([("SMTP_PASSWORD_FILE", path)]);
    let secret = Reader::new(&variables).secret("SMTP_PASSWORD")?;
    Some(secret.value.expose_secret().to_owned())
}

#[test]
fn one_line_end_of_a_file_is_trimmed_and_nothing_else() {
    let cases = [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("hunter2\n\n", "hunter2\n"),
        ("hunter2\r\n\r\n", "hunter2\r\n"),
        ("hunter2\r", "hunter2\r"),
        (" hunter 2 \n", " hunter 2 "),
        ("\nhunter2\n", "\nhunter2"),
    ];
    for (content, expected) in cases {
        assert_eq!(read(content.as_bytes()).as_deref(), Some(expected), "{content:?}");
    }
}

#[test]
fn every_secret_can_be_a_file() {
    let secrets: Vec<&str> = KNOWN.iter().filter(|known| known.secret).map(|known| known.name).collect();
    let expected = [
        "SMTP_USERNAME",
        "SMTP_PASSWORD",
        "SMTP_OAUTH_CLIENT_SECRET",
        "MAIL_TRANSPORTS",
        "EMAIL_HOST_USER",
        "EMAIL_HOST_PASSWORD",
        "DATABASE_URL",
        "DATABASE_PASSWORD",
        "DATABASE_DIRECT_URL",
        "JWT_SECRET",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ];
    assert_eq!(secrets, expected);

    let folder = Folder::new("every");
    let url = folder.file("database_url.txt", b"postgres://db.test/mail\n");
    let direct = folder.file("direct_url.txt", b"postgres://db.test:5433/mail\n");
    let key = folder.file("jwt_secret.txt", KEY.as_bytes());
    let user = folder.file("email_user.txt", b"me\r\n");
    let pass = folder.file("email_pass.txt", b"hunter2\n");
    let families =
        [("SMTP_USERNAME_FILE", "SMTP_PASSWORD_FILE"), ("EMAIL_HOST_USER_FILE", "EMAIL_HOST_PASSWORD_FILE")];
    for (username, password) in families {
        let settings = production(&[
            ("DATABASE_URL", ""),
            ("DATABASE_URL_FILE", &url),
            ("DATABASE_DIRECT_URL_FILE", &direct),
            ("JWT_SECRET", ""),
            ("JWT_SECRET_FILE", &key),
            (username, &user),
            (password, &pass),
        ]);
        let settings = settings.expect("no fault");
        assert_eq!(settings.database.url.expose_secret(), "postgres://db.test/mail");
        let direct = settings.database.session_url().expect("no fault");
        assert_eq!(direct.expose_secret(), "postgres://db.test:5433/mail");
        assert_eq!(settings.profile.jwt().map(JwtKey::bytes), Some(KEY.as_bytes()));
        let login = settings.profile.relay().credentials.clone().expect("no fault");
        assert_eq!(login.username.expose_secret(), "me");
        assert_eq!(login.password.expose_secret(), "hunter2");
    }
}

#[test]
fn a_secret_and_its_file_are_both_named() {
    let folder = Folder::new("both");
    let path = folder.file("secret", b"postgres://hunter2");
    for known in KNOWN.iter().filter(|known| known.secret) {
        let (name, file) = (known.name, file_name(known.name));
        let variables = Variables::from_iter([(name, "hunter2"), (&file, &path)]);
        let mut reader = Reader::new(&variables);
        assert!(reader.secret(name).is_none());
        let text = reader.finish(Some(())).expect_err("a fault").to_string();
        assert!(text.starts_with(&format!("{name}, {file}: both are set")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    // An empty one is unset.
    let key = folder.file("key", KEY.as_bytes());
    assert!(production(&[("JWT_SECRET", ""), ("JWT_SECRET_FILE", &key)]).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_its_content_is_not() {
    let folder = Folder::new("unreadable");
    let missing = folder.0.join("missing\n.txt").display().to_string();
    let large = "hunter2".repeat(10_000);
    let cases = [
        (missing.clone(), "cannot be read"),
        (folder.0.display().to_string(), "cannot be read"),
        (folder.file("empty", b"\n"), "is empty"),
        (folder.file("binary", b"hunter2\xff"), "is not UTF-8"),
        (folder.file("large", large.as_bytes()), "is larger than 64 KiB"),
    ];
    for (path, problem) in cases {
        let (names, text) = only_fault(production(&[("JWT_SECRET", ""), ("JWT_SECRET_FILE", &path)]));
        assert_eq!(names, "JWT_SECRET_FILE");
        assert!(text.contains(problem), "{text}");
        assert!(text.contains(&path.replace('\n', "\\n")), "{text}");
        assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
    }
}

#[test]
fn no_message_holds_a_secret_put_into_the_wrong_place() {
    let url = "postgres://me:hunter2@db.test/mail";
    let cases: [&[Pair<'_>]; 6] = [
        &[("DATABASE_URL", "mysql://me:hunter2@db.test/mail")],
        &[("DATABASE_URL", "hunter2")],
        &[("DATABASE_URL", ""), ("DATABASE_URL_FILE", url)],
        &[("SMTP_HOST", "smtp://me:hunter2@relay.test")],
        &[("JWT_SECRET", "hunter2")],
        &[("EMAIL_HOST_PASSWORD", "hunter2"), ("SMTP_USERNAME", "")],
    ];
    for changes in cases {
        let (_, text) = only_fault(production(changes));
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn debug_prints_no_secret() {
    let login = [("SMTP_USERNAME", "hunter1"), ("SMTP_PASSWORD", "hunter2")];
    let variables = with(&PRODUCTION, &login);
    let settings = Settings::from_variables(&variables).expect("no fault");
    let dev = dev(&[
        ("SMTP_HOST", "localhost"),
        ("DATABASE_URL", "postgres://me:hunter3@db.test/mail"),
        login[0],
        login[1],
    ]);
    for text in [format!("{variables:?}"), format!("{settings:#?}"), format!("{:#?}", dev.expect("no fault"))]
    {
        assert!(!text.contains("hunter") && !text.contains(&KEY[..8]), "{text}");
    }
}
