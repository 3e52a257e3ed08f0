//! Every fault at every stage has one right outcome, in time, and leaves no connection that lies.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::print_stdout, reason = "the figures are part of the proof")]

mod transport;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use facteur::settings::Relay;
use facteur::testing::{Fault, Script, SmtpServer, Stage, TestAuthority};
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use facteur::transport::{Gate, Outcome, Parcel, Report};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use transport::{FROM, MESSAGE, deadlines, patient, send};

/// The deadline of the stage that is tried; the others have ten seconds.
const DEADLINE: Duration = Duration::from_millis(200);

type Fitting = fn() -> Fault;

const FAULTS: [(&str, Fitting); 6] = [
    ("4xx", || Fault::reply(451, "4.3.0 later")),
    ("5xx", || Fault::reply(550, "5.0.0 no")),
    ("stall", Fault::stall),
    ("drop", Fault::hang_up),
    ("reset", Fault::reset),
    ("garbage", Fault::garbage),
];

/// What each fault above comes to, at each stage.
#[rustfmt::skip]
const TABLE: [(Stage, &str, [&str; 6]); 12] = [
    // A reply before the greeting is a greeting.
    (Stage::Connect,      "banner",      ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    (Stage::Banner,       "banner",      ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    (Stage::Ehlo,         "ehlo",        ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    (Stage::StartTls,     "starttls",    ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    // Whatever comes instead of a handshake is no reply.
    (Stage::Tls,          "tls",         ["Retry", "Retry",    "Retry", "Retry", "Retry", "Retry"]),
    (Stage::EhloAfterTls, "ehlo",        ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    (Stage::Auth,         "auth",        ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    (Stage::Mail,         "mail",        ["Retry", "Unusable", "Retry", "Retry", "Retry", "Retry"]),
    (Stage::Rcpt,         "rcpt",        ["Retry", "Reject",   "Retry", "Retry", "Retry", "Retry"]),
    (Stage::Data,         "data",        ["Retry", "Reject",   "Retry", "Retry", "Retry", "Retry"]),
    // A reply that nobody asked for decides nothing; there is no mail without its dot.
    (Stage::Body,         "body",        ["Retry", "Retry",    "Retry", "Retry", "Retry", "Retry"]),
    (Stage::EndOfData,    "end-of-data", ["Retry", "Reject",   "Unknown", "Unknown", "Unknown", "Unknown"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_stage_has_its_outcome() {
    every_fault(Script::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_the_same_outcome_when_commands_go_one_by_one() {
    every_fault(Script::new().without_pipelining()).await;
}

async fn every_fault(base: Script) {
    let authority = TestAuthority::new().unwrap();
    let identity = authority.issue("127.0.0.1").unwrap();
    let mut wrong = Vec::new();
    for (stage, reported, expected) in TABLE {
        let cells = FAULTS.iter().zip(expected).map(|((name, fault), expected)| {
            let script = base.clone().starttls(identity.clone()).login("ada", "s3cret");
            let script = script.at(stage, fault()).times(1).receive_buffer(65_536);
            let roots = authority.roots().unwrap();
            async move {
                let server = SmtpServer::start(script).await.unwrap();
                let way = SmtpTransport::with_roots(&server.relay(), roots, short_at(stage)).unwrap();
                let gate = Stopwatch(Mutex::new(Instant::now()));
                let outcome = send_large(&way, &gate, stage).await;
                let took = gate.0.into_inner().unwrap().elapsed();
                let mut faults = String::new();
                if class(&outcome) != expected {
                    faults += &format!("expected {expected}; ");
                }
                if !outcome.report().is_some_and(|report| is_at(report, reported)) {
                    faults += &format!("expected it at {reported}; ");
                }
                if took > DEADLINE + Duration::from_secs(1) {
                    faults += "late; ";
                }
                if !server.accepted().is_empty() {
                    faults += "a mail was taken; ";
                }
                // The next mail: on the same connection after a refusal of this one, else on a new one.
                let next = send(&way, "next@example.test").await;
                let kept = in_order(name, stage);
                let opened = server.counters().opened;
                if class(&next) != "Sent" || opened != if kept { 1 } else { 2 } {
                    faults += &format!("the next was {next:?} on connection {opened}; ");
                }
                let faults = if faults.is_empty() {
                    faults
                } else {
                    format!("{stage:?} {name}: {outcome:?}: {faults}")
                };
                (format!("{} {:.1} s", class(&outcome), took.as_secs_f32()), faults)
            }
        });
        // To prepare a large mail takes all of a core: one at a time, or they would make each other late.
        let at_once = if stage == Stage::Body { 1 } else { FAULTS.len() };
        let cells: Vec<_> = stream::iter(cells).buffered(at_once).collect().await;
        let row: Vec<_> = cells.iter().map(|(cell, _)| format!("{cell:<15}")).collect();
        println!("{:<13}{}", format!("{stage:?}"), row.concat());
        wrong.extend(cells.into_iter().map(|(_, faults)| faults).filter(|faults| !faults.is_empty()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn is_at(report: &Report, stage: &str) -> bool {
    // A reset can overtake the first read.
    report.stage.as_str() == stage || (stage == "banner" && report.stage.as_str() == "connect")
}

/// Whether the server refused one mail in order, and is in step for the next.
fn in_order(fault: &str, stage: Stage) -> bool {
    let about_the_mail = matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::EndOfData);
    about_the_mail && matches!(fault, "4xx" | "5xx")
}

fn short_at(stage: Stage) -> Deadlines {
    let mut each = deadlines(Duration::from_secs(10));
    let deadline = match stage {
        Stage::Connect | Stage::Banner => &mut each.banner,
        Stage::Ehlo | Stage::EhloAfterTls | Stage::StartTls => &mut each.ehlo,
        Stage::Tls => &mut each.tls,
        Stage::Auth => &mut each.auth,
        Stage::Body => &mut each.body,
        Stage::EndOfData => &mut each.end_of_data,
        Stage::Noop => &mut each.noop,
        Stage::Quit => &mut each.quit,
        Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Rset => &mut each.command,
    };
    *deadline = DEADLINE;
    each
}

/// Open, and counts from DATA when the content is what takes its time: to prepare it does, too.
struct Stopwatch(Mutex<Instant>);

impl Gate for Stopwatch {
    async fn before_data(&self) -> bool {
        *self.0.lock().unwrap() = Instant::now();
        true
    }

    fn before_dot(&self) -> bool {
        true
    }

    async fn closed(&self) {
        std::future::pending().await
    }
}

/// At the stage of the body more than the sockets' buffers hold, so that the dot cannot leave at once.
async fn send_large(way: &SmtpTransport, gate: &Stopwatch, stage: Stage) -> Outcome {
    let lines = if stage == Stage::Body { 160_000 } else { 0 };
    let message =
        [MESSAGE, "A line of a mail that is larger than any buffer.\r\n".repeat(lines).as_bytes()].concat();
    way.send(Parcel { from: FROM, to: "ada@example.test", message: &message, email: &transport::EMAIL }, gate)
        .await
}

fn class(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent(_) => "Sent",
        Outcome::Retry(..) => "Retry",
        Outcome::Reject(_) => "Reject",
        Outcome::Unusable(_) => "Unusable",
        Outcome::Unknown(_) => "Unknown",
        Outcome::Interrupted => "Interrupted",
    }
}

/// Commands one by one, and in one write.
fn modes() -> [Script; 2] {
    [Script::new().without_pipelining(), Script::new()]
}

async fn outcome_of(script: Script) -> (Outcome, SmtpServer) {
    let server = SmtpServer::start(script).await.unwrap();
    let outcome = send(&patient(&server.relay()), "ada@example.test").await;
    (outcome, server)
}

#[tokio::test]
async fn replies_are_classified_as_the_table_of_codes_says() {
    for (stage, code, text, expected) in [
        (Stage::Banner, 421, "4.3.2 closing", "Retry"),
        (Stage::Banner, 521, "5.3.2 no mail here", "Unusable"),
        (Stage::Mail, 421, "4.7.0 too many", "Retry"),
        (Stage::Mail, 452, "4.3.1 full", "Retry"),
        (Stage::Mail, 530, "5.7.0 log in", "Unusable"),
        (Stage::Mail, 552, "5.3.4 too big", "Reject"),
        (Stage::Mail, 553, "5.7.1 not your address", "Unusable"),
        (Stage::Rcpt, 421, "4.3.2 closing", "Retry"),
        (Stage::Rcpt, 450, "4.2.1 greylisted", "Retry"),
        (Stage::Rcpt, 452, "4.5.3 too many", "Retry"),
        (Stage::Rcpt, 550, "5.1.1 no such user", "Reject"),
        (Stage::Rcpt, 550, "5.7.1 relaying denied", "Unusable"),
        (Stage::Rcpt, 551, "5.1.6 moved", "Reject"),
        (Stage::Rcpt, 552, "5.2.2 mailbox full", "Retry"),
        (Stage::Rcpt, 556, "5.1.10 accepts no mail", "Reject"),
        (Stage::Data, 421, "4.3.2 closing", "Retry"),
        (Stage::Data, 503, "5.5.1 bad sequence", "Unusable"),
        (Stage::EndOfData, 421, "4.3.2 closing", "Retry"),
        (Stage::EndOfData, 451, "4.3.0 later", "Retry"),
        (Stage::EndOfData, 552, "5.2.2 mailbox full", "Retry"),
        (Stage::EndOfData, 552, "5.3.4 too big", "Reject"),
        (Stage::EndOfData, 550, "5.4.5 daily limit", "Unusable"),
        (Stage::EndOfData, 554, "5.7.1 spam\nsee https://example.test", "Reject"),
    ] {
        for base in modes() {
            let (outcome, server) = outcome_of(base.at(stage, Fault::reply(code, text))).await;
            assert_eq!(class(&outcome), expected, "{stage:?} {code} {text}");
            let report = outcome.report().unwrap();
            assert_eq!((report.code, report.text.as_str()), (Some(code), text.replace('\n', " ").as_str()));
            assert!(server.accepted().is_empty());
        }
    }
}

/// lettre says QUIT by itself to a refused EHLO, and would wait for its answer.
#[tokio::test]
async fn a_refused_ehlo_is_what_it_was_whatever_comes_of_quit() {
    for (_, fault) in FAULTS {
        for (code, expected) in [(502, "Unusable"), (554, "Unusable"), (451, "Retry")] {
            let refused = Fault::reply(code, "5.5.1 what?");
            let script = Script::new().at(Stage::Ehlo, refused).at(Stage::Quit, fault());
            let start = Instant::now();
            let (outcome, server) = outcome_of(script).await;
            assert_eq!(class(&outcome), expected, "{outcome:?}");
            let report = outcome.report().unwrap();
            assert_eq!((report.stage.as_str(), report.code), ("ehlo", Some(code)));
            assert_eq!(report.text, "5.5.1 what?");
            assert!(start.elapsed() < Duration::from_secs(1));
            assert!(!server.conversations()[0].heard("QUIT"));
        }
    }
}

#[tokio::test]
async fn what_was_taken_and_not_confirmed_is_unknown_and_only_that() {
    let faults = [Fault::stall(), Fault::hang_up(), Fault::reset(), Fault::garbage()];
    for fault in faults {
        let server = SmtpServer::start(Script::new().at(Stage::EndOfData, fault.accepting())).await.unwrap();
        let way = SmtpTransport::with_roots(
            &server.relay(),
            rustls::RootCertStore::empty(),
            short_at(Stage::EndOfData),
        );
        let outcome = send(&way.unwrap(), "ada@example.test").await;
        assert_eq!((class(&outcome), server.accepted().len()), ("Unknown", 1), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_refused_recipient_keeps_the_connection() {
    let refused = Fault::reply(550, "5.1.1 no such user");
    for base in modes() {
        let script = base.at(Stage::Rcpt, refused.clone()).for_recipient("nobody@example.test");
        let server = SmtpServer::start(script).await.unwrap();
        let way = patient(&server.relay());
        for _ in 0..5 {
            assert_eq!(class(&send(&way, "nobody@example.test").await), "Reject");
            assert_eq!(class(&send(&way, "ada@example.test").await), "Sent");
        }
        assert_eq!((server.counters().opened, server.accepted().len()), (1, 5));
        assert!(server.conversations()[0].heard("RSET\r\n"));
    }
}

#[tokio::test]
async fn a_fault_at_rset_is_no_fault_of_the_next_mail() {
    for ((_, fault), base) in FAULTS.iter().flat_map(|fault| modes().map(|base| (fault, base))) {
        let script = base
            .at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user"))
            .for_recipient("nobody@example.test")
            .at(Stage::Rset, fault());
        let server = SmtpServer::start(script).await.unwrap();
        let way =
            SmtpTransport::with_roots(&server.relay(), rustls::RootCertStore::empty(), short_at(Stage::Rset));
        let way = way.unwrap();
        assert_eq!(class(&send(&way, "nobody@example.test").await), "Reject");
        let next = send(&way, "ada@example.test").await;
        assert_eq!((class(&next), server.counters().opened), ("Sent", 2), "{next:?} after {:?}", fault());
    }
}

#[tokio::test]
async fn nothing_at_quit_changes_what_was_sent() {
    for (name, fault) in FAULTS {
        let server = SmtpServer::start(Script::new().at(Stage::Quit, fault())).await.unwrap();
        let way =
            SmtpTransport::with_roots(&server.relay(), rustls::RootCertStore::empty(), short_at(Stage::Quit));
        let way = way.unwrap();
        // After a hundred mails a connection is let go, with a QUIT.
        for n in 0..101 {
            let outcome = send(&way, "ada@example.test").await;
            assert_eq!(class(&outcome), "Sent", "mail {n}, QUIT: {name}");
        }
        assert_eq!((server.accepted().len(), server.counters().opened), (101, 2), "{name}");
        let start = Instant::now();
        assert_eq!(way.check().await, Ok(()), "{name}");
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(1), "{name}");
    }
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let relay = |port| Relay { max_connections: 1, ..Relay::new("127.0.0.1", port) };
    // Bound, not listening: refused.
    let refused = send(&patient(&relay(address.port())), "ada@example.test").await;
    assert_eq!(class(&refused), "Retry");
    // A queue of one that is full: no answer at all.
    let _full = listener.listen(0).unwrap();
    let connect = || timeout(DEADLINE, tokio::net::TcpStream::connect(address));
    let _waiting = join_all([connect(), connect(), connect()]).await;
    let way = SmtpTransport::with_roots(
        &relay(address.port()),
        rustls::RootCertStore::empty(),
        deadlines(DEADLINE),
    );
    let start = Instant::now();
    let silent = send(&way.unwrap(), "ada@example.test").await;
    assert_eq!(class(&silent), "Retry");
    assert_eq!(silent.report().unwrap().stage.as_str(), "connect");
    assert!(start.elapsed() < DEADLINE + Duration::from_secs(1));
}

/// A cancelled send must not leave a connection on which the next mail reads the answer to the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cancelled_send_the_next_is_never_falsely_sent() {
    for base in modes() {
        cancelled_sends(base).await;
    }
}

async fn cancelled_sends(base: Script) {
    const CANCELLED: u64 = 300;
    let script = base
        .at(Stage::Rcpt, Fault::delay(Duration::from_micros(500)))
        .for_recipient("ada@example.test")
        .at(Stage::EndOfData, Fault::reply(550, "5.7.1 no"))
        .for_recipient("refused@example.test");
    let server = SmtpServer::start(script).await.unwrap();
    let way = patient(&Relay { max_connections: 1, ..server.relay() });
    let (mut cut, mut false_sent) = (0, 0);
    for n in 0..CANCELLED {
        // Spread over all of a send by a step that shares no factor with the span.
        let cancel_after = Duration::from_micros(n * 37 % 4_000);
        cut += u32::from(timeout(cancel_after, send(&way, "ada@example.test")).await.is_err());
        let next = send(&way, "refused@example.test").await;
        false_sent += u32::from(class(&next) == "Sent");
        assert_eq!(class(&next), "Reject", "{next:?}");
    }
    let connections = server.counters().opened;
    println!("{cut} of {CANCELLED} sends cut, on {connections} connections; false_sent={false_sent}");
    assert_eq!(false_sent, 0);
    assert!(cut > 50, "only {cut} sends were cut");
    assert!(server.accepted().iter().all(|mail| mail.to == ["ada@example.test"]));
}
