//! Connections: how many, how long, and whose fault it is that one is gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use facteur::settings::Relay;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::{Gate, Outcome, Parcel};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use transport::{FROM, MESSAGE, patient, send};

#[tokio::test]
async fn never_more_connections_than_allowed() {
    for most in [1, 3] {
        let script = Script::new().at(Stage::Rcpt, Fault::delay(Duration::from_millis(2)));
        let server = SmtpServer::start(script).await.unwrap();
        let way = patient(&Relay { max_connections: most, ..server.relay() });
        let outcomes = join_all((0..50).map(|_| send(&way, "ada@example.test"))).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Sent(_))));
        let counters = server.counters();
        assert_eq!((counters.most_open, counters.opened), (most, most), "{counters:?}");
        assert_eq!(server.accepted().len(), 50);
    }
}

#[tokio::test]
async fn a_goodbye_that_takes_its_time_still_holds_its_place() {
    let server = SmtpServer::start(Script::new().at(Stage::Quit, Fault::delay(Duration::from_millis(200))));
    let server = server.await.unwrap();
    let way = patient(&Relay { max_connections: 1, ..server.relay() });
    for _ in 0..101 {
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
    }
    let counters = server.counters();
    assert_eq!((counters.opened, counters.most_open), (2, 1), "{counters:?}");
}

#[tokio::test]
async fn a_connection_carries_as_many_mails_as_is_set() {
    for (most, opened) in [(1, 6), (2, 3), (5, 2), (6, 1)] {
        let server = SmtpServer::start(Script::new()).await.unwrap();
        let way = patient(&Relay { max_connections: 1, max_per_connection: most, ..server.relay() });
        for _ in 0..6 {
            assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        }
        assert_eq!(server.counters().opened, opened, "{most}");
    }
}

/// Time is what these two are about.
#[tokio::test]
async fn a_connection_that_idled_or_lived_for_too_long_is_closed() {
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(300));
    for (idle_timeout, max_connection_age) in [(short, long), (long, short)] {
        let server = SmtpServer::start(Script::new()).await.unwrap();
        let relay = Relay { max_connections: 1, idle_timeout, max_connection_age, ..server.relay() };
        let way = patient(&relay);
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        way.close_idle().await;
        assert_eq!(server.counters().open, 1, "too early");
        tokio::time::sleep(2 * short).await;
        // Also when nobody swept: the next mail does not trust it.
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        let counters = server.counters();
        assert_eq!((counters.opened, counters.most_open), (2, 1), "{counters:?}");
        assert!(server.conversations()[0].heard("QUIT\r\n"));
        tokio::time::sleep(2 * short).await;
        way.close_idle().await;
        server.wait_until(|server| server.counters().open == 0).await;
        assert!(server.conversations()[1].heard("QUIT\r\n"));
    }
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let way = patient(&Relay { idle_timeout: long, max_connection_age: long, ..server.relay() });
    assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
    tokio::time::sleep(2 * short).await;
    way.close_idle().await;
    assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
    assert_eq!(server.counters().opened, 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_costs_nothing() {
    let server = SmtpServer::start(Script::new().close_after(1)).await.unwrap();
    let way = patient(&server.relay());
    for n in 1..=5 {
        let outcome = send(&way, "ada@example.test").await;
        assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
        // Sure that the server has closed before the next is sent.
        server.wait_until(|server| server.counters().open == 0).await;
        assert_eq!((server.accepted().len(), server.counters().opened), (n, n));
    }
}

#[tokio::test]
async fn a_connection_that_the_server_gives_up_at_the_next_mail_costs_nothing() {
    for fault in
        [Fault::reply(421, "4.4.2 idle for too long"), Fault::hang_up(), Fault::reset(), Fault::garbage()]
    {
        let server = SmtpServer::start(Script::new().at(Stage::Mail, fault).on_mail(2)).await.unwrap();
        let way = patient(&server.relay());
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        let second = send(&way, "ada@example.test").await;
        assert!(matches!(second, Outcome::Sent(_)), "{second:?}");
        assert_eq!((server.accepted().len(), server.counters().opened), (2, 2));
    }
}

#[tokio::test]
async fn a_connection_that_idled_is_asked_before_it_is_trusted() {
    let faults = [None, Some(Fault::stall()), Some(Fault::hang_up()), Some(Fault::reply(421, "4.4.2 idle"))];
    let cases = faults.map(|fault| async move {
        let quick = facteur::transport::smtp::Deadlines {
            noop: Duration::from_millis(200),
            doubted: Duration::from_millis(50),
            ..transport::deadlines(Duration::from_secs(10))
        };
        let answers = fault.is_none();
        let script = fault.map_or_else(Script::new, |fault| Script::new().at(Stage::Noop, fault));
        let server = SmtpServer::start(script).await.unwrap();
        let roots = rustls::RootCertStore::empty();
        let way = facteur::transport::smtp::SmtpTransport::with_roots(&server.relay(), roots, quick).unwrap();
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        assert!(start.elapsed() < Duration::from_millis(1_200));
        assert!(server.conversations()[0].heard("NOOP\r\n"));
        assert_eq!(server.counters().opened, if answers { 1 } else { 2 });
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_server_that_allows_fewer_connections_than_configured_costs_no_attempt() {
    let script = Script::new().most_connections(2).at(Stage::Rcpt, Fault::delay(Duration::from_millis(2)));
    let server = SmtpServer::start(script).await.unwrap();
    let way = patient(&Relay { max_connections: 8, ..server.relay() });
    let outcomes = join_all((0..50).map(|_| send(&way, "ada@example.test"))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Sent(_))), "{outcomes:?}");
    let counters = server.counters();
    // Each slot learns it once.
    assert!((1..=6).contains(&counters.turned_away), "{counters:?}");
    assert_eq!((server.accepted().len(), counters.most_open), (50, 2));
}

#[tokio::test]
async fn a_server_that_allows_no_connection_at_all_is_tried_again_later() {
    let server = SmtpServer::start(Script::new().most_connections(0)).await.unwrap();
    let way = patient(&Relay { max_connections: 4, ..server.relay() });
    let sending = join_all((0..20).map(|_| send(&way, "ada@example.test")));
    let outcomes = tokio::time::timeout(Duration::from_secs(10), sending).await.expect("none waits for ever");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Retry(..))), "{outcomes:?}");
}

#[tokio::test]
async fn an_idle_connection_holds_its_place_until_it_has_said_goodbye() {
    let goodbye = Fault::delay(Duration::from_millis(200));
    let server = SmtpServer::start(Script::new().at(Stage::Quit, goodbye)).await.unwrap();
    let relay = Relay { max_connections: 1, idle_timeout: Duration::ZERO, ..server.relay() };
    let way = facteur::transport::smtp::SmtpTransport::new(&relay).unwrap();
    assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
    let ((), next) = tokio::join!(way.close_idle(), send(&way, "ada@example.test"));
    assert!(matches!(next, Outcome::Sent(_)));
    assert!(server.conversations()[0].heard("QUIT\r\n"));
    let counters = server.counters();
    assert_eq!((counters.opened, counters.most_open), (2, 1), "{counters:?}");
}

/// Says no where it is told to, and closes when it is told to.
#[derive(Default)]
struct Barrier {
    no_data: bool,
    no_dot: bool,
    closed: CancellationToken,
    asked_for_dot: AtomicBool,
}

impl Gate for Barrier {
    async fn before_data(&self) -> bool {
        !self.no_data
    }

    fn before_dot(&self) -> bool {
        self.asked_for_dot.store(true, Ordering::SeqCst);
        !self.no_dot
    }

    async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

fn parcel() -> Parcel<'static> {
    Parcel { from: FROM, to: "ada@example.test", message: MESSAGE, email: &transport::EMAIL }
}

#[tokio::test]
async fn a_gate_that_says_no_lets_no_mail_out() {
    for (no_data, no_dot) in [(true, false), (false, true)] {
        let server = SmtpServer::start(Script::new()).await.unwrap();
        let way = patient(&server.relay());
        let gate = Barrier { no_data, no_dot, ..Barrier::default() };
        assert_eq!(way.send(parcel(), &gate).await, Outcome::Interrupted);
        // The server has seen the end of it: nothing came after.
        server.wait_until(|server| server.counters().open == 0).await;
        assert_eq!(server.accepted(), []);
        assert_eq!(server.conversations()[0].heard("DATA\r\n"), no_dot);
        assert!(!server.conversations()[0].heard("Good day"));
        // Whoever may send next does so on a connection without a past.
        assert!(matches!(send(&way, "ada@example.test").await, Outcome::Sent(_)));
        assert_eq!(server.counters().opened, 2);
    }
}

#[tokio::test]
async fn a_gate_that_closes_ends_a_stall_at_once() {
    let before_the_dot = [Stage::Banner, Stage::Ehlo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data];
    for stage in before_the_dot {
        let script = Script::new().login("ada", "s3cret").at(stage, Fault::stall());
        let server = SmtpServer::start(script).await.unwrap();
        let way = Arc::new(patient(&server.relay()));
        let gate = Arc::new(Barrier::default());
        let sending = tokio::spawn({
            let (way, gate) = (Arc::clone(&way), Arc::clone(&gate));
            async move { way.send(parcel(), &*gate).await }
        });
        let word = format!("{stage:?}").to_uppercase();
        let stalled = |server: &SmtpServer| {
            let begun = server.conversations();
            begun.first().is_some_and(|one| stage == Stage::Banner || one.heard(&word))
        };
        server.wait_until(stalled).await;
        let start = Instant::now();
        gate.closed.cancel();
        assert_eq!(sending.await.unwrap(), Outcome::Interrupted, "{stage:?}");
        assert!(start.elapsed() < Duration::from_millis(500), "{stage:?}");
        server.wait_until(|server| server.counters().open == 0).await;
    }
}

#[tokio::test]
async fn a_gate_that_closes_after_the_dot_does_not_hide_the_answer() {
    let script = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(100)));
    let server = SmtpServer::start(script).await.unwrap();
    let way = patient(&server.relay());
    let gate = Barrier::default();
    let closing = async {
        server.wait_for(1).await;
        gate.closed.cancel();
    };
    let (outcome, ()) = tokio::join!(way.send(parcel(), &gate), closing);
    assert!(matches!(outcome, Outcome::Sent(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_mail_that_waits_for_a_connection_can_be_given_up() {
    let server = SmtpServer::start(Script::new().at(Stage::Rcpt, Fault::stall())).await.unwrap();
    let way = patient(&Relay { max_connections: 1, ..server.relay() });
    let gate = Barrier::default();
    let waiting = async {
        server.wait_until(|server| server.counters().mails == 1).await;
        let second = Barrier::default();
        second.closed.cancel();
        let outcome = way.send(parcel(), &second).await;
        gate.closed.cancel();
        outcome
    };
    let (first, second) = tokio::join!(way.send(parcel(), &gate), waiting);
    assert_eq!((first, second), (Outcome::Interrupted, Outcome::Interrupted));
}
