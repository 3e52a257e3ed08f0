//! XOAUTH2: tokens fetched, shared, renewed, and never seen by anybody else.

#![cfg(feature = "oauth")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use facteur::settings::{Credentials, OAuth, Relay, SecretString};
use facteur::testing::{Fault, Script, SmtpServer, Stage, TokenEndpoint};
use facteur::transport::smtp::SmtpTransport;
use facteur::transport::{Outcome, Recorder, Report};
use futures_util::future::join_all;
use rustls::RootCertStore;

use transport::{deadlines, patient, send};

const MAILBOX: &str = "shop@acme.test";
const SECRET: &str = "c!ient s3cret&+";

async fn start(change: impl FnOnce(Script) -> Script) -> (TokenEndpoint, SmtpServer, Relay) {
    let tokens = TokenEndpoint::start().await.unwrap();
    let script = change(Script::new().xoauth2(MAILBOX, &tokens));
    let server = SmtpServer::start(script).await.unwrap();
    let relay = Relay { oauth: Some(tokens.oauth(MAILBOX)), ..server.relay() };
    (tokens, server, relay)
}

async fn send_on_new_connection(relay: &Relay, way: &SmtpTransport) -> Outcome {
    assert_eq!(relay.max_per_connection, 1, "each mail logs in");
    send(way, "ada@example.test").await
}

#[track_caller]
fn sent(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
}

#[track_caller]
fn unusable(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Unusable(report) => report,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn retry(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Retry(report, _) => report,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_logs_in_and_is_fetched_as_the_standard_says() {
    let (tokens, server, relay) = start(|script| script).await;
    sent(&send(&patient(&relay), "ada@example.test").await);
    assert_eq!(
        tokens.requests(),
        ["grant_type=client_credentials&client_id=facteur-client&client_secret=c%21ient%20s3cret%26%2B\
          &scope=https%3A%2F%2Fmail.test%2F.default"]
    );
    // user=shop@acme.test ^A auth=Bearer eyJtoken.1.s1gnature ^A ^A
    let said = "AUTH XOAUTH2 dXNlcj1zaG9wQGFjbWUudGVzdAFhdXRoPUJlYXJlciBleUp0b2tlbi4xLnMxZ25hdHVyZQEB\r\n";
    assert!(server.conversations()[0].heard(said));
    assert_eq!(patient(&relay).check().await, Ok(()));
}

#[tokio::test]
async fn one_fetch_serves_all_connections() {
    let (tokens, server, relay) =
        start(|script| script.at(Stage::Auth, Fault::delay(Duration::from_millis(20)))).await;
    tokens.delay(Duration::from_millis(50));
    let way = patient(&Relay { max_connections: 8, ..relay });
    join_all((0..40).map(|_| send(&way, "ada@example.test"))).await.iter().for_each(sent);
    assert!(server.counters().opened > 4, "{:?}", server.counters());
    assert_eq!(tokens.requests().len(), 1);
}

#[tokio::test]
async fn a_token_is_used_until_shortly_before_its_end() {
    // A life of a second: nine tenths of it count.
    let (tokens, _server, relay) = start(|script| script).await;
    let relay = Relay { max_per_connection: 1, ..relay };
    tokens.tokens_live(Some(1));
    let way = patient(&relay);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(600) {
        sent(&send_on_new_connection(&relay, &way).await);
    }
    assert_eq!(tokens.requests().len(), 1, "fetched while it was good");
    while begun.elapsed() < Duration::from_millis(1_100) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sent(&send_on_new_connection(&relay, &way).await);
    assert_eq!(tokens.requests().len(), 2);
    // One that says nothing of its life has one; one without any is fetched each time.
    for (life, fetches) in [(None, 1), (Some(0), 3)] {
        let (tokens, _server, relay) = start(|script| script).await;
        let relay = Relay { max_per_connection: 1, ..relay };
        tokens.tokens_live(life);
        let way = patient(&relay);
        for _ in 0..3 {
            sent(&send_on_new_connection(&relay, &way).await);
        }
        assert_eq!(tokens.requests().len(), fetches, "{life:?}");
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_once() {
    let (tokens, server, relay) = start(|script| script).await;
    let relay = Relay { max_per_connection: 1, ..relay };
    let way = patient(&relay);
    sent(&send_on_new_connection(&relay, &way).await);
    tokens.revoke();
    sent(&send_on_new_connection(&relay, &way).await);
    assert_eq!(tokens.requests().len(), 2);
    // The challenge with the reason was answered by an empty line, and then came the 535.
    let refused = String::from_utf8(server.conversations()[1].sent()).unwrap();
    assert!(refused.contains("334 eyJzdGF0dXMiOiI0MDEifQ==\r\n535 5.7.8"), "{refused}");
    assert!(String::from_utf8(server.conversations()[1].received()).unwrap().contains("\r\n\r\n"));
    // The fresh one is everybody's from here on.
    sent(&send_on_new_connection(&relay, &way).await);
    assert_eq!(tokens.requests().len(), 2);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_too_ends_it() {
    let refused = Fault::reply(535, "5.7.3 Authentication unsuccessful");
    let (tokens, server, relay) = start(|script| script.at(Stage::Auth, refused)).await;
    let report = unusable(send(&patient(&relay), "ada@example.test").await);
    assert_eq!((report.stage.as_str(), report.code), ("auth", Some(535)));
    assert_eq!((tokens.requests().len(), server.counters().opened), (2, 2));
    assert_eq!(server.counters().mails, 0);
}

#[tokio::test]
async fn a_server_that_is_too_busy_to_look_at_a_token_keeps_it() {
    let busy = Fault::reply(454, "4.7.0 try again in 30 seconds");
    let (tokens, _server, relay) = start(|script| script.at(Stage::Auth, busy).times(1)).await;
    let way = patient(&relay);
    assert!(matches!(send(&way, "ada@example.test").await, Outcome::Retry(report, Some(wait))
        if report.code == Some(454) && wait == Duration::from_secs(30)));
    sent(&send(&way, "ada@example.test").await);
    assert_eq!(tokens.requests().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_away_is_asked_later() {
    for (status, body) in [
        (500, ""),
        (503, r#"{"error":"temporarily_unavailable"}"#),
        (429, ""),
        (408, ""),
        (400, r#"{"error":"temporarily_unavailable","error_description":"later"}"#),
        (200, "<html>Sign in to this network</html>"),
        (200, r#"{"token_type":"Bearer"}"#),
    ] {
        let (tokens, server, relay) = start(|script| script).await;
        tokens.answer(Some((status, body)));
        let way = patient(&relay);
        let report = retry(send(&way, "ada@example.test").await);
        assert_eq!((report.stage.as_str(), report.code), ("auth", None), "{status} {body}");
        assert!(!server.conversations()[0].heard("AUTH"));
        tokens.answer(None);
        sent(&send(&way, "ada@example.test").await);
    }
    // Gone, and silent.
    let (tokens, _server, relay) = start(|script| script).await;
    tokens.delay(Duration::from_secs(600));
    let way =
        SmtpTransport::with_roots(&relay, RootCertStore::empty(), deadlines(Duration::from_millis(300)));
    let begun = Instant::now();
    assert_eq!(retry(send(&way.unwrap(), "ada@example.test").await).stage.as_str(), "auth");
    assert!(begun.elapsed() < Duration::from_secs(2));
    drop(tokens);
    let report = retry(send(&patient(&relay), "ada@example.test").await);
    assert_eq!(report.stage.as_str(), "auth");
    assert!(report.text.starts_with("no token could be fetched: "), "{}", report.text);
}

#[tokio::test]
async fn an_endpoint_that_refuses_us_makes_the_way_unusable() {
    let (tokens, server, relay) = start(|script| script).await;
    let oauth = OAuth { client_secret: SecretString::from("wrong"), ..tokens.oauth(MAILBOX) };
    let way = patient(&Relay { oauth: Some(oauth), ..relay.clone() });
    let report = unusable(send(&way, "ada@example.test").await);
    assert_eq!(report.stage.as_str(), "auth");
    assert!(report.text.contains("401") && report.text.contains("AADSTS7000215"), "{}", report.text);
    for (status, body) in [
        (400, r#"{"error":"invalid_scope"}"#),
        (400, r#"{"error":"unauthorized_client"}"#),
        (403, "no"),
        (404, "no"),
        // The client's secret is not carried to wherever a redirect says.
        (307, ""),
        (200, r#"{"token_type":"mac","access_token":"a"}"#),
        (200, r#"{"token_type":"Bearer","access_token":"a b\r\nMAIL"}"#),
    ] {
        tokens.answer(Some((status, body)));
        let report = unusable(send(&patient(&relay), "ada@example.test").await);
        assert_eq!(report.stage.as_str(), "auth", "{status} {body}");
    }
    assert_eq!(server.counters().mails, 0);
}

#[tokio::test]
async fn tokens_come_before_a_password_and_a_password_before_nothing() {
    let credentials = Credentials {
        username: SecretString::from(MAILBOX.to_owned()),
        password: SecretString::from("s3cret"),
    };
    for (offered, expected) in [
        ("PLAIN LOGIN XOAUTH2", "AUTH XOAUTH2 "),
        ("xoauth2 plain", "AUTH XOAUTH2 "),
        ("LOGIN PLAIN", "AUTH PLAIN "),
        ("LOGIN", "AUTH LOGIN\r\n"),
    ] {
        let (_tokens, server, relay) = start(|script| script.mechanisms(offered)).await;
        let both = Relay { credentials: Some(credentials.clone()), ..relay.clone() };
        send(&patient(&both), "ada@example.test").await;
        assert!(server.conversations()[0].heard(expected), "{offered}");
        if !expected.contains("XOAUTH2") {
            let report = unusable(send(&patient(&relay), "ada@example.test").await);
            assert!(report.text.contains("XOAUTH2"), "{}", report.text);
            assert!(!server.conversations()[1].heard("AUTH"));
        }
    }
}

/// Every line of the log, the libraries' among them, at the level that says most.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_anything_that_is_shown() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // With it, what libraries say through the crate `log`.
    let _listening = tracing_subscriber::util::SubscriberInitExt::set_default(everything);
    tracing::trace!("heard");
    let (tokens, _server, relay) = start(|script| script).await;
    let way = patient(&relay);
    let mut shown = format!("{relay:?} {way:?} {tokens:?}");
    shown += &format!("{:?}", send(&way, "ada@example.test").await);
    let token = tokens.good_tokens().pop().unwrap();
    // An endpoint that quotes what it was sent, in an error and where a token should be.
    let quoting = format!(r#"{{"error":"invalid_client","error_description":"not {SECRET} \u001b[2J"}}"#);
    for (status, body) in
        [(401, quoting.as_str()), (500, quoting.as_str()), (200, &format!(r#"{{"x":"{token}"#))]
    {
        tokens.answer(Some((status, body)));
        let outcome = send(&patient(&relay), "ada@example.test").await;
        let report = outcome.report().unwrap();
        shown += &format!("{outcome:?} {report}");
        assert!(!report.text.chars().any(char::is_control), "{:?}", report.text);
    }
    shown += &String::from_utf8_lossy(&log.0.lock().unwrap());
    assert!(shown.contains("heard"), "nothing was logged");
    for secret in [SECRET, "s3cret", "s3cret%26", "dXNlcj1zaG9w", &token, "s1gnature", MAILBOX] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn who_watches_sees_no_token_and_no_client_secret() {
    let (tokens, server, relay) = start(|script| script).await;
    let relay = Relay { max_per_connection: 1, ..relay };
    let (recorder, mut said) = Recorder::new();
    let way = SmtpTransport::with_roots(&relay, RootCertStore::empty(), deadlines(Duration::from_secs(10)));
    let way = way.unwrap().recording(recorder);
    sent(&send(&way, "ada@example.test").await);
    tokens.revoke();
    tokens.answer(Some((400, "{\"error\":\"invalid_client\"}")));
    unusable(send(&way, "ada@example.test").await);
    drop((way, server));
    let mut lines = Vec::new();
    while let Ok(line) = said.try_recv() {
        lines.push(line.text);
    }
    let text = lines.join("\n");
    assert!(text.contains("AUTH XOAUTH2 ***") && text.contains("the token endpoint gave a token"), "{text}");
    let secrets = tokens.good_tokens();
    for secret in secrets.iter().map(String::as_str).chain([SECRET, "Bearer", "dXNlcj1"]) {
        assert!(!text.contains(secret), "{secret} in:\n{text}");
    }
}
