//! Logging in, and what stands in its way.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport;

use std::time::Duration;

use facteur::settings::{Credentials, Relay, SecretString};
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::Outcome;
use facteur::transport::smtp::SmtpTransport;
use rustls::RootCertStore;

use transport::{deadlines, patient, send};

fn script() -> Script {
    Script::new().login("ada", "s3cret")
}

async fn sent_by(script: Script) -> (Outcome, SmtpServer) {
    let server = SmtpServer::start(script).await.unwrap();
    let outcome = send(&patient(&server.relay()), "ada@example.test").await;
    (outcome, server)
}

fn with_password(relay: Relay, password: &str) -> Relay {
    let credentials = Credentials {
        username: SecretString::from("ada"),
        password: SecretString::from(password.to_owned()),
    };
    Relay { credentials: Some(credentials), ..relay }
}

#[tokio::test]
async fn plain_is_preferred_and_login_will_do() {
    for (offered, said) in [
        ("PLAIN LOGIN", "AUTH PLAIN AGFkYQBzM2NyZXQ=\r\n"),
        ("LOGIN PLAIN", "AUTH PLAIN AGFkYQBzM2NyZXQ=\r\n"),
        ("PLAIN", "AUTH PLAIN AGFkYQBzM2NyZXQ=\r\n"),
        ("LOGIN", "AUTH LOGIN\r\nYWRh\r\nczNjcmV0\r\n"),
        ("CRAM-MD5 LOGIN", "AUTH LOGIN\r\nYWRh\r\nczNjcmV0\r\n"),
    ] {
        let (outcome, server) = sent_by(script().mechanisms(offered)).await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{offered}: {outcome:?}");
        assert!(server.conversations()[0].heard(said), "{offered}");
    }
}

#[tokio::test]
async fn one_login_serves_all_mails_of_a_connection() {
    let server = SmtpServer::start(script()).await.unwrap();
    let way = patient(&server.relay());
    for _ in 0..3 {
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
    }
    let received = String::from_utf8(server.conversations()[0].received()).unwrap();
    assert_eq!((server.counters().opened, received.matches("AUTH ").count()), (1, 1));
}

#[tokio::test]
async fn a_wrong_password_is_the_ways_fault_and_no_mails() {
    for mechanism in ["PLAIN", "LOGIN"] {
        // Even when the server then says nothing more.
        let server = script().mechanisms(mechanism).at(Stage::Quit, Fault::stall());
        let server = SmtpServer::start(server).await.unwrap();
        let relay = with_password(server.relay(), "wrong");
        let way =
            SmtpTransport::with_roots(&relay, RootCertStore::empty(), deadlines(Duration::from_secs(1)));
        let outcome = send(&way.unwrap(), "ada@example.test").await;
        let Outcome::Unusable(report) = outcome else { panic!("{mechanism}: {outcome:?}") };
        assert_eq!((report.stage.as_str(), report.code), ("auth", Some(535)), "{mechanism}");
        assert_eq!(report.text, "5.7.8 wrong name or password", "{mechanism}");
        assert!(!server.conversations()[0].heard("MAIL"), "{mechanism}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_check_now_is_asked_later() {
    for mechanism in ["PLAIN", "LOGIN"] {
        let busy = Fault::reply(454, "4.7.0 Throttling failure, try again in 30 seconds");
        let (outcome, _) = sent_by(script().mechanisms(mechanism).at(Stage::Auth, busy)).await;
        let Outcome::Retry(report, wait) = outcome else { panic!("{outcome:?}") };
        assert_eq!((report.code, wait), (Some(454), Some(Duration::from_secs(30))), "{mechanism}");
    }
}

#[tokio::test]
async fn without_a_way_to_log_in_nothing_is_said() {
    for offered in ["", "CRAM-MD5", "XOAUTH2 GSSAPI"] {
        let (outcome, server) = sent_by(script().mechanisms(offered)).await;
        let Outcome::Unusable(report) = outcome else { panic!("{offered:?}: {outcome:?}") };
        assert_eq!(report.stage.as_str(), "auth");
        let received = String::from_utf8(server.conversations()[0].received()).unwrap();
        assert_eq!(received, "EHLO [127.0.0.1]\r\n", "{offered:?}");
    }
}

#[tokio::test]
async fn a_login_that_is_not_asked_for_is_refused_by_the_server_and_not_by_us() {
    let server = SmtpServer::start(script()).await.unwrap();
    let anonymous = Relay { credentials: None, ..server.relay() };
    let outcome = send(&patient(&anonymous), "ada@example.test").await;
    let Outcome::Unusable(report) = outcome else { panic!("{outcome:?}") };
    assert_eq!((report.stage.as_str(), report.code), ("mail", Some(530)));
}

#[tokio::test]
async fn challenges_have_an_end() {
    let endless = Fault::reply(334, "VXNlcm5hbWU6");
    let (outcome, server) = sent_by(script().mechanisms("LOGIN").at(Stage::Auth, endless)).await;
    assert!(matches!(outcome, Outcome::Retry(..)), "{outcome:?}");
    assert_eq!(server.accepted().len(), 0);
}

#[tokio::test]
async fn check_logs_in_and_sends_nothing() {
    let server = SmtpServer::start(script()).await.unwrap();
    assert_eq!(patient(&server.relay()).check().await, Ok(()));
    let refused = patient(&with_password(server.relay(), "wrong")).check().await.unwrap_err();
    assert_eq!(refused.code, Some(535));
    assert_eq!(server.counters().mails, 0);
}
