//! Replies that no server should give.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport;

use std::time::Duration;

use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::smtp::SmtpTransport;
use facteur::transport::{Outcome, Parcel};
use futures_util::future::join_all;
use rustls::RootCertStore;

use transport::{FROM, MESSAGE, OpenGate, deadlines, patient, send};

const ALL: [Stage; 6] = [Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::EndOfData];

/// With the envelope in one write; one by one, it must come to the same.
async fn sent_by(script: Script) -> (Outcome, SmtpServer) {
    let (apart, one_by_one) = sent_once(script.clone().without_pipelining()).await;
    let (outcome, server) = sent_once(script).await;
    assert_eq!(std::mem::discriminant(&outcome), std::mem::discriminant(&apart), "{outcome:?}, {apart:?}");
    assert_eq!(server.accepted().len(), one_by_one.accepted().len(), "{outcome:?}, {apart:?}");
    (outcome, server)
}

async fn sent_once(script: Script) -> (Outcome, SmtpServer) {
    let server = SmtpServer::start(script).await.unwrap();
    let roots = RootCertStore::empty();
    let way = SmtpTransport::with_roots(&server.relay(), roots, deadlines(Duration::from_secs(1))).unwrap();
    (send(&way, "ada@example.test").await, server)
}

/// Before the dot it is tried again, after it nobody knows: never sent, never refused.
#[track_caller]
fn decides_nothing(outcome: &Outcome, stage: Stage) {
    match outcome {
        Outcome::Unknown(_) => assert_eq!(stage, Stage::EndOfData, "{outcome:?}"),
        Outcome::Retry(..) => assert_ne!(stage, Stage::EndOfData, "{outcome:?}"),
        _ => panic!("{stage:?}: {outcome:?}"),
    }
}

fn good_code(stage: Stage) -> u16 {
    match stage {
        Stage::Banner => 220,
        Stage::Data => 354,
        _ => 250,
    }
}

#[tokio::test]
async fn a_line_of_a_megabyte_is_not_read_to_its_end() {
    for stage in ALL {
        let (outcome, server) =
            sent_by(Script::new().at(stage, Fault::huge(good_code(stage), 1 << 20))).await;
        decides_nothing(&outcome, stage);
        assert!(format!("{outcome:?}").len() < 2_000, "the reply was kept");
        assert_eq!(server.accepted().len(), 0);
    }
}

#[tokio::test]
async fn lines_without_end_are_not_read_to_their_end() {
    for stage in ALL {
        let line = format!("{}-more\r\n", good_code(stage));
        let (outcome, _) = sent_by(Script::new().at(stage, Fault::raw(line.repeat(100_000)))).await;
        decides_nothing(&outcome, stage);
    }
}

#[tokio::test]
async fn a_hundred_lines_are_one_reply() {
    let text = vec!["line"; 100].join("\n");
    for stage in ALL {
        let (outcome, server) = sent_by(Script::new().at(stage, Fault::reply(good_code(stage), &text))).await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{stage:?}: {outcome:?}");
        assert_eq!(server.accepted().len(), 1);
    }
}

#[tokio::test]
async fn a_reply_may_come_in_pieces_of_one_byte() {
    let drip = || Fault::drip(Duration::from_micros(200));
    let script = ALL.iter().fold(Script::new(), |script, stage| script.at(*stage, drip()));
    let (outcome, server) = sent_by(script).await;
    let Outcome::Sent(report) = outcome else { panic!("{outcome:?}") };
    assert_eq!((report.code, report.text.as_str()), (Some(250), "2.0.0 taken"));
    assert_eq!(server.accepted().len(), 1);
}

#[tokio::test]
async fn a_drip_that_outlasts_the_deadline_is_a_stall() {
    join_all(ALL.map(|stage| async move {
        let (outcome, _) = sent_by(Script::new().at(stage, Fault::drip(Duration::from_millis(500)))).await;
        decides_nothing(&outcome, stage);
    }))
    .await;
}

#[tokio::test]
async fn an_answer_before_the_final_dot_is_no_answer() {
    // Behind the reply to DATA, and in the middle of the content.
    for early in ["250 2.0.0 taken\r\n", "550 5.7.1 no\r\n"] {
        let (outcome, server) = sent_by(Script::new().at(Stage::Data, Fault::followed_by(early))).await;
        decides_nothing(&outcome, Stage::Data);
        assert_eq!(server.accepted().len(), 0, "the content left after all");
    }
    let large = [MESSAGE, "A line that is one of many.\r\n".repeat(300_000).as_bytes()].concat();
    let parcel = Parcel { from: FROM, to: "ada@example.test", message: &large, email: &transport::EMAIL };
    let script = Script::new().at(Stage::Body, Fault::reply(250, "2.0.0 taken")).receive_buffer(65_536);
    for script in [script.clone().without_pipelining(), script] {
        let server = SmtpServer::start(script).await.unwrap();
        let outcome = patient(&server.relay()).send(parcel, &OpenGate).await;
        decides_nothing(&outcome, Stage::Body);
        assert_eq!(server.accepted().len(), 0);
    }
}

#[tokio::test]
async fn a_reply_that_comes_twice_ends_the_connection() {
    for stage in [Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data] {
        let (outcome, server) = sent_by(Script::new().at(stage, Fault::twice())).await;
        decides_nothing(&outcome, stage);
        assert_eq!(server.accepted().len(), 0, "{stage:?}");
    }
}

#[tokio::test]
async fn a_verdict_that_comes_twice_does_not_answer_the_next_mail() {
    let script = Script::new()
        .at(Stage::EndOfData, Fault::twice())
        .on_mail(1)
        .at(Stage::EndOfData, Fault::reply(550, "5.7.1 no"));
    for script in [script.clone().without_pipelining(), script] {
        let server = SmtpServer::start(script).await.unwrap();
        let way = patient(&server.relay());
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Reject(_)));
        assert_eq!(server.counters().opened, 2);
    }
}

#[tokio::test]
async fn a_good_code_in_the_wrong_place_is_not_good() {
    for (stage, code) in [
        (Stage::Banner, 250),
        (Stage::Banner, 354),
        (Stage::Ehlo, 220),
        (Stage::Mail, 354),
        (Stage::Mail, 220),
        (Stage::Rcpt, 354),
        (Stage::Rcpt, 221),
        (Stage::Data, 250),
        (Stage::Data, 220),
        (Stage::EndOfData, 354),
        (Stage::EndOfData, 221),
        (Stage::EndOfData, 200),
    ] {
        let raw = format!("{code} 2.0.0 fine\r\n");
        let (outcome, server) = sent_by(Script::new().at(stage, Fault::raw(raw))).await;
        decides_nothing(&outcome, stage);
        assert_eq!(server.accepted().len(), 0, "{stage:?} {code}");
    }
}

#[tokio::test]
async fn what_is_not_a_reply_decides_nothing() {
    for raw in [
        "",
        "\r\n",
        "250",
        "2",
        "\0\0\0\0\r\n",
        "250 a\r",
        "250-a\r\n550 b\r\n",
        "550-a\r\n250 b\r\n",
        "250_a\r\n",
        "2500 a\r\n",
        "150 a\r\n",
        "650 a\r\n",
        "999 a\r\n",
        "+250 a\r\n",
        " 250 a\r\n",
        "HTTP/1.1 250 OK\r\n\r\n",
    ] {
        join_all([Stage::Banner, Stage::Rcpt, Stage::EndOfData].map(|stage| async move {
            let (outcome, server) = sent_by(Script::new().at(stage, Fault::raw(raw))).await;
            decides_nothing(&outcome, stage);
            assert_eq!(server.accepted().len(), 0, "{stage:?} {raw:?}");
        }))
        .await;
    }
}

#[tokio::test]
async fn a_bare_lf_ends_no_line() {
    for stage in [Stage::Mail, Stage::EndOfData] {
        let (outcome, _) = sent_by(Script::new().at(stage, Fault::bare_lf())).await;
        decides_nothing(&outcome, stage);
    }
}

#[tokio::test]
async fn a_code_needs_no_text() {
    // RFC 5321 §4.2: `Reply-line = … Reply-code [ SP textstring ] CRLF`. EHLO's has a name.
    for stage in ALL.into_iter().filter(|stage| *stage != Stage::Ehlo) {
        let raw = format!("{}\r\n", good_code(stage));
        let fault = Fault::raw(raw).accepting();
        let (outcome, server) = sent_by(Script::new().at(stage, fault)).await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{stage:?}: {outcome:?}");
        assert_eq!(server.accepted().len(), 1);
    }
    let (outcome, _) = sent_by(Script::new().at(Stage::Rcpt, Fault::raw("550\r\n"))).await;
    assert!(matches!(outcome, Outcome::Reject(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_reply_in_no_known_encoding_is_a_reply() {
    let refused = Fault::raw(&b"550 5.1.1 bo\xeete inconnue <script>\x1b[2J\r\n"[..]);
    let (outcome, _) = sent_by(Script::new().at(Stage::Rcpt, refused)).await;
    let Outcome::Reject(report) = outcome else { panic!("{outcome:?}") };
    assert_eq!(report.text, "5.1.1 bo\u{fffd}te inconnue <script>\x1b[2J");
    let taken = Fault::raw(&b"250 2.0.0 re\xe7u\r\n"[..]).accepting();
    let (outcome, server) = sent_by(Script::new().at(Stage::EndOfData, taken)).await;
    assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
    assert_eq!(server.accepted().len(), 1);
}
