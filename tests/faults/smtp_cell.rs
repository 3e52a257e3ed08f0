//! One fault at one stage of SMTP: the mail that meets it, and the next one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use facteur::settings::Relay;
use facteur::testing::{Counters, Fault, Identity, Script, SmtpServer, Stage, TcpProxy};
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use facteur::transport::{Outcome, Parcel};
use rustls::RootCertStore;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::transport::{FROM, MESSAGE, OpenGate, deadlines, send};

/// Of the stage that fails; all others have ten seconds.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);
/// A connection says goodbye behind its hundredth mail.
const BEFORE_GOODBYE: usize = 100;

/// More than the system takes in on its own.
fn large() -> Vec<u8> {
    [MESSAGE, "A line that is one of many.\r\n".repeat(220_000).as_bytes()].concat()
}

/// One fault at one stage, and what came of it.
pub(crate) struct Cell {
    pub(crate) stage: Stage,
    pub(crate) fault: &'static str,
    pub(crate) outcome: &'static str,
    /// From the fault to the outcome.
    pub(crate) took: Duration,
    /// The next mail, a good one.
    pub(crate) next: &'static str,
    /// Connections that both mails took.
    pub(crate) opened: usize,
    /// How often the server did what it should not.
    pub(crate) struck: usize,
    /// Connections that the server still has when the transport is gone.
    pub(crate) left: usize,
}

/// What the server proves its name with, and who believes it.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) identity: Identity,
    pub(crate) roots: RootCertStore,
}

/// The mail that meets the fault, and a good one behind it.
pub(crate) async fn cell(stage: Stage, fault: &'static str, tls: Tls) -> Cell {
    let message = if stage == Stage::Body { large() } else { MESSAGE.to_vec() };
    let server = SmtpServer::start(script(stage, fault, &tls)).await.unwrap();
    // A slot that is not freed keeps the next mail waiting.
    let relay = Relay { max_connections: 1, ..server.relay() };
    let way = SmtpTransport::with_roots(&relay, tls.roots, deadlines_for(stage)).unwrap();
    let mails_before = match stage {
        Stage::Quit => BEFORE_GOODBYE,
        Stage::Noop => 1,
        _ => 0,
    };
    for _ in 0..mails_before {
        assert_eq!(name(&send(&way, "ada@example.test").await), "sent");
    }
    let begun = Instant::now();
    let sending = async {
        let sending = way.send(
            Parcel { from: FROM, to: "ada@example.test", message: &message, email: &crate::transport::EMAIL },
            &OpenGate,
        );
        (timeout(Duration::from_secs(20), sending).await, Instant::now())
    };
    let striking = async {
        server.wait_until(|server| server.counters().faults > 0).await;
        Instant::now()
    };
    let ((outcome, ended), struck) = tokio::join!(sending, striking);
    let outcome = outcome.as_ref().map_or("never", name);
    let took = ended.saturating_duration_since(struck.max(begun));
    let next = timeout(Duration::from_secs(5), send(&way, "bob@example.test")).await;
    let next = next.as_ref().map_or("never", name);
    drop(way);
    let end = Instant::now() + Duration::from_secs(3);
    while left(&server, stage, fault) > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Counters { opened, faults: struck, .. } = server.counters();
    Cell { stage, fault, outcome, took, next, opened, struck, left: left(&server, stage, fault) }
}

/// A server that does not read cannot see that its client has gone: the file count tells of that one.
fn left(server: &SmtpServer, stage: Stage, fault: &str) -> usize {
    let blind = stage == Stage::Body && matches!(fault, "stall" | "drip");
    server.counters().open - usize::from(blind)
}

fn script(stage: Stage, fault: &str, tls: &Tls) -> Script {
    let fault = match fault {
        "stall" => Fault::stall(),
        "hang up" => Fault::hang_up(),
        "reset" => Fault::reset(),
        "421" => Fault::reply(421, "4.3.2 shutting down"),
        "450" => Fault::reply(450, "4.2.0 not now"),
        "550" => Fault::reply(550, "5.0.0 never"),
        "garbage" => Fault::garbage(),
        _ => Fault::drip(Duration::from_millis(200)),
    };
    let script = match stage {
        Stage::Quit => Script::new(),
        Stage::Body => Script::new().receive_buffer(65_536),
        _ => Script::new().starttls(tls.identity.clone()).login("ada", "s3cret"),
    };
    script.at(stage, fault).times(1)
}

fn deadlines_for(stage: Stage) -> Deadlines {
    let mut all = deadlines(Duration::from_secs(10));
    if stage == Stage::Noop {
        // Any idleness is enough to be asked.
        all.doubted = Duration::ZERO;
    }
    let one = match stage {
        Stage::Connect | Stage::Banner => &mut all.banner,
        Stage::Ehlo | Stage::StartTls | Stage::EhloAfterTls => &mut all.ehlo,
        Stage::Tls => &mut all.tls,
        Stage::Auth => &mut all.auth,
        Stage::Body => &mut all.body,
        Stage::EndOfData => &mut all.end_of_data,
        Stage::Noop => &mut all.noop,
        Stage::Quit => &mut all.quit,
        Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Rset => &mut all.command,
    };
    *one = DEADLINE;
    all
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent(_) => "sent",
        Outcome::Retry(..) => "retry",
        Outcome::Reject(_) => "reject",
        Outcome::Unusable(_) => "unusable",
        Outcome::Unknown(_) => "unknown",
        Outcome::Interrupted => "interrupted",
    }
}

/// How long a mail takes to find that there is no server.
pub(crate) async fn nobody_listens() -> Duration {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    no_way_to(free).await
}

/// The same where the first packet is not even refused: the system answers nobody more than wait already.
pub(crate) async fn nobody_answers() -> Duration {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let full = socket.listen(1).unwrap();
    let addr = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(one) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
        waiting.push(one.unwrap());
        assert!(waiting.len() < 100, "this system takes everybody");
    }
    no_way_to(addr).await
}

async fn no_way_to(addr: SocketAddr) -> Duration {
    let (host, port, tls) = (addr.ip().to_string(), addr.port(), facteur::settings::Tls::None);
    let relay = Relay { tls, max_connections: 1, ..Relay::new(host, port) };
    let short = Deadlines { connect: DEADLINE, ..deadlines(Duration::from_secs(10)) };
    given_up(&relay, RootCertStore::empty(), short).await
}

/// The same where the handshake comes a few bytes at a time.
pub(crate) async fn slow_handshake(tls: Tls) -> Duration {
    let server = SmtpServer::start(Script::new().implicit_tls(tls.identity)).await.unwrap();
    let proxy = TcpProxy::start(server.addr()).await.unwrap();
    proxy.slow(100);
    let relay = Relay { port: proxy.addr().port(), ..server.relay() };
    let short = Deadlines { tls: DEADLINE, ..deadlines(Duration::from_secs(10)) };
    given_up(&relay, tls.roots, short).await
}

async fn given_up(relay: &Relay, roots: RootCertStore, short: Deadlines) -> Duration {
    let way = SmtpTransport::with_roots(relay, roots, short).unwrap();
    let begun = Instant::now();
    assert_eq!(name(&send(&way, "ada@example.test").await), "retry");
    begun.elapsed()
}
