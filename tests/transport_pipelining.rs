//! Several commands in one write (RFC 2920): what each reply means, and what it saves.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::print_stdout, reason = "the figures are part of the proof")]

mod transport;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use facteur::testing::{Conversation, Fault, Script, SmtpServer, Speaker, Stage};
use facteur::transport::smtp::SmtpTransport;
use facteur::transport::{Gate, Outcome, Parcel};
use rustls::RootCertStore;

use transport::{FROM, MESSAGE, OpenGate, deadlines, patient, send};

async fn sent_by(script: Script) -> (Outcome, SmtpServer, SmtpTransport) {
    let server = SmtpServer::start(script).await.unwrap();
    let each = deadlines(Duration::from_secs(1));
    let way = SmtpTransport::with_roots(&server.relay(), RootCertStore::empty(), each).unwrap();
    (send(&way, "ada@example.test").await, server, way)
}

/// A recipient or a sender is refused, and DATA is answered with 354 all the same: raw bytes leave the
/// server believing that it said yes, so that a dot would make a mail of nothing.
#[tokio::test]
async fn a_server_that_says_go_on_without_a_recipient_gets_no_dot() {
    for (stage, name) in [(Stage::Rcpt, "rcpt"), (Stage::Mail, "mail")] {
        let refused = Fault::raw("550 5.1.1 no such user\r\n");
        let (outcome, server, way) = sent_by(Script::new().at(stage, refused).on_mail(1)).await;
        let report = outcome.report().unwrap();
        assert_eq!((report.stage.as_str(), report.code), (name, Some(550)), "{outcome:?}");
        server.wait_until(|server| server.counters().open == 0).await;
        let conversation = &server.conversations()[0];
        assert!(String::from_utf8(conversation.sent()).unwrap().ends_with("354 go on\r\n"));
        assert!(conversation.received().ends_with(b"DATA\r\n"), "something was said behind DATA");
        assert!(server.accepted().is_empty());
        // The next begins on a connection without a past.
        assert!(matches!(send(&way, "eve@example.test").await, Outcome::Sent(_)));
        assert_eq!((server.counters().opened, server.accepted().len()), (2, 1));
    }
}

#[tokio::test]
async fn the_first_refusal_is_what_became_of_the_mail() {
    // Refused at MAIL, the server refuses RCPT and DATA too.
    for (stage, code, name, class) in [
        (Stage::Mail, 451, "mail", "Retry"),
        (Stage::Mail, 550, "mail", "Unusable"),
        (Stage::Rcpt, 450, "rcpt", "Retry"),
        (Stage::Rcpt, 550, "rcpt", "Reject"),
        (Stage::Data, 451, "data", "Retry"),
        (Stage::Data, 554, "data", "Reject"),
    ] {
        let refused = Fault::reply(code, "no, for this reason");
        let (outcome, server, way) = sent_by(Script::new().at(stage, refused).on_mail(1)).await;
        assert!(format!("{outcome:?}").starts_with(class), "{stage:?} {outcome:?}");
        let report = outcome.report().unwrap();
        assert_eq!((report.stage.as_str(), report.code), (name, Some(code)));
        assert_eq!(report.text, "no, for this reason");
        // All three replies were heard, so that the connection is as good as new.
        assert!(matches!(send(&way, "eve@example.test").await, Outcome::Sent(_)));
        assert_eq!(server.counters().opened, 1, "{stage:?} {code}");
    }
}

#[tokio::test]
async fn what_is_lost_behind_a_refusal_does_not_hide_it() {
    for fault in [Fault::stall(), Fault::hang_up(), Fault::reset(), Fault::garbage()] {
        // Raw, so that the server goes on to DATA as if nothing had been refused.
        let script = Script::new().at(Stage::Rcpt, Fault::raw("550 5.1.1 no such user\r\n")).times(1);
        let (outcome, server, way) = sent_by(script.at(Stage::Data, fault.clone()).times(1)).await;
        // A reset takes away what was not read yet.
        let heard = matches!(&outcome, Outcome::Reject(report) if report.code == Some(550));
        assert!(heard || matches!(&outcome, Outcome::Retry(..)), "{fault:?}: {outcome:?}");
        assert!(server.accepted().is_empty());
        assert!(matches!(send(&way, "eve@example.test").await, Outcome::Sent(_)));
        assert_eq!(server.counters().opened, 2, "{fault:?}");
    }
}

#[tokio::test]
async fn replies_that_do_not_fit_their_commands_end_the_connection() {
    for (stage, raw) in [
        (Stage::Mail, "250 2.1.0 ok\r\n250 2.1.0 ok\r\n"),
        (Stage::Rcpt, "250 2.1.5 ok\r\n250 2.1.5 ok\r\n"),
        (Stage::Mail, "354 go on\r\n"),
        (Stage::Rcpt, "354 go on\r\n"),
        (Stage::Data, "250 2.0.0 ok\r\n"),
        (Stage::Data, "354 go on\r\n250 2.0.0 taken\r\n"),
        (Stage::Mail, "250 ok\r\n250 ok\r\n354 go on\r\n250 2.0.0 taken\r\n"),
        // Out of step by one, and something is refused.
        (Stage::Mail, "550 5.1.1 of the mail before\r\n250 2.1.0 ok\r\n"),
    ] {
        let (outcome, server, way) = sent_by(Script::new().at(stage, Fault::raw(raw)).on_mail(1)).await;
        assert!(matches!(outcome, Outcome::Retry(..)), "{stage:?} {raw:?}: {outcome:?}");
        server.wait_until(|server| server.counters().open == 0).await;
        assert!(!server.conversations()[0].heard("Good day"), "{stage:?} {raw:?}");
        assert!(matches!(send(&way, "eve@example.test").await, Outcome::Sent(_)));
        assert_eq!((server.counters().opened, server.accepted().len()), (2, 1));
    }
}

/// Says no, and remembers whether it was asked.
#[derive(Default)]
struct Shut {
    asked: AtomicBool,
}

impl Gate for Shut {
    async fn before_data(&self) -> bool {
        self.asked.store(true, Ordering::SeqCst);
        false
    }

    fn before_dot(&self) -> bool {
        true
    }

    async fn closed(&self) {
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_gate_is_asked_before_the_write_that_has_data_in_it() {
    for (script, said) in [(Script::new(), false), (Script::new().without_pipelining(), true)] {
        let server = SmtpServer::start(script).await.unwrap();
        let gate = Shut::default();
        let parcel =
            Parcel { from: FROM, to: "ada@example.test", message: MESSAGE, email: &transport::EMAIL };
        assert_eq!(patient(&server.relay()).send(parcel, &gate).await, Outcome::Interrupted);
        assert!(gate.asked.load(Ordering::SeqCst));
        server.wait_until(|server| server.counters().open == 0).await;
        assert_eq!(server.conversations()[0].heard("RCPT"), said);
        assert!(!server.conversations()[0].heard("DATA"));
    }
}

/// How often it was the server's turn.
fn turns(conversation: &Conversation) -> usize {
    let speakers = conversation.chunks.iter().map(|chunk| chunk.speaker);
    let mut last = Speaker::Server;
    speakers
        .filter(|speaker| std::mem::replace(&mut last, *speaker) != *speaker && last == Speaker::Client)
        .count()
}

/// The far end of a line that takes this long each way.
const LINE: Duration = Duration::from_millis(1);
const MAILS: usize = 200;

#[tokio::test]
async fn two_round_trips_a_mail_instead_of_four() {
    let mut measured = Vec::new();
    for script in [Script::new().without_pipelining(), Script::new()] {
        let server = SmtpServer::start(script).await.unwrap();
        let mut relay = server.relay();
        relay.port = far_away(server.addr().port()).await;
        relay.max_per_connection = u32::try_from(MAILS).unwrap();
        let way = patient(&relay);
        let parcel =
            Parcel { from: FROM, to: "ada@example.test", message: MESSAGE, email: &transport::EMAIL };
        let start = Instant::now();
        for _ in 0..MAILS {
            assert!(matches!(way.send(parcel, &OpenGate).await, Outcome::Sent(_)));
        }
        let took = start.elapsed();
        let conversation = &server.conversations()[0];
        let heard = conversation.chunks.iter().filter(|chunk| chunk.speaker == Speaker::Client).count();
        measured.push((turns(conversation), heard, took));
    }
    let [(trips, reads, took), (fewer, fewer_reads, shorter)] = measured[..] else { panic!() };
    println!(
        "{MAILS} mails, one by one: {trips} round trips, {reads} reads, {took:?}; \
         in one write: {fewer}, {fewer_reads}, {shorter:?}; {:.1} times faster over {:?} of round trip",
        took.as_secs_f64() / shorter.as_secs_f64(),
        2 * LINE,
    );
    // EHLO is one more; a server that answers quickly may take its turn before it has heard all.
    assert!(trips >= 4 * MAILS, "{trips}");
    assert!(fewer_reads < 2 * MAILS + MAILS / 10, "{fewer_reads}");
    assert!(shorter < took.mul_f64(0.75), "{took:?}, {shorter:?}");
}

/// A port that leads to the other over a line that delays what it carries, both ways.
async fn far_away(port: u16) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap().port();
    async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let mut space = [0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut space).await {
            tokio::time::sleep(LINE).await;
            if to.write_all(&space[..count]).await.is_err() {
                return;
            }
        }
    }
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let ((client_in, client_out), (server_in, server_out)) =
                (client.into_split(), server.into_split());
            tokio::spawn(carry(client_in, server_out));
            tokio::spawn(carry(server_in, client_out));
        }
    });
    near
}
