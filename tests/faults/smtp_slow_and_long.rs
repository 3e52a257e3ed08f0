//! Replies that come a byte at a time, or do not end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use facteur::settings::{Relay, Tls};
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use facteur::transport::Outcome;
use facteur::transport::smtp::SmtpTransport;
use futures_util::future::join_all;
use rustls::RootCertStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::case::{Figures, Scale};
use crate::process::{forget_peak_memory, memory_kb, peak_memory_kb};
use crate::transport::{deadlines, send};

/// Of each stage.
const DEADLINE: Duration = Duration::from_millis(500);
/// Where nothing is late.
const PATIENCE: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_millis(1_500);
/// The stages of a plain session, and the code that is right at each.
const STAGES: [(Stage, u16); 6] = [
    (Stage::Banner, 220),
    (Stage::Ehlo, 250),
    (Stage::Mail, 250),
    (Stage::Rcpt, 250),
    (Stage::Data, 354),
    (Stage::EndOfData, 250),
];
/// What the sender may need on top, whatever it is told.
const GROWTH_KB: u64 = 5_000;

pub(crate) async fn r09(scale: Scale) -> Figures {
    let bytes = scale.pick(1 << 20, 50 << 20);
    // What a first send needs is not the fault's.
    one(Script::new(), PATIENCE).await;
    forget_peak_memory();
    let before = memory_kb();
    let slow =
        join_all(STAGES.map(|(stage, _)| one(dripping(stage, Duration::from_millis(200)), DEADLINE))).await;
    let split =
        join_all(STAGES.map(|(stage, _)| one(dripping(stage, Duration::from_millis(1)), PATIENCE))).await;
    let lines = join_all(STAGES.map(|(stage, code)| one(hundred_lines(stage, code), PATIENCE))).await;
    let mut long = Vec::new();
    for stage in 0..STAGES.len() {
        long.push(one_line(stage, bytes).await);
    }
    let growth = peak_memory_kb().saturating_sub(before);
    let mut figures = Figures::new();
    figures
        .exactly("slow_undecided", undecided(&slow), STAGES.len())
        .exactly("slow_late", late(&slow), 0)
        .exactly("split_sent", sent(&split), STAGES.len())
        .exactly("hundred_lines_sent", sent(&lines), STAGES.len())
        .show("line_bytes", bytes)
        .exactly("long_undecided", undecided(&long), STAGES.len())
        .exactly("long_late", late(&long), 0)
        .must(before > 0, "this system tells how much memory a process has")
        .at_most("rss_growth_kb", growth, GROWTH_KB);
    figures
}

/// What came of one mail, and after how long.
type Tried = (Outcome, Duration);

/// Neither sent nor refused: before the last byte it is tried again, after it nobody knows.
fn undecided(tried: &[Tried]) -> usize {
    let right = |(n, (outcome, _)): &(usize, &Tried)| match outcome {
        Outcome::Unknown(_) => STAGES[*n].0 == Stage::EndOfData,
        Outcome::Retry(..) => STAGES[*n].0 != Stage::EndOfData,
        _ => false,
    };
    tried.iter().enumerate().filter(right).count()
}

fn sent(tried: &[Tried]) -> usize {
    tried.iter().filter(|(outcome, _)| matches!(outcome, Outcome::Sent(_))).count()
}

fn late(tried: &[Tried]) -> usize {
    tried.iter().filter(|(_, took)| *took > LATE).count()
}

fn dripping(stage: Stage, every: Duration) -> Script {
    Script::new().at(stage, Fault::drip(every))
}

fn hundred_lines(stage: Stage, code: u16) -> Script {
    Script::new().at(stage, Fault::reply(code, &["line"; 100].join("\n")))
}

async fn one(script: Script, deadline: Duration) -> Tried {
    let server = SmtpServer::start(script).await.unwrap();
    tried(&server.relay(), deadline).await
}

async fn tried(relay: &Relay, deadline: Duration) -> Tried {
    let way = SmtpTransport::with_roots(relay, RootCertStore::empty(), deadlines(deadline)).unwrap();
    let begun = Instant::now();
    let outcome = send(&way, "ada@example.test").await;
    (outcome, begun.elapsed())
}

/// One reply line of so many bytes, from a server that does not keep what it says. No deadline ends it.
async fn one_line(stage: usize, bytes: usize) -> Tried {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // That the client hangs up before the end is what should happen.
        let _ = talk(stream, stage, bytes).await;
    });
    let result = tried(&relay_at(addr), PATIENCE).await;
    server.await.unwrap();
    result
}

fn relay_at(addr: SocketAddr) -> Relay {
    let (host, port) = (addr.ip().to_string(), addr.port());
    Relay { host, port, tls: Tls::None, credentials: None, hello_name: None, max_connections: 1 }
}

async fn talk(mut stream: TcpStream, last: usize, bytes: usize) -> std::io::Result<()> {
    const PIECE: [u8; 16_384] = [b'x'; 16_384];
    for (_, code) in &STAGES[..last] {
        stream.write_all(format!("{code} go on\r\n").as_bytes()).await?;
        hear(&mut stream, if *code == 354 { b"\r\n.\r\n" } else { b"\r\n" }).await?;
    }
    stream.write_all(format!("{} ", STAGES[last].1).as_bytes()).await?;
    for _ in 0..bytes / PIECE.len() {
        stream.write_all(&PIECE).await?;
    }
    stream.write_all(b"\r\n").await
}

async fn hear(stream: &mut TcpStream, end: &[u8]) -> std::io::Result<()> {
    let mut heard = Vec::new();
    while !heard.ends_with(end) {
        heard.push(stream.read_u8().await?);
    }
    Ok(())
}
