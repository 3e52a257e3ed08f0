//! Every fault at every stage of SMTP.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::settings::Relay;
use facteur::testing::{Counters, Fault, Identity, Script, SmtpServer, Stage, TestAuthority};
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use facteur::transport::{Outcome, Parcel};
use rustls::RootCertStore;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::case::{Figures, Scale};
use crate::process::open_files;
use crate::transport::{FROM, MESSAGE, OpenGate, deadlines, send};

const FAULTS: [&str; 8] = ["stall", "hang up", "reset", "421", "450", "550", "garbage", "drip"];

/// What must become of the mail that meets the fault: retry and unusable go back to the queue, reject
/// ends it, of unknown nobody can know. `-`: there is nothing that could fail so.
#[rustfmt::skip]
const EXPECTED: [(Stage, [&str; 8]); 14] = [
    //                     stall      hang up    reset      421      450      550         garbage    drip
    (Stage::Connect,      ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "-"]),
    (Stage::Banner,       ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "retry"]),
    (Stage::Ehlo,         ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "retry"]),
    (Stage::StartTls,     ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "retry"]),
    (Stage::Tls,          ["retry",   "retry",   "retry",   "retry", "retry", "retry",    "retry",   "-"]),
    (Stage::EhloAfterTls, ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "retry"]),
    (Stage::Auth,         ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "retry"]),
    (Stage::Mail,         ["retry",   "retry",   "retry",   "retry", "retry", "unusable", "retry",   "retry"]),
    (Stage::Rcpt,         ["retry",   "retry",   "retry",   "retry", "retry", "reject",   "retry",   "retry"]),
    (Stage::Data,         ["retry",   "retry",   "retry",   "retry", "retry", "reject",   "retry",   "retry"]),
    (Stage::Body,         ["retry",   "retry",   "retry",   "retry", "retry", "retry",    "retry",   "retry"]),
    (Stage::EndOfData,    ["unknown", "unknown", "unknown", "retry", "retry", "reject",   "unknown", "unknown"]),
    (Stage::Noop,         ["sent",    "sent",    "sent",    "sent",  "sent",  "sent",     "sent",    "sent"]),
    (Stage::Quit,         ["sent",    "sent",    "sent",    "sent",  "sent",  "sent",     "sent",    "sent"]),
];

/// Of the stage that fails; all others have ten seconds.
const DEADLINE: Duration = Duration::from_millis(500);
/// A connection says goodbye behind its hundredth mail.
const BEFORE_GOODBYE: usize = 100;

/// So many cells at once: more would measure this machine.
const TURNS: u32 = 8;

/// More than the system takes in on its own.
fn large() -> Vec<u8> {
    [MESSAGE, "A line that is one of many.\r\n".repeat(220_000).as_bytes()].concat()
}

/// One fault at one stage, and what came of it.
struct Cell {
    row: usize,
    column: usize,
    outcome: &'static str,
    took: Duration,
    /// The next mail, a good one.
    next: &'static str,
    /// Connections that both mails took.
    opened: usize,
    /// How often the server did what it should not.
    struck: usize,
    /// Connections that the server still has when the transport is gone.
    left: usize,
}

pub(crate) async fn r06(scale: Scale) -> Figures {
    let authority = TestAuthority::new().unwrap();
    let tls = Tls { identity: authority.issue("127.0.0.1").unwrap(), roots: authority.roots().unwrap() };
    let before = open_files();
    let mut cells = Vec::new();
    for _ in 0..scale.pick(1, 5) {
        cells.extend(all_cells(&tls).await);
    }
    let mut figures = Figures::new();
    judge(&cells, &mut figures);
    let (refused, unanswered) = (nobody_listens().await, nobody_answers().await);
    figures
        .show("refused_s", format!("{:.1}", refused.as_secs_f64()))
        .show("unanswered_s", format!("{:.1}", unanswered.as_secs_f64()))
        .must(unanswered >= DEADLINE, "the connection that nobody answers takes until the deadline")
        .must(refused.max(unanswered) <= DEADLINE + Duration::from_secs(1), "and not longer");
    figures.show("fds_before", before).at_most("fds_after", files_left(before).await, before);
    figures.detail = Some(table(&cells));
    figures
}

/// How long a mail takes to find that there is no server.
async fn nobody_listens() -> Duration {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    no_way_to(free).await
}

/// The same where the first packet is not even refused: the system answers nobody more than wait already.
async fn nobody_answers() -> Duration {
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
    let relay = Relay { host, port, tls, credentials: None, hello_name: None, max_connections: 1 };
    let all = Deadlines { connect: DEADLINE, ..deadlines(Duration::from_secs(10)) };
    let way = SmtpTransport::with_roots(&relay, RootCertStore::empty(), all).unwrap();
    let begun = Instant::now();
    assert_eq!(name(&send(&way, "ada@example.test").await), "retry");
    begun.elapsed()
}

/// Sockets are closed by tasks that may still have to run.
async fn files_left(expected: usize) -> usize {
    let end = Instant::now() + Duration::from_secs(5);
    while open_files() > expected && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    open_files()
}

#[derive(Clone)]
struct Tls {
    identity: Identity,
    roots: RootCertStore,
}

async fn all_cells(tls: &Tls) -> Vec<Cell> {
    let turns = Arc::new(Semaphore::new(TURNS as usize));
    let mut running = JoinSet::new();
    for (row, (_, expected)) in EXPECTED.iter().enumerate() {
        for column in (0..FAULTS.len()).filter(|column| expected[*column] != "-") {
            running.spawn(cell(row, column, tls.clone(), Arc::clone(&turns)));
        }
    }
    running.join_all().await
}

async fn cell(row: usize, column: usize, tls: Tls, turns: Arc<Semaphore>) -> Cell {
    let stage = EXPECTED[row].0;
    // A large mail keeps a core busy for as long as a deadline lasts.
    let message = if stage == Stage::Body { large() } else { MESSAGE.to_vec() };
    let turn = turns.acquire_many(if stage == Stage::Body { TURNS } else { 1 }).await.unwrap();
    let server = SmtpServer::start(script(stage, FAULTS[column], &tls)).await.unwrap();
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
    let sending = way.send(Parcel { from: FROM, to: "ada@example.test", message: &message }, &OpenGate);
    let outcome = timeout(Duration::from_secs(20), sending).await.as_ref().map_or("never", name);
    let took = begun.elapsed();
    let next = timeout(Duration::from_secs(5), send(&way, "bob@example.test")).await;
    let next = next.as_ref().map_or("never", name);
    drop((way, turn));
    let end = Instant::now() + Duration::from_secs(3);
    while left(&server, stage) > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Counters { opened, faults: struck, .. } = server.counters();
    Cell { row, column, outcome, took, next, opened, struck, left: left(&server, stage) }
}

/// A server that does not read cannot see that its client has gone: the file count tells of that one.
fn left(server: &SmtpServer, stage: Stage) -> usize {
    let blind = server.conversations().iter().filter(|one| stage == Stage::Body && !one.over).take(1).count();
    server.counters().open - blind
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

impl Cell {
    /// A refusal in order keeps its connection; everything else needs a second one.
    fn connections(&self) -> usize {
        let in_order = matches!(FAULTS[self.column], "450" | "550");
        let at = matches!(EXPECTED[self.row].0, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::EndOfData);
        if in_order && at { 1 } else { 2 }
    }

    fn label(&self) -> String {
        let Self { outcome, took, next, opened, .. } = self;
        let (stage, fault) = (EXPECTED[self.row].0, FAULTS[self.column]);
        format!("{fault} at {stage:?}: {outcome} after {took:.1?}, next {next}, {opened} connections")
    }
}

fn judge(cells: &[Cell], figures: &mut Figures) {
    let count = |wrong: &dyn Fn(&Cell) -> bool| cells.iter().filter(|cell| wrong(cell)).count();
    let late = DEADLINE + Duration::from_secs(1);
    let unexpected = |cell: &Cell| cell.outcome != EXPECTED[cell.row].1[cell.column];
    figures
        .show("cells", cells.len())
        .exactly("struck", count(&|cell| cell.struck == 1), cells.len())
        .exactly("unexpected", count(&unexpected), 0)
        .exactly("late", count(&|cell| cell.took > late), 0)
        .exactly("slots_leaked", count(&|cell| cell.next == "never"), 0)
        .exactly("next_unsent", count(&|cell| cell.next != "sent"), 0)
        .exactly("reused", count(&|cell| cell.opened < cell.connections()), 0)
        .exactly("closed_without_need", count(&|cell| cell.opened > cell.connections()), 0)
        .exactly("connections_left", cells.iter().map(|cell| cell.left).sum(), 0);
    for cell in cells {
        let right = !unexpected(cell) && cell.took <= late && cell.next == "sent";
        figures.must(right && cell.opened == cell.connections() && cell.left == 0, cell.label());
    }
}

/// Each cell: the outcome, and the seconds until it was known.
fn table(cells: &[Cell]) -> String {
    let mut text = format!("    {:14}", "");
    FAULTS.iter().for_each(|fault| write!(text, "{fault:14}").unwrap());
    for (row, (stage, _)) in EXPECTED.iter().enumerate() {
        write!(text, "\n    {:14}", format!("{stage:?}")).unwrap();
        for column in 0..FAULTS.len() {
            let here = cells.iter().filter(|cell| (cell.row, cell.column) == (row, column));
            let slowest = here.max_by_key(|cell| cell.took);
            let entry = slowest.map(|cell| format!("{} {:.1}", cell.outcome, cell.took.as_secs_f64()));
            write!(text, "{:14}", entry.unwrap_or_else(|| "-".to_owned())).unwrap();
        }
    }
    text
}
