//! What arrives at each provider is the e-mail, whole, for one recipient.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport_api;

use facteur::testing::{Provider, TakenMail};
use facteur::transport::{Outcome, Stage};
use serde_json::Value;

use transport_api::{ADA, EMAIL, fakes, send, way};

fn text_of(mail: &TakenMail) -> String {
    String::from_utf8(mail.raw.clone()).unwrap()
}

fn takes_messages(provider: Provider) -> bool {
    matches!(provider, Provider::Ses | Provider::Mailgun)
}

#[tokio::test]
async fn every_provider_gets_the_whole_email_and_names_it() {
    for (provider, fake) in fakes().await {
        let outcome = send(&way(&fake), &EMAIL, ADA).await;
        let Outcome::Sent(report) = outcome else { panic!("{provider:?}: {outcome:?}") };
        assert_eq!(report.stage, Stage::Response, "{provider:?}");
        assert!(report.code.is_some_and(|code| code < 300), "{provider:?}");
        let taken = fake.taken();
        let [mail] = taken.as_slice() else { panic!("{provider:?}: {taken:?}") };
        let number = if provider == Provider::Mailjet { "576460750000000001" } else { "taken-1" };
        assert!(report.text.starts_with(number), "{provider:?}: the provider's id, got {}", report.text);
        assert_eq!(mail.recipient, ADA, "{provider:?}");
        assert_eq!(mail.subject, EMAIL.subject, "{provider:?}");
        assert_eq!(mail.text.as_deref().map(str::trim), Some("Merci."), "{provider:?}");
        assert_eq!(mail.html.as_deref().map(str::trim), EMAIL.html.as_deref(), "{provider:?}");
        assert_eq!(mail.entity_ref.as_deref(), Some(EMAIL.id.to_string().as_str()), "{provider:?}");
        let files: Vec<_> =
            EMAIL.attachments.iter().map(|a| (a.filename.clone(), a.content.clone())).collect();
        assert_eq!(mail.attachments, files, "{provider:?}");
        assert!(text_of(mail).contains("help@example.test"), "{provider:?}: Reply-To");
        assert!(text_of(mail).contains("https://example.test/u"), "{provider:?}: the caller's headers");
    }
}

#[tokio::test]
async fn our_message_id_arrives_where_the_provider_takes_one() {
    for (provider, fake) in fakes().await {
        send(&way(&fake), &EMAIL, ADA).await;
        let kept = !matches!(provider, Provider::Brevo | Provider::Mailjet | Provider::Scaleway);
        let expected = kept.then(|| EMAIL.message_id.clone());
        assert_eq!(fake.taken()[0].message_id, expected, "{provider:?}");
    }
}

#[tokio::test]
async fn one_delivery_is_one_envelope_recipient_however_many_are_shown() {
    for (provider, fake) in fakes().await {
        let way = way(&fake);
        let everybody = [ADA, "grace@example.test", "evariste@example.test", "blind@example.test"];
        for one in everybody {
            assert!(matches!(send(&way, &EMAIL, one).await, Outcome::Sent(_)), "{provider:?}");
        }
        let taken = fake.taken();
        let got: Vec<&str> = taken.iter().map(|mail| mail.recipient.as_str()).collect();
        assert_eq!(got, everybody, "{provider:?}: each exactly once");
        for (mail, one) in taken.iter().zip(everybody) {
            let text = text_of(mail);
            for other in everybody.iter().filter(|other| **other != one) {
                // In a whole message To and Cc are shown, and decide nothing; the blind are never in it.
                let shown = takes_messages(provider) && *other != "blind@example.test";
                assert_eq!(text.contains(other), shown, "{provider:?}: {other} in the mail to {one}");
            }
        }
    }
}

#[tokio::test]
async fn the_recipient_keeps_the_name_that_the_email_shows() {
    for (provider, fake) in fakes().await {
        if takes_messages(provider) {
            continue;
        }
        send(&way(&fake), &EMAIL, "evariste@example.test").await;
        let body: Value = serde_json::from_slice(&fake.taken()[0].raw).unwrap();
        let (field, expected) = match provider {
            Provider::SendGrid => (&body["personalizations"][0]["to"][0]["name"], "Évariste \"É\" Galois"),
            Provider::Postmark => (&body["To"], r#""Évariste \"É\" Galois" <evariste@example.test>"#),
            Provider::Mailjet => (&body["Messages"][0]["To"][0]["Name"], "Évariste \"É\" Galois"),
            _ => (&body["to"][0]["name"], "Évariste \"É\" Galois"),
        };
        assert_eq!(field, expected, "{provider:?}");
    }
}

#[tokio::test]
async fn a_mail_with_an_empty_text_or_without_html_is_taken_by_all() {
    for (text, html) in [
        (Some(""), None),
        (None, None),
        (Some(""), Some("<p>x</p>")),
        (None, Some("<p>x</p>")),
        (Some("x"), None),
    ] {
        let mut email = EMAIL.clone();
        (email.text, email.html) = (text.map(str::to_owned), html.map(str::to_owned));
        email.attachments.clear();
        email.reply_to.clear();
        for (provider, fake) in fakes().await {
            let outcome = send(&way(&fake), &email, ADA).await;
            assert!(matches!(outcome, Outcome::Sent(_)), "{provider:?} {text:?} {html:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn check_tries_the_key_and_sends_nothing() {
    for (provider, fake) in fakes().await {
        way(&fake).check().await.unwrap_or_else(|report| panic!("{provider:?}: {report}"));
        assert_eq!((fake.logins(), fake.requests()), (1, 0), "{provider:?}");
    }
}
