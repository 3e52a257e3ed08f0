//! What holds for every provider, whatever it answers.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Answer;
use super::classify::Class;
use super::{ApiTransport, Deadlines};
use crate::settings::{
    Api, Brevo, Mailgun, Mailjet, Postmark, Region, Scaleway, SecretString, SendGrid, Ses,
};
use crate::transport::{Outcome, Stage};
use rustls::RootCertStore;

pub(super) fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    Answer { status, headers: headers.collect(), body: body.as_bytes().to_vec() }
}

/// Back from the outcome: the two retries and the two stages tell them apart.
pub(super) fn class_of(outcome: &Outcome) -> Class {
    match outcome {
        Outcome::Sent(_) => Class::Sent,
        Outcome::Retry(report, _) if report.stage == Stage::Service => Class::Busy,
        Outcome::Retry(..) => Class::Again,
        Outcome::Reject(_) => Class::Message,
        Outcome::Unusable(_) => Class::Account,
        Outcome::Unknown(_) => Class::Unclear,
        Outcome::Interrupted => panic!("an answer interrupts nothing"),
    }
}

fn all(base_url: Option<&str>) -> [Api; 7] {
    let base_url = base_url.map(str::to_owned);
    let secret = || SecretString::from("s3cret");
    let region = Region::Default;
    [
        Api::Ses(Ses {
            region: "eu-west-3".into(),
            access_key_id: secret(),
            secret_access_key: secret(),
            session_token: None,
            configuration_set: None,
            base_url: base_url.clone(),
        }),
        Api::Mailgun(Mailgun {
            domain: "x.test".into(),
            api_key: secret(),
            region,
            base_url: base_url.clone(),
        }),
        Api::SendGrid(SendGrid { api_key: secret(), region, base_url: base_url.clone() }),
        Api::Postmark(Postmark { server_token: secret(), message_stream: None, base_url: base_url.clone() }),
        Api::Brevo(Brevo { api_key: secret(), base_url: base_url.clone() }),
        Api::Mailjet(Mailjet { api_key: secret(), secret_key: secret(), region, base_url: base_url.clone() }),
        Api::Scaleway(Scaleway {
            region: "fr-par".into(),
            project_id: "0-1".into(),
            secret_key: secret(),
            base_url,
        }),
    ]
}

fn transports() -> Vec<ApiTransport> {
    let new =
        |api: &Api| ApiTransport::with_roots(api, RootCertStore::empty(), Deadlines::default()).unwrap();
    all(None).iter().map(new).collect()
}

/// Bodies near to what providers say, cut and mixed, and bodies from nowhere.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        r#"{"MessageId":"1"}"#,
        r#"{"id":"<1@x>","message":"Queued. Thank you."}"#,
        "Mailgun Magnificent API",
        r#"{"ErrorCode":0,"MessageID":"1","Message":"OK"}"#,
        r#"{"ErrorCode":"0","MessageID":1,"Message":null}"#,
        r#"{"ErrorCode":18446744073709551615,"Message":"inactive addresses"}"#,
        r#"{"messageId":"<1>"}"#,
        r#"{"code":"not_enough_credits","message":"sender"}"#,
        r#"{"Messages":[{"Status":"success","To":[]}]}"#,
        r#"{"Messages":[{"Status":"error","Errors":[{"StatusCode":70000,"ErrorRelatedTo":[1,null]}]}]}"#,
        r#"{"emails":[{"id":3,"status":"new"}]}"#,
        r#"{"type":"x","details":[{"argument_name":7}]}"#,
        r#"{"errors":[{"message":1,"field":"from"}]}"#,
        r#"{"message":"try again after 99999999999999999999 seconds"}"#,
        r#"{"message":"Try again after İ 5 seconds"}"#,
        "[]",
        "null",
        "\"\"",
        "[[[[[[[[[[[[",
    ]);
    let cut = (known.clone(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let bytes = text.as_bytes();
        bytes[..at.index(bytes.len() + 1)].to_vec()
    });
    let deep = (1usize..30_000).prop_map(|depth| "[".repeat(depth).into_bytes());
    prop_oneof![
        4 => known.prop_map(|text| text.as_bytes().to_vec()),
        2 => cut,
        2 => prop::collection::vec(any::<u8>(), 0..300),
        1 => ".*".prop_map(String::into_bytes),
        1 => deep,
    ]
}

fn header_values() -> impl Strategy<Value = HeaderMap> {
    let names = prop::sample::select(vec![
        "retry-after",
        "date",
        "x-ratelimit-reset",
        "x-sib-ratelimit-reset",
        "x-amzn-errortype",
        "x-message-id",
    ]);
    let values = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        Just(b"Sun, 06 Nov 1994 08:49:37 GMT".to_vec()),
        Just(b"Fri, 31 Dec 9999 23:59:59 GMT".to_vec()),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop::collection::vec((names, values), 0..4).prop_map(|pairs| {
        let pairs = pairs.into_iter().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?))
        });
        pairs.collect()
    })
}

/// Each answer is one outcome, in bounds: nothing falls through and nothing panics.
#[test]
fn every_answer_of_every_provider_is_one_outcome() {
    let transports = transports();
    let config = ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(status in 100u16..1_000, headers in header_values(), body in bodies())| {
        let answer = Answer { status, headers, body };
        for transport in &transports {
            let outcome = transport.adapter.classify(&answer);
            let report = outcome.report().expect("an answer is never our own stop");
            prop_assert!(report.text.chars().count() <= 500 && !report.text.contains('\0'));
            prop_assert_eq!(report.code, (status < 600).then_some(status));
            if let Outcome::Retry(_, Some(wait)) = &outcome {
                prop_assert!(*wait >= Duration::from_secs(1) && *wait <= Duration::from_secs(3_600));
            }
            let taken = matches!(outcome, Outcome::Sent(_));
            prop_assert!(!taken || (200..300).contains(&status), "{} {status}", transport.name);
            let about_all = report.stage.concerns_every_mail();
            match status {
                401..=404 => prop_assert_eq!(class_of(&outcome), Class::Account),
                // A 2xx that says nothing we know is never a reason to send again at once.
                200..300 => prop_assert!(!matches!(class_of(&outcome), Class::Busy) || transport.name == "postmark"),
                504 | 600.. => prop_assert_eq!(class_of(&outcome), Class::Unclear),
                500..504 | 505..600 => prop_assert!(matches!(class_of(&outcome), Class::Again | Class::Busy)),
                _ => {}
            }
            prop_assert_eq!(about_all, matches!(class_of(&outcome), Class::Account | Class::Busy));
        }
    });
}

#[test]
fn every_provider_is_asked_to_slow_down_in_the_same_way() {
    for transport in transports() {
        let outcome = transport.adapter.classify(&answer(429, &[("retry-after", "30")], ""));
        let Outcome::Retry(report, Some(wait)) = outcome else { panic!("{}", transport.name) };
        assert_eq!((report.stage, wait.as_secs()), (Stage::Service, 30), "{}", transport.name);
    }
}

#[test]
fn nothing_crosses_a_network_in_clear() {
    for base in
        ["http://api.example.com", "ftp://127.0.0.1", "https://me:pw@x.test", "https://x.test/?a=b", "x"]
    {
        for api in all(Some(base)) {
            let refused = ApiTransport::with_roots(&api, RootCertStore::empty(), Deadlines::default());
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("base_url"), "{text}");
            assert!(!text.contains("pw"), "{text}");
        }
    }
    for base in ["https://proxy.test/sub/", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"] {
        for api in all(Some(base)) {
            assert!(
                ApiTransport::with_roots(&api, RootCertStore::empty(), Deadlines::default()).is_ok(),
                "{base}"
            );
        }
    }
}

#[test]
fn what_becomes_part_of_an_address_is_a_word() {
    for bad in ["", "eu west", "a/b", "x.test/../..", "x?y", "é"] {
        let [mut ses, mut mailgun, _, _, _, _, mut scaleway] = all(None);
        if let Api::Ses(ses) = &mut ses {
            ses.region = bad.into();
        }
        if let Api::Mailgun(mailgun) = &mut mailgun {
            mailgun.domain = bad.into();
        }
        if let Api::Scaleway(scaleway) = &mut scaleway {
            scaleway.region = bad.into();
        }
        for api in [ses, mailgun, scaleway] {
            assert!(
                ApiTransport::with_roots(&api, RootCertStore::empty(), Deadlines::default()).is_err(),
                "{bad}"
            );
        }
    }
}
