//! Sends that are dropped half-way: what the next mail on the same transport hears.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use facteur::settings::Relay;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::smtp::SmtpTransport;
use facteur::transport::{Outcome, Parcel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::case::{Figures, Scale};
use crate::transport::{FROM, MESSAGE, OpenGate, patient, send};

/// Transports that are at it at the same time.
const LANES: usize = 10;
const CANCELLED: &str = "ada@example.test";
const REFUSED: &str = "nobody@example.test";

#[derive(Debug, Default)]
struct Count {
    cancels: usize,
    /// Dropped before the end, with a connection in hand on which the mail had begun.
    mid_conversation: usize,
    false_sent: usize,
    refused: usize,
    reused: usize,
}

pub(crate) async fn r07(scale: Scale) -> Figures {
    let cancels = scale.pick(200, 1_000);
    let mut lanes = JoinSet::new();
    (0..LANES).for_each(|lane| drop(lanes.spawn(one_lane(lane, cancels / LANES))));
    let mut all = Count::default();
    for one in lanes.join_all().await {
        all.cancels += one.cancels;
        all.mid_conversation += one.mid_conversation;
        all.false_sent += one.false_sent;
        all.refused += one.refused;
        all.reused += one.reused;
    }
    let mut figures = Figures::new();
    figures
        .show("cancels", all.cancels)
        .at_least("mid_conversation", all.mid_conversation, cancels / 2)
        .exactly("false_sent", all.false_sent, 0)
        .exactly("refused", all.refused, all.cancels)
        .exactly("reused", all.reused, 0);
    figures
}

async fn one_lane(lane: usize, cancels: usize) -> Count {
    let late = || Fault::delay(Duration::from_millis(2));
    let script = [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::EndOfData].into_iter().fold(
        Script::new().at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user")).for_recipient(REFUSED),
        |script, stage| script.at(stage, late()),
    );
    let server = SmtpServer::start(script).await.unwrap();
    let way = patient(&Relay { max_connections: 1, ..server.relay() });
    let mut random = 0x9E37_79B9 + lane as u64;
    let mut count = Count::default();
    for n in 0..cancels {
        // Half of them at a moment, half at a step, so that none of the steps is missed.
        let when =
            if n % 2 == 0 { When::After(below(10_000, &mut random)) } else { When::AtStep(1 + n / 2 % 12) };
        once(&server, &way, when, &mut count).await;
    }
    count
}

/// A connection in the pool, a send on it that is dropped, and the mail behind it.
async fn once(server: &SmtpServer, way: &SmtpTransport, when: When, count: &mut Count) {
    assert!(matches!(send(way, CANCELLED).await, Outcome::Sent(_)));
    let before = server.counters();
    let dropped = cancelled(way, when).await;
    let next = send(way, REFUSED).await;
    let after = server.counters();
    count.cancels += 1;
    count.false_sent += usize::from(matches!(next, Outcome::Sent(_)));
    count.refused += usize::from(matches!(&next, Outcome::Reject(report) if report.code == Some(550)));
    // Its own MAIL and that of the mail behind it.
    count.mid_conversation += usize::from(dropped && after.mails == before.mails + 2);
    count.reused += usize::from(dropped && after.opened == before.opened);
}

#[derive(Debug, Clone, Copy)]
enum When {
    /// Microseconds.
    After(u64),
    /// When it waits for the n-th time.
    AtStep(usize),
}

/// True: it was dropped before its end.
async fn cancelled(way: &SmtpTransport, when: When) -> bool {
    let mut sending = pin!(way.send(
        Parcel { from: FROM, to: CANCELLED, message: MESSAGE, email: &crate::transport::EMAIL },
        &OpenGate
    ));
    match when {
        When::After(micros) => timeout(Duration::from_micros(micros), sending).await.is_err(),
        When::AtStep(last) => {
            let mut step = 0;
            poll_fn(|cx| {
                step += 1;
                match sending.as_mut().poll(cx) {
                    Poll::Ready(_) => Poll::Ready(false),
                    Poll::Pending if step == last => Poll::Ready(true),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        }
    }
}

/// Marsaglia's xorshift: the same each time, and spread well enough.
fn below(limit: u64, state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % limit
}
