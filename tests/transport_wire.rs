//! The bytes themselves, at a socket that knows nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::print_stdout, reason = "the figures are part of the proof")]

mod transport;

use std::time::{Duration, Instant};

use facteur::Email;
use facteur::email::StoredEmail;
use facteur::settings::Relay;
use facteur::testing::{Script, SmtpServer, Speaker};
use facteur::transport::{Outcome, Parcel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use transport::{FROM, OpenGate, patient, send};

fn relay(port: u16) -> Relay {
    Relay { max_connections: 1, ..Relay::new("127.0.0.1", port) }
}

/// Says a reply, and takes exactly what one read brings.
async fn exchange(stream: &mut TcpStream, reply: &str) -> String {
    stream.write_all(reply.as_bytes()).await.unwrap();
    let mut space = [0; 65_536];
    let count = stream.read(&mut space).await.unwrap();
    String::from_utf8(space[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn a_session_is_these_bytes_and_no_others() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = patient(&relay(sink.local_addr().unwrap().port()));
    let server = tokio::spawn(async move {
        let (mut stream, _) = sink.accept().await.unwrap();
        let stream = &mut stream;
        assert_eq!(exchange(stream, "220 sink\r\n").await, "EHLO [127.0.0.1]\r\n");
        assert_eq!(exchange(stream, "250 sink\r\n").await, "MAIL FROM:<shop@example.test>\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, "RCPT TO:<ada@example.test>\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, "DATA\r\n");
        // Body and dot came in one segment: neither waits for the other's acknowledgement.
        assert_eq!(exchange(stream, "354 go\r\n").await, "A: b\r\n\r\n..\r\n..one\r\ntwo.\r\n.\r\n");
        // The second mail: the same connection, no second EHLO.
        assert_eq!(exchange(stream, "250 ok\r\n").await, "MAIL FROM:<shop@example.test>\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, "RCPT TO:<eve@example.test>\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, "DATA\r\n");
        assert_eq!(exchange(stream, "354 go\r\n").await, "Subject: hello\r\n\r\nGood day.\r\n.\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, "", "more than was to be said");
    });
    let first = Parcel {
        from: FROM,
        to: "ada@example.test",
        message: b"A: b\r\n\r\n.\r\n.one\r\ntwo.",
        email: &transport::EMAIL,
    };
    assert!(matches!(transport.send(first, &OpenGate).await, Outcome::Sent(_)));
    assert!(matches!(send(&transport, "eve@example.test").await, Outcome::Sent(_)));
    drop(transport);
    server.await.unwrap();
}

#[tokio::test]
async fn with_pipelining_the_envelope_is_one_write() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = patient(&relay(sink.local_addr().unwrap().port()));
    let server = tokio::spawn(async move {
        let (mut stream, _) = sink.accept().await.unwrap();
        let stream = &mut stream;
        let envelope = |size, to| {
            format!("MAIL FROM:<shop@example.test> SIZE={size}\r\nRCPT TO:<{to}@example.test>\r\nDATA\r\n")
        };
        assert_eq!(exchange(stream, "220 sink\r\n").await, "EHLO [127.0.0.1]\r\n");
        let offer = "250-sink\r\n250-size 1000\r\n250 Pipelining\r\n";
        // Of what is sent, the doubled dots and the last one are no part of the message (RFC 1870).
        assert_eq!(exchange(stream, offer).await, envelope(23, "ada"));
        let replies = "250 ok\r\n250 ok\r\n354 go\r\n";
        assert_eq!(exchange(stream, replies).await, "A: b\r\n\r\n..\r\n..one\r\ntwo.\r\n.\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, envelope(29, "eve"));
        // Refused: the next begins with RSET, in the same write.
        let next = exchange(stream, "250 ok\r\n550 no\r\n503 no\r\n").await;
        assert_eq!(next, format!("RSET\r\n{}", envelope(29, "ada")));
        let replies = "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n";
        assert_eq!(exchange(stream, replies).await, "Subject: hello\r\n\r\nGood day.\r\n.\r\n");
        assert_eq!(exchange(stream, "250 ok\r\n").await, "", "more than was to be said");
    });
    let first = Parcel {
        from: FROM,
        to: "ada@example.test",
        message: b"A: b\r\n\r\n.\r\n.one\r\ntwo.",
        email: &transport::EMAIL,
    };
    assert!(matches!(transport.send(first, &OpenGate).await, Outcome::Sent(_)));
    assert!(matches!(send(&transport, "eve@example.test").await, Outcome::Reject(_)));
    assert!(matches!(send(&transport, "ada@example.test").await, Outcome::Sent(_)));
    drop(transport);
    server.await.unwrap();
}

#[tokio::test]
async fn the_name_that_was_set_is_the_one_in_ehlo() {
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let named = Relay { hello_name: Some("mail.example.test".to_owned()), ..server.relay() };
    send(&patient(&named), "ada@example.test").await;
    assert!(server.conversations()[0].heard("EHLO mail.example.test\r\n"));
}

#[tokio::test]
async fn no_mail_waits_for_a_delayed_acknowledgement() {
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let transport = patient(&server.relay());
    let start = Instant::now();
    for _ in 0..20 {
        assert!(matches!(send(&transport, "ada@example.test").await, Outcome::Sent(_)));
    }
    let took = start.elapsed();
    println!("20 mails on one connection: {took:?}");
    assert!(took < Duration::from_millis(20 * 40) / 2, "{took:?}");
    let conversation = &server.conversations()[0];
    let bodies = conversation.chunks.iter().filter(|chunk| {
        chunk.speaker == Speaker::Client && chunk.bytes == b"Subject: hello\r\n\r\nGood day.\r\n.\r\n"
    });
    assert_eq!(bodies.count(), 20);
}

#[tokio::test]
async fn a_mail_is_on_disk_when_its_sender_hears_of_it() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::now_v7().to_string());
    let server = SmtpServer::start(Script::new().record_in(&file)).await.unwrap();
    let way = patient(&server.relay());
    for n in 1..=3 {
        let message = stored("Good day.").render().unwrap();
        let parcel =
            Parcel { from: FROM, to: "ada@example.test", message: &message, email: &transport::EMAIL };
        assert!(matches!(way.send(parcel, &OpenGate).await, Outcome::Sent(_)));
        let recorded = std::fs::read_to_string(&file).unwrap();
        let last: serde_json::Value = serde_json::from_str(recorded.lines().last().unwrap()).unwrap();
        assert_eq!(recorded.lines().count(), n);
        assert_eq!(last["message_id"], "1@example.test");
        assert_eq!(last["to"], serde_json::json!(["ada@example.test"]));
    }
    std::fs::remove_file(&file).unwrap();
}

/// What smuggling is made of, and what else may be in a text.
fn bodies() -> Vec<String> {
    let commands = "MAIL FROM:<evil@x.test>\r\nRCPT TO:<evil@x.test>\r\nDATA\r\nsmuggled\r\n.\r\n";
    let mut bodies: Vec<String> =
        ["\n.\n", "\r\n.\r\n", "\r.\r", "\r\n.\n", "\n.\r\n", "\r.\r\n", "\r\n.\r", "\r\n\r.\r\n"]
            .iter()
            .flat_map(|end| [(*end).to_owned(), format!("a{end}{commands}"), format!("{end}.{end}")])
            .collect();
    bodies.extend(["", ".", "..", ".\n", "\n", "\r", "a\r\r\nb", "\n.", "tail\r\n."].map(str::to_owned));
    bodies.extend(["x".repeat(5_000), ".".repeat(5_000), "é".repeat(3_000), "\u{2028}.\u{2028}".to_owned()]);
    // The dot on each side of every boundary at which the content is cut into pieces.
    for size in 16_384 - 12..=16_384 + 2 {
        bodies.push(format!("{}\n.\n{commands}", "y\n".repeat(size / 2)));
    }
    bodies
}

fn stored(text: &str) -> StoredEmail {
    // What a caller could hand over, stored as the outbox stores it.
    Email::builder("shop@example.test", "ada@example.test", "Hello", text).build().unwrap();
    StoredEmail {
        id: uuid::Uuid::nil().into(),
        message_id: "1@example.test".into(),
        date: time::OffsetDateTime::UNIX_EPOCH,
        boundary: "b".into(),
        from: "shop@example.test".parse().unwrap(),
        to: vec!["ada@example.test".parse().unwrap()],
        cc: vec![],
        reply_to: vec![],
        subject: "Hello".into(),
        text: Some(text.to_owned()),
        html: None,
        headers: vec![],
        attachments: vec![],
    }
}

#[tokio::test]
async fn whatever_the_body_exactly_one_message_arrives() {
    for script in [Script::new(), Script::new().without_pipelining()] {
        every_body_arrives(script).await;
    }
}

async fn every_body_arrives(script: Script) {
    let server = SmtpServer::start(script).await.unwrap();
    let transport = patient(&server.relay());
    let bodies = bodies();
    for (n, body) in bodies.iter().enumerate() {
        let message = stored(body).render().unwrap();
        let parcel =
            Parcel { from: FROM, to: "ada@example.test", message: &message, email: &transport::EMAIL };
        assert!(matches!(transport.send(parcel, &OpenGate).await, Outcome::Sent(_)), "{body:?}");
        let accepted = server.accepted();
        assert_eq!(accepted.len(), n + 1, "{body:?} arrived as another number of mails");
        let mail = &accepted[n];
        assert_eq!((mail.from.as_str(), mail.to.as_slice()), (FROM, &["ada@example.test".to_owned()][..]));
        let end = if message.ends_with(b"\r\n") { "" } else { "\r\n" };
        assert_eq!(mail.content, [&message, end.as_bytes()].concat(), "{body:?} changed on the way");
        let (read, written) = (lines(&decoded(&mail.content)), lines(body));
        // The line end behind the last line is the message's own.
        assert!(read == written || read == format!("{written}\n"), "{body:?} reads {read:?}");
    }
    // A receiver that takes less than CRLF, dot, CRLF for the end finds nothing to take.
    let received = server.conversations()[0].received();
    let bare = received.iter().enumerate().any(|(i, byte)| match byte {
        b'\n' => i == 0 || received[i - 1] != b'\r',
        b'\r' => received.get(i + 1) != Some(&b'\n'),
        _ => false,
    });
    assert!(!bare, "a bare CR or LF left");
    assert_eq!(server.counters().opened, 1);
    println!("{} bodies, {} mails", bodies.len(), server.accepted().len());
}

/// The text as its reader sees it.
fn decoded(message: &[u8]) -> String {
    let parsed = mail_parser::MessageParser::default().parse(message).unwrap();
    parsed.body_text(0).unwrap_or_default().into_owned()
}

/// Line ends made equal.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
