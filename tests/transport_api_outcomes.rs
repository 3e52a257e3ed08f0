//! Whatever a provider answers, and however a connection ends, is one outcome, and the right one.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport_api;

use std::time::Duration;

use facteur::settings::{Api, ExposeSecret, SendGrid};
use facteur::testing::{FakeProvider, Identity, Provider, Reply, TestAuthority, Trouble};
use facteur::transport::api::ApiTransport;
use facteur::transport::{Outcome, Report, Stage};
use facteur::{Attachment, email::StoredEmail};
use rustls::RootCertStore;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use transport_api::{ADA, EMAIL, FixedGate, OPEN, fakes, send, send_through, way, within};

/// The outcome in two words.
fn kind(outcome: &Outcome) -> (&'static str, Option<Stage>) {
    let name = match outcome {
        Outcome::Sent(_) => "sent",
        Outcome::Retry(..) => "retry",
        Outcome::Reject(_) => "reject",
        Outcome::Unusable(_) => "unusable",
        Outcome::Unknown(_) => "unknown",
        Outcome::Interrupted => "interrupted",
    };
    (name, outcome.report().map(|report| report.stage))
}

/// More than the kernel takes in without a reader.
fn large() -> StoredEmail {
    let mut email = EMAIL.clone();
    email.attachments.push(Attachment::new("large.bin", "application/octet-stream", vec![7; 5_000_000]));
    email
}

async fn sent_after(provider: Provider, reply: Reply, email: &StoredEmail) -> (Outcome, FakeProvider) {
    let fake = FakeProvider::start(provider).await.unwrap();
    fake.cue(reply);
    let outcome = send(&way(&fake), email, ADA).await;
    (outcome, fake)
}

#[tokio::test]
async fn each_trouble_of_each_provider_is_its_class() {
    for provider in Provider::ALL {
        for trouble in Trouble::ALL {
            let (outcome, fake) = sent_after(provider, Reply::trouble(trouble), &EMAIL).await;
            let expected = match trouble {
                Trouble::Malformed | Trouble::Recipient => ("reject", Stage::Response),
                Trouble::Throttled | Trouble::Unwell => ("retry", Stage::Service),
                Trouble::Broken => ("retry", Stage::Response),
                Trouble::Credentials
                | Trouble::Suspended
                | Trouble::Sender
                | Trouble::Quota
                | Trouble::Address => ("unusable", Stage::Account),
            };
            assert_eq!(
                kind(&outcome),
                (expected.0, Some(expected.1)),
                "{provider:?} {trouble:?}: {outcome:?}"
            );
            assert_eq!(fake.taken().len(), 0);
            let says_when = matches!(provider, Provider::Mailgun | Provider::SendGrid | Provider::Brevo);
            if let (Trouble::Throttled, Outcome::Retry(_, wait)) = (trouble, outcome) {
                assert_eq!(wait, says_when.then_some(Duration::from_secs(30)), "{provider:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_fault_of_one_recipient_is_not_the_next_ones() {
    for (provider, fake) in fakes().await {
        fake.cue(Reply::trouble(Trouble::Recipient)).for_recipient("nobody@example.test");
        fake.cue(Reply::trouble(Trouble::Throttled)).times(1);
        let way = way(&fake);
        assert_eq!(kind(&send(&way, &EMAIL, "nobody@example.test").await).0, "reject", "{provider:?}");
        assert_eq!(kind(&send(&way, &EMAIL, ADA).await).0, "retry", "{provider:?}");
        assert_eq!(kind(&send(&way, &EMAIL, ADA).await).0, "sent", "{provider:?}");
        assert_eq!(fake.taken().len(), 1);
    }
}

#[tokio::test]
async fn once_the_request_has_left_silence_is_unknown() {
    for provider in Provider::ALL {
        for reply in [Reply::reset(), Reply::close(), Reply::reset().accepting(), Reply::close().accepting()]
        {
            let (outcome, _fake) = sent_after(provider, reply, &EMAIL).await;
            assert_eq!(kind(&outcome), ("unknown", Some(Stage::Response)), "{provider:?}: {outcome:?}");
        }
        let fake = FakeProvider::start(provider).await.unwrap();
        fake.cue(Reply::stall());
        let quick = within(Duration::from_millis(300));
        let way = ApiTransport::with_roots(&fake.settings(), RootCertStore::empty(), quick).unwrap();
        let outcome = send(&way, &EMAIL, ADA).await;
        assert_eq!(kind(&outcome), ("unknown", Some(Stage::Response)), "{provider:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_success_that_cannot_be_read_to_its_end_is_unknown() {
    for provider in Provider::ALL {
        let (outcome, fake) = sent_after(provider, Reply::half(), &EMAIL).await;
        // SendGrid says all in the head.
        let expected = if provider == Provider::SendGrid { "sent" } else { "unknown" };
        assert_eq!(kind(&outcome).0, expected, "{provider:?}: {outcome:?}");
        assert_eq!(fake.taken().len(), 1);
    }
    for body in ["<html>Welcome to the hotel</html>", "", "{}", "[1"] {
        for provider in Provider::ALL {
            let (outcome, _fake) = sent_after(provider, Reply::http(200, body), &EMAIL).await;
            assert_eq!(kind(&outcome).0, "unknown", "{provider:?} {body}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_was_no_mail() {
    let email = large();
    for provider in Provider::ALL {
        for reply in [Reply::reset().in_body(), Reply::close().in_body()] {
            let (outcome, fake) = sent_after(provider, reply, &email).await;
            assert_eq!(kind(&outcome), ("retry", Some(Stage::Request)), "{provider:?}: {outcome:?}");
            assert_eq!(fake.taken().len(), 0);
        }
    }
}

#[tokio::test]
async fn a_request_that_nobody_reads_was_no_mail() {
    let fake = FakeProvider::start(Provider::Postmark).await.unwrap();
    fake.cue(Reply::stall().in_body());
    let quick = within(Duration::from_millis(500));
    let way = ApiTransport::with_roots(&fake.settings(), RootCertStore::empty(), quick).unwrap();
    let outcome = send(&way, &large(), ADA).await;
    assert_eq!(kind(&outcome), ("retry", Some(Stage::Request)), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_of_any_length_is_read_to_64_kib() {
    let (outcome, _fake) = sent_after(Provider::Brevo, Reply::http(400, "x".repeat(3_000_000)), &EMAIL).await;
    let Outcome::Reject(report) = outcome else { panic!("{outcome:?}") };
    assert_eq!(report.text.len(), 500);
    let long = format!("{{\"messageId\":\"{}\"}}", "x".repeat(70_000));
    let (outcome, _fake) = sent_after(Provider::Brevo, Reply::http(201, long), &EMAIL).await;
    assert_eq!(kind(&outcome).0, "unknown", "{outcome:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, fake) = (
        FakeProvider::start(Provider::Brevo).await.unwrap(),
        FakeProvider::start(Provider::Brevo).await.unwrap(),
    );
    let Api::Brevo(there) = elsewhere.settings() else { panic!() };
    for status in [301, 302, 307, 308] {
        // Where a GET with the key would be a login.
        let to = format!("{}/v3/account", there.base_url.clone().unwrap());
        fake.cue(Reply::http(status, "").header("Location", &to)).times(1);
        let outcome = send(&way(&fake), &EMAIL, ADA).await;
        assert_eq!(kind(&outcome), ("unusable", Some(Stage::Account)), "{outcome:?}");
    }
    assert_eq!((elsewhere.logins(), elsewhere.requests()), (0, 0), "the key went elsewhere");
}

fn at(base_url: String) -> Api {
    Api::SendGrid(SendGrid {
        api_key: "SG.fake".into(),
        region: facteur::settings::Region::Default,
        base_url: Some(base_url),
    })
}

async fn sent_to(base_url: String, roots: RootCertStore) -> Outcome {
    let way = ApiTransport::with_roots(&at(base_url), roots, within(Duration::from_secs(2))).unwrap();
    send(&way, &EMAIL, ADA).await
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Nobody says a word there.
    let silent = sent_to(format!("https://127.0.0.1:{port}"), RootCertStore::empty()).await;
    assert_eq!(kind(&silent), ("retry", Some(Stage::Connect)), "{silent:?}");
    drop(listener);
    for base in [format!("http://127.0.0.1:{port}"), "https://provider.invalid".to_owned()] {
        let outcome = sent_to(base.clone(), RootCertStore::empty()).await;
        assert_eq!(kind(&outcome), ("retry", Some(Stage::Connect)), "{base}: {outcome:?}");
        assert!(!outcome.report().unwrap().text.contains("SG.fake"), "{outcome:?}");
    }
}

#[tokio::test]
async fn tls_is_the_providers_own_or_nothing_is_said() {
    let (authority, stranger) = (TestAuthority::new().unwrap(), TestAuthority::new().unwrap());
    let good =
        FakeProvider::start_tls(Provider::SendGrid, &authority.issue("127.0.0.1").unwrap()).await.unwrap();
    let deadlines = within(Duration::from_secs(10));
    let way = ApiTransport::with_roots(&good.settings(), authority.roots().unwrap(), deadlines).unwrap();
    let outcome = send(&way, &EMAIL, ADA).await;
    assert_eq!(kind(&outcome).0, "sent", "{outcome:?}");
    for (fault, identity) in [
        ("wrong name", authority.issue("elsewhere.test")),
        ("expired", authority.issue_expired("127.0.0.1")),
        ("self-signed", Identity::self_signed("127.0.0.1")),
        ("of an authority nobody trusts", stranger.issue("127.0.0.1")),
    ] {
        let fake = FakeProvider::start_tls(Provider::SendGrid, &identity.unwrap()).await.unwrap();
        let way = ApiTransport::with_roots(&fake.settings(), authority.roots().unwrap(), deadlines).unwrap();
        let outcome = send(&way, &EMAIL, ADA).await;
        assert_eq!(kind(&outcome), ("unusable", Some(Stage::Tls)), "{fault}: {outcome:?}");
        assert_eq!(way.check().await.unwrap_err().stage, Stage::Tls, "{fault}");
        assert_eq!((fake.requests(), fake.logins()), (0, 0), "{fault}");
    }
    // A server that speaks in clear there is broken for now.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let outcome = sent_to(base, authority.roots().unwrap()).await;
    assert_eq!(kind(&outcome), ("retry", Some(Stage::Tls)), "{outcome:?}");
}

#[tokio::test]
async fn nothing_leaves_through_a_gate_that_is_shut() {
    for (shut, data, dot, closed) in [
        ("before the request", false, true, false),
        ("at the last byte", true, false, false),
        ("at once", true, true, true),
    ] {
        for (provider, fake) in fakes().await {
            let way = way(&fake);
            let outcome = send_through(&way, &EMAIL, ADA, FixedGate { data, dot, closed }).await;
            assert_eq!(outcome, Outcome::Interrupted, "{provider:?} {shut}");
            if provider == Provider::Mailgun {
                // In many pieces, all of which but the last one leave.
                let outcome = send_through(&way, &large(), ADA, FixedGate { data, dot, closed }).await;
                assert_eq!(outcome, Outcome::Interrupted, "{provider:?} {shut}");
                assert_eq!(fake.requests() > 0, data && !closed, "{shut}");
            }
            assert_eq!(fake.taken().len(), 0, "{provider:?} {shut}");
            // And the way is as good as before.
            assert_eq!(kind(&send_through(&way, &EMAIL, ADA, OPEN).await).0, "sent", "{provider:?} {shut}");
            assert_eq!(fake.taken().len(), 1, "{provider:?} {shut}");
        }
    }
}

fn secrets(api: &Api) -> Vec<String> {
    let secrets = match api {
        Api::Ses(s) => vec![&s.access_key_id, &s.secret_access_key, s.session_token.as_ref().unwrap()],
        Api::Mailgun(s) => vec![&s.api_key],
        Api::SendGrid(s) => vec![&s.api_key],
        Api::Postmark(s) => vec![&s.server_token],
        Api::Brevo(s) => vec![&s.api_key],
        Api::Mailjet(s) => vec![&s.api_key, &s.secret_key],
        Api::Scaleway(s) => vec![&s.secret_key],
    };
    let mut secrets: Vec<_> = secrets.into_iter().map(|secret| secret.expose_secret().to_owned()).collect();
    // And what they look like behind `Basic`.
    match api {
        Api::Mailgun(_) => secrets.push("YXBpOmtleS1mYWtl".into()),
        Api::Mailjet(_) => secrets.push("ZmFrZS1rZXk6ZmFrZS1zZWNyZXQ=".into()),
        _ => {}
    }
    secrets
}

#[tokio::test]
async fn no_secret_is_in_debug_or_in_what_a_provider_answers() {
    for (provider, fake) in fakes().await {
        let (api, way) = (fake.settings(), way(&fake));
        let secrets = secrets(&api);
        let echo = format!("{{\"message\":\"the key {} is not ours\"}}", secrets.join(" "));
        // Where the text is cut off, too.
        let late = format!("{}{}", " ".repeat(5) + &"x".repeat(490), secrets.join(" "));
        for status in [200, 201, 400, 401, 429, 500] {
            fake.cue(Reply::http(status, echo.clone())).times(1);
        }
        fake.cue(Reply::http(400, late)).times(1);
        let mut said = vec![format!("{api:?} {way:?}")];
        for _ in 0..7 {
            said.push(format!("{:?}", send(&way, &EMAIL, ADA).await));
        }
        for text in said {
            for secret in &secrets {
                let (start, _) = secret.split_at(secret.len().min(8));
                assert!(!text.contains(start), "{provider:?}: {secret} in {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_key_fails_check_at_the_account() {
    let wrong = |api: Api| match api {
        Api::Ses(s) => Api::Ses(facteur::settings::Ses { session_token: None, ..s }),
        Api::Mailgun(s) => Api::Mailgun(facteur::settings::Mailgun { api_key: "wrong".into(), ..s }),
        Api::SendGrid(s) => Api::SendGrid(SendGrid { api_key: "wrong".into(), ..s }),
        Api::Postmark(s) => Api::Postmark(facteur::settings::Postmark { server_token: "wrong".into(), ..s }),
        Api::Brevo(s) => Api::Brevo(facteur::settings::Brevo { api_key: "wrong\r\nX-A: b".into(), ..s }),
        Api::Mailjet(s) => Api::Mailjet(facteur::settings::Mailjet { secret_key: "wrong".into(), ..s }),
        Api::Scaleway(s) => Api::Scaleway(facteur::settings::Scaleway { secret_key: "wrong".into(), ..s }),
    };
    for (provider, fake) in fakes().await {
        let way = ApiTransport::with_roots(
            &wrong(fake.settings()),
            RootCertStore::empty(),
            within(Duration::from_secs(10)),
        );
        let way = way.unwrap();
        let report: Report = way.check().await.unwrap_err();
        assert_eq!(report.stage, Stage::Account, "{provider:?}: {report}");
        let outcome = send(&way, &EMAIL, ADA).await;
        assert_eq!(kind(&outcome), ("unusable", Some(Stage::Account)), "{provider:?}: {outcome:?}");
        assert_eq!((fake.logins(), fake.taken().len()), (0, 0), "{provider:?}");
    }
}
