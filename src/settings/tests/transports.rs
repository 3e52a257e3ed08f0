//! `MAIL_TRANSPORTS`.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{Folder, dev, development, only_fault, production, staging};
use crate::settings::{Api, Kind, Pace, Region, Relay, Tls, Way};

/// Development's settings with these transports.
fn ways(urls: &str) -> Vec<Way> {
    development(&[("MAIL_TRANSPORTS", urls)]).expect("no fault").profile.ways().to_vec()
}

fn relay(way: &Way) -> &Relay {
    match &way.kind {
        Kind::Smtp(relay) => relay,
        Kind::Api(api) => panic!("{api:?}"),
    }
}

fn fault(urls: &str) -> String {
    let (names, text) = only_fault(development(&[("MAIL_TRANSPORTS", urls)]));
    assert_eq!(names, "MAIL_TRANSPORTS");
    text
}

#[test]
fn a_url_says_everything_of_a_way() {
    let url = "smtp://user:p%40ss%20%2F%3F@relay.test:2525?tls=required&rate=14/s&quota=50000/d&connections=4\
               &domains=Example.com,other.example&name=spare&weight=3";
    let all = ways(url);
    let [way] = &all[..] else { panic!("{all:?}") };
    let relay = relay(way);
    assert_eq!((relay.host.as_str(), relay.port, relay.tls), ("relay.test", 2525, Tls::StartTls));
    let login = relay.credentials.as_ref().expect("a login");
    assert_eq!((login.username.expose_secret(), login.password.expose_secret()), ("user", "p@ss /?"));
    assert_eq!(
        (way.name.as_str(), way.weight, way.connections, relay.max_connections),
        ("spare", Some(3), 4, 4)
    );
    assert_eq!(way.rate, Some(Pace { mails: 14, per: Duration::from_secs(1) }));
    assert_eq!(way.quota, Some(Pace { mails: 50_000, per: Duration::from_secs(86_400) }));
    assert_eq!(way.domains, ["example.com", "other.example"]);
}

#[test]
fn what_a_url_leaves_unsaid_follows_from_the_rest() {
    for (url, host, port, tls, name) in [
        ("smtp://relay.test", "relay.test", 587, Tls::StartTls, "smtp:relay.test:587"),
        ("smtps://relay.test", "relay.test", 465, Tls::Implicit, "smtp:relay.test:465"),
        ("smtp://relay.test:465/", "relay.test", 465, Tls::Implicit, "smtp:relay.test:465"),
        ("smtp://relay.test?tls=none", "relay.test", 25, Tls::None, "smtp:relay.test:25"),
        ("SMTP://localhost:1025", "localhost", 1025, Tls::None, "smtp:localhost:1025"),
        ("smtp://[::1]:26", "::1", 26, Tls::None, "smtp:[::1]:26"),
    ] {
        let all = ways(url);
        let relay = relay(&all[0]);
        assert_eq!(
            (relay.host.as_str(), relay.port, relay.tls, all[0].name.as_str()),
            (host, port, tls, name)
        );
        assert_eq!((all[0].connections, all[0].rate, all[0].weight), (8, None, None), "{url}");
    }
}

#[test]
fn the_order_is_the_one_that_is_written() {
    let folder = Folder::new("transports");
    let file = folder.file("mail_transports.txt", b"smtp://a.test\nsmtp://b.test\r\n  smtp://c.test\n");
    let from_file = development(&[("MAIL_TRANSPORTS_FILE", &file)]).expect("no fault");
    for all in [ways("smtp://a.test smtp://b.test\nsmtp://c.test"), from_file.profile.ways().to_vec()] {
        let hosts: Vec<&str> = all.iter().map(|way| relay(way).host.as_str()).collect();
        assert_eq!(hosts, ["a.test", "b.test", "c.test"]);
    }
}

#[test]
fn providers_are_told_apart() {
    let all = ways(
        "ses://AKIA:se%2Fcret@eu-west-1 mailgun://key@mg.example.com?region=eu sendgrid://SG.x postmark://token?stream=out \
         brevo://xkeysib-1 mailjet://key:secret scaleway://secret@11111111-2222?region=nl-ams",
    );
    let names: Vec<&str> = all.iter().map(|way| way.name.as_str()).collect();
    assert_eq!(names, ["ses", "mailgun", "sendgrid", "postmark", "brevo", "mailjet", "scaleway"]);
    let apis: Vec<&Api> = all
        .iter()
        .map(|way| match &way.kind {
            Kind::Api(api) => api,
            Kind::Smtp(relay) => panic!("{relay:?}"),
        })
        .collect();
    let Api::Ses(ses) = apis[0] else { panic!("{apis:?}") };
    assert_eq!((ses.region.as_str(), ses.secret_access_key.expose_secret()), ("eu-west-1", "se/cret"));
    let Api::Mailgun(mailgun) = apis[1] else { panic!("{apis:?}") };
    assert_eq!((mailgun.domain.as_str(), mailgun.region), ("mg.example.com", Region::Eu));
    let Api::SendGrid(sendgrid) = apis[2] else { panic!("{apis:?}") };
    assert_eq!(sendgrid.api_key.expose_secret(), "SG.x");
    let Api::Postmark(postmark) = apis[3] else { panic!("{apis:?}") };
    assert_eq!(
        (postmark.server_token.expose_secret(), postmark.message_stream.as_deref()),
        ("token", Some("out"))
    );
    let Api::Mailjet(mailjet) = apis[5] else { panic!("{apis:?}") };
    assert_eq!((mailjet.api_key.expose_secret(), mailjet.secret_key.expose_secret()), ("key", "secret"));
    let Api::Scaleway(scaleway) = apis[6] else { panic!("{apis:?}") };
    assert_eq!((scaleway.project_id.as_str(), scaleway.region.as_str()), ("11111111-2222", "nl-ams"));
}

#[test]
fn each_slip_is_named_and_no_secret_shown() {
    for (url, expected) in [
        ("hunter2", "transport 1 is not a URL"),
        ("http://hunter2@relay.test", "a scheme that is not"),
        ("smtp://user:hunter2@", "no host name"),
        ("smtp://user:hunter2@relay.test:0", "a port that is not"),
        ("smtp://hunter2@relay.test", "half a login"),
        ("smtp://user:hunter2%2@relay.test", "a % that is not"),
        ("smtp://user:hun/ter2@relay.test", "a / or an @"),
        ("smtp://user:pa?hunter2@relay.test", "an option without a value"),
        ("smtp://relay.test?hunter2=1", "an option that is not known"),
        ("smtp://relay.test?rate=hunter2", "rate= that is not such as 14/s"),
        ("smtp://relay.test?rate=0/s", "rate= that is not"),
        ("smtp://relay.test?rate=5/d", "rate= that is not"),
        ("smtp://relay.test?quota=5/s", "quota= that is not"),
        ("smtp://relay.test?connections=0", "connections= that is not"),
        ("smtp://relay.test?domains=hunter2@x", "domains= that is not"),
        ("smtp://relay.test?tls=hunter2", "tls= that is not none, starttls"),
        ("smtps://relay.test?tls=none", "says another tls="),
        ("smtp://relay.test?name=hunter2%20", "name= that is not"),
        ("smtp://relay.test?rate=1/s&rate=2/s", "rate= more than once"),
        ("ses://hunter2@eu-west-1", "no key with its secret"),
        ("ses://KEY:hunter2", "nothing readable behind its @"),
        ("mailgun://mg.example.com", "no key"),
        ("sendgrid://", "no key"),
        ("smtp://a.test smtp://a.test", "two transports are called"),
        ("smtp://a.test?weight=1 smtp://b.test", "weight= is for all"),
        (" ", "names no transport"),
    ] {
        let text = if url == "smtp://relay.test?name=hunter2%20" {
            fault("smtp://relay.test?name=hunter2%20x")
        } else {
            let faults = development(&[("MAIL_TRANSPORTS", url)]).expect_err(url).to_string();
            assert!(faults.lines().all(|line| line.starts_with("MAIL_TRANSPORTS: ")), "{faults}");
            faults
        };
        assert!(text.contains(expected), "{url}: {text}");
        assert!(!text.contains("hunter2") && !text.contains("ter2"), "{url}: {text}");
    }
}

#[test]
fn every_fault_of_every_transport_is_found_at_once() {
    let urls = "smtp://a.test?rate=x&quota=y smtp://b.test:0?connections=z";
    let faults = development(&[("MAIL_TRANSPORTS", urls)]).expect_err("faults");
    assert_eq!(faults.iter().count(), 4, "{faults}");
}

#[test]
fn one_relay_and_many_transports_are_not_both_said() {
    for (name, value) in
        [("SMTP_HOST", "relay.test"), ("EMAIL_HOST_USER", "me"), ("SMTP_PASSWORD", "hunter2")]
    {
        let faults = production(&[("SMTP_HOST", ""), ("MAIL_TRANSPORTS", "smtps://a.test"), (name, value)]);
        let text = faults.expect_err("a fault").to_string();
        assert!(text.starts_with(&format!("MAIL_TRANSPORTS, {name}: both say")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(production(&[("SMTP_HOST", ""), ("MAIL_TRANSPORTS", "smtps://a.test")]).is_ok());
    let dev = dev(&[("MAIL_TRANSPORTS", "smtp://a.test")]).expect("no fault");
    assert_eq!(dev.transports.len(), 1);
}

#[test]
fn the_rules_on_tls_hold_for_each() {
    let urls = "smtps://a.test smtp://b.test?tls=none smtp://localhost";
    let with = |urls| [("SMTP_HOST", ""), ("MAIL_TRANSPORTS", urls)];
    let (names, text) = only_fault(production(&with(urls)));
    assert_eq!(names, "MAIL_TRANSPORTS");
    assert!(
        text.starts_with("transport 2 (smtp:b.test:25): mail would cross the network in clear"),
        "{text}"
    );
    assert!(staging(&with(urls)).is_ok());
    let (_, text) = only_fault(staging(&with("smtp://me:hunter2@b.test?tls=none")));
    assert!(text.contains("the login would cross") && !text.contains("hunter2"), "{text}");
}
