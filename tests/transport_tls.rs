//! TLS is what was asked for, or nothing is said.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport;

use std::time::Duration;

use facteur::settings::{Kind, Relay, Settings, Tls, Variables};
use facteur::testing::{Fault, Identity, Script, SmtpServer, Stage, TestAuthority};
use facteur::transport::smtp::SmtpTransport;
use facteur::transport::{Outcome, Report};

use transport::{deadlines, patient, send};

fn script() -> Script {
    Script::new().login("ada", "s3cret")
}

/// One of the two ways to TLS, on a server that is to be sent one mail.
type Way = fn(Script, Identity) -> Script;

const WAYS: [Way; 2] = [Script::starttls, Script::implicit_tls];

fn trusting(relay: &Relay, authority: &TestAuthority) -> SmtpTransport {
    let each = deadlines(Duration::from_secs(10));
    SmtpTransport::with_roots(relay, authority.roots().unwrap(), each).unwrap()
}

async fn sent_by(script: Script, authority: &TestAuthority) -> (Outcome, SmtpServer) {
    let server = SmtpServer::start(script).await.unwrap();
    let outcome = send(&trusting(&server.relay(), authority), "ada@example.test").await;
    (outcome, server)
}

#[track_caller]
fn unusable(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Unusable(report) => report,
        other => panic!("{other:?}"),
    }
}

/// Neither the login nor the mail, in clear or not.
#[track_caller]
fn nothing_was_given_away(server: &SmtpServer) {
    for conversation in server.conversations() {
        for secret in ["AUTH", "AGFkYQBzM2NyZXQ=", "MAIL", "Good day"] {
            assert!(!conversation.heard(secret), "{secret} was sent");
        }
    }
    assert_eq!(server.accepted().len(), 0);
}

#[tokio::test]
async fn mail_and_login_go_inside_tls_both_ways() {
    let authority = TestAuthority::new().unwrap();
    for way in WAYS {
        let (outcome, server) =
            sent_by(way(script(), authority.issue("127.0.0.1").unwrap()), &authority).await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
        let conversation = &server.conversations()[0];
        assert!(conversation.heard("AUTH PLAIN AGFkYQBzM2NyZXQ=\r\n"));
        let clear = String::from_utf8(conversation.received_in_clear()).unwrap();
        let expected =
            if server.relay().tls == Tls::StartTls { "EHLO [127.0.0.1]\r\nSTARTTLS\r\n" } else { "" };
        assert_eq!(clear, expected);
        assert_eq!(server.accepted().len(), 1);
    }
}

#[tokio::test]
async fn a_host_name_is_checked_as_well_as_an_address() {
    let authority = TestAuthority::new().unwrap();
    for way in WAYS {
        let script = way(script(), authority.issue("localhost").unwrap());
        let server = SmtpServer::start(script).await.unwrap();
        let named = Relay { host: "localhost".to_owned(), ..server.relay() };
        let outcome = send(&trusting(&named, &authority), "ada@example.test").await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
        let other = server.relay();
        unusable(send(&trusting(&other, &authority), "ada@example.test").await);
    }
}

#[tokio::test]
async fn starttls_that_was_cut_out_is_not_done_without() {
    let authority = TestAuthority::new().unwrap();
    let script = script().starttls(authority.issue("127.0.0.1").unwrap()).strip_starttls();
    let (outcome, server) = sent_by(script, &authority).await;
    assert_eq!(unusable(outcome).stage.as_str(), "starttls");
    nothing_was_given_away(&server);
}

#[tokio::test]
async fn starttls_that_is_refused_is_not_done_without() {
    let authority = TestAuthority::new().unwrap();
    for code in [502, 554] {
        let script = script().starttls(authority.issue("127.0.0.1").unwrap());
        let (outcome, server) =
            sent_by(script.at(Stage::StartTls, Fault::reply(code, "5.7.0 no")), &authority).await;
        assert_eq!(unusable(outcome).stage.as_str(), "starttls");
        nothing_was_given_away(&server);
    }
}

#[tokio::test]
async fn bytes_injected_behind_starttls_end_it() {
    let authority = TestAuthority::new().unwrap();
    for injected in [
        "250 2.0.0 ok\r\n",
        "250-evil\r\n250 AUTH PLAIN\r\n235 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n",
        "2",
    ] {
        let script = script().starttls(authority.issue("127.0.0.1").unwrap());
        let (outcome, server) =
            sent_by(script.at(Stage::StartTls, Fault::followed_by(injected)), &authority).await;
        assert_eq!(unusable(outcome).stage.as_str(), "starttls");
        nothing_was_given_away(&server);
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_ends_it() {
    let authority = TestAuthority::new().unwrap();
    let stranger = TestAuthority::new().unwrap();
    for way in WAYS {
        for (fault, identity) in [
            ("wrong name", authority.issue("elsewhere.test")),
            ("wrong address", authority.issue("127.0.0.2")),
            ("expired", authority.issue_expired("127.0.0.1")),
            ("self-signed", Identity::self_signed("127.0.0.1")),
            ("of an authority nobody trusts", stranger.issue("127.0.0.1")),
        ] {
            let (outcome, server) = sent_by(way(script(), identity.unwrap()), &authority).await;
            let report = unusable(outcome);
            assert_eq!(report.stage.as_str(), "tls", "{fault}");
            assert!(report.text.contains("certificate"), "{fault}: {}", report.text);
            nothing_was_given_away(&server);
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_in_clear_on_the_port_for_tls_gets_nothing() {
    let authority = TestAuthority::new().unwrap();
    let server = SmtpServer::start(script()).await.unwrap();
    let relay = Relay { tls: Tls::Implicit, ..server.relay() };
    let outcome = send(&trusting(&relay, &authority), "ada@example.test").await;
    assert!(matches!(&outcome, Outcome::Retry(report, _) if report.stage.as_str() == "tls"), "{outcome:?}");
    nothing_was_given_away(&server);
}

#[tokio::test]
async fn what_was_offered_in_clear_does_not_count_inside_tls() {
    // Inside, there is no AUTH; the offer that was made outside is not taken up.
    let authority = TestAuthority::new().unwrap();
    let lure = Fault::reply(250, "evil.test\nSTARTTLS\nAUTH PLAIN LOGIN");
    let script =
        script().mechanisms("").starttls(authority.issue("127.0.0.1").unwrap()).at(Stage::Ehlo, lure);
    let (outcome, server) = sent_by(script, &authority).await;
    assert_eq!(unusable(outcome).stage.as_str(), "auth");
    nothing_was_given_away(&server);
}

#[tokio::test]
async fn without_authorities_nobody_is_trusted() {
    let authority = TestAuthority::new().unwrap();
    for way in WAYS {
        let server = SmtpServer::start(way(script(), authority.issue("127.0.0.1").unwrap())).await.unwrap();
        let report = unusable(send(&patient(&server.relay()), "ada@example.test").await);
        assert_eq!(report.stage.as_str(), "tls");
        nothing_was_given_away(&server);
    }
}

/// The files of an authority, a client's certificate and its key, and what settings make of them.
struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// As production reads it.
fn relay_of(server: &SmtpServer, files: &[(&str, &str)]) -> Relay {
    let given = server.relay();
    let port = given.port.to_string();
    let tls = if given.tls == Tls::Implicit { "implicit" } else { "starttls" };
    let all = [
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &port),
        ("SMTP_TLS", tls),
        ("SMTP_USERNAME", "ada"),
        ("SMTP_PASSWORD", "s3cret"),
        ("EMAIL_FROM", "shop@example.test"),
        ("DATABASE_URL", "postgres://localhost/mail"),
        ("JWT_SECRET", "kW3vXo0n1yqfT8sB5hUe2RmZ7dLcA9pJ4gQiYxN6wFt"),
    ];
    let variables: Variables = all.iter().chain(files).copied().collect();
    let settings = Settings::from_variables(&variables).unwrap();
    match &settings.profile.ways()[0].kind {
        Kind::Smtp(relay) => relay.clone(),
        Kind::Api(api) => panic!("{api:?}"),
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_besides_the_machines() {
    let (authority, stranger) = (TestAuthority::new().unwrap(), TestAuthority::new().unwrap());
    let files = Files::new("own-authority");
    let both = files.file("both.pem", &format!("Ours:\n{}\n{}", stranger.pem(), authority.pem()));
    let other = files.file("other.pem", &stranger.pem());
    for way in WAYS {
        let server = SmtpServer::start(way(script(), authority.issue("127.0.0.1").unwrap())).await.unwrap();
        // As `facteur serve` makes it: this machine's authorities, and the file's.
        let relay = relay_of(&server, &[("SMTP_CA_FILE", &both)]);
        let outcome = send(&SmtpTransport::new(&relay).unwrap(), "ada@example.test").await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
        // The wrong one is no help, and does not switch the check off.
        let relay = relay_of(&server, &[("SMTP_CA_FILE", &other)]);
        let report = unusable(send(&SmtpTransport::new(&relay).unwrap(), "ada@example.test").await);
        assert_eq!(report.stage.as_str(), "tls");
        assert_eq!(server.accepted().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_asks_who_connects_is_shown_our_certificate() {
    let (authority, stranger) = (TestAuthority::new().unwrap(), TestAuthority::new().unwrap());
    let files = Files::new("client");
    let ca = files.file("ca.pem", &authority.pem());
    let (ours, theirs) =
        (authority.issue_client("client.test").unwrap(), stranger.issue_client("client.test").unwrap());
    let (cert, key) = (files.file("cert.pem", &ours.pem()), files.file("key.pem", &ours.key_pem()));
    let (other_cert, other_key) =
        (files.file("other.pem", &theirs.pem()), files.file("other-key.pem", &theirs.key_pem()));
    for way in WAYS {
        let identity = authority.issue("127.0.0.1").unwrap().for_clients_of(&authority).unwrap();
        let server = SmtpServer::start(way(script(), identity)).await.unwrap();
        for (cert_name, key_name) in
            [("SMTP_CLIENT_CERT_FILE", "SMTP_CLIENT_KEY_FILE"), ("EMAIL_SSL_CERTFILE", "EMAIL_SSL_KEYFILE")]
        {
            let relay = relay_of(&server, &[("SMTP_CA_FILE", &ca), (cert_name, &cert), (key_name, &key)]);
            let outcome = send(&SmtpTransport::new(&relay).unwrap(), "ada@example.test").await;
            assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
        }
        assert_eq!(server.accepted().len(), 2);
        // None, and one that the server does not know: nothing that time would mend.
        let none = relay_of(&server, &[("SMTP_CA_FILE", &ca)]);
        let wrong = relay_of(
            &server,
            &[
                ("SMTP_CA_FILE", &ca),
                ("SMTP_CLIENT_CERT_FILE", &other_cert),
                ("SMTP_CLIENT_KEY_FILE", &other_key),
            ],
        );
        for relay in [none, wrong] {
            let report = unusable(send(&SmtpTransport::new(&relay).unwrap(), "ada@example.test").await);
            assert_eq!(report.stage.as_str(), "tls", "{}", report.text);
        }
        assert_eq!(server.accepted().len(), 2);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_nobody_who_does_not_ask() {
    let authority = TestAuthority::new().unwrap();
    let files = Files::new("unasked");
    let ours = authority.issue_client("client.test").unwrap();
    let (ca, cert, key) = (
        files.file("ca.pem", &authority.pem()),
        files.file("cert.pem", &ours.pem()),
        files.file("key.pem", &ours.key_pem()),
    );
    let names = [("SMTP_CA_FILE", &*ca), ("SMTP_CLIENT_CERT_FILE", &*cert), ("SMTP_CLIENT_KEY_FILE", &*key)];
    for way in WAYS {
        let server = SmtpServer::start(way(script(), authority.issue("127.0.0.1").unwrap())).await.unwrap();
        let relay = relay_of(&server, &names);
        assert!(!format!("{relay:?}").contains("PRIVATE"));
        let outcome = send(&SmtpTransport::new(&relay).unwrap(), "ada@example.test").await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
    }
}
