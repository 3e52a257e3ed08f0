//! Every fault at every stage of SMTP.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::testing::{Stage, TestAuthority};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::case::{Figures, Scale};
use crate::process::open_files;
use crate::smtp_cell::{Cell, DEADLINE, Tls, cell, nobody_answers, nobody_listens, slow_handshake};

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

/// So many cells at once: more would measure this machine.
const TURNS: u32 = 8;

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
    for (figure, took, least) in [
        ("refused_s", nobody_listens().await, Duration::ZERO),
        ("unanswered_s", nobody_answers().await, DEADLINE),
        ("slow_tls_s", slow_handshake(tls).await, DEADLINE),
    ] {
        let in_time = (least..=DEADLINE + Duration::from_secs(1)).contains(&took);
        figures
            .show(figure, format!("{:.1}", took.as_secs_f64()))
            .must(in_time, format!("{figure}: {took:?}"));
    }
    figures.show("fds_before", before).at_most("fds_after", files_left(before).await, before);
    figures.detail = Some(table(&cells));
    figures
}

/// Sockets are closed by tasks that may still have to run.
async fn files_left(expected: usize) -> usize {
    let end = Instant::now() + Duration::from_secs(5);
    while open_files() > expected && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    open_files()
}

async fn all_cells(tls: &Tls) -> Vec<Cell> {
    let turns = Arc::new(Semaphore::new(TURNS as usize));
    let mut running = JoinSet::new();
    for (stage, expected) in EXPECTED {
        for (fault, _) in FAULTS.into_iter().zip(expected).filter(|(_, outcome)| *outcome != "-") {
            let (tls, turns) = (tls.clone(), Arc::clone(&turns));
            // A large mail keeps a core busy for as long as a deadline lasts.
            let weight = if stage == Stage::Body { TURNS } else { 1 };
            running.spawn(async move {
                let _turn = turns.acquire_many(weight).await.unwrap();
                cell(stage, fault, tls).await
            });
        }
    }
    running.join_all().await
}

fn expected(cell: &Cell) -> &'static str {
    let (_, row) = EXPECTED.iter().find(|(stage, _)| *stage == cell.stage).unwrap();
    row[FAULTS.iter().position(|fault| *fault == cell.fault).unwrap()]
}

/// A refusal in order keeps its connection; everything else needs a second one.
fn connections(cell: &Cell) -> usize {
    let in_order = matches!(cell.fault, "450" | "550");
    let at = matches!(cell.stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::EndOfData);
    if in_order && at { 1 } else { 2 }
}

fn label(cell: &Cell) -> String {
    let Cell { stage, fault, outcome, took, next, opened, .. } = cell;
    format!("{fault} at {stage:?}: {outcome} after {took:.1?}, next {next}, {opened} connections")
}

fn judge(cells: &[Cell], figures: &mut Figures) {
    let count = |wrong: &dyn Fn(&Cell) -> bool| cells.iter().filter(|cell| wrong(cell)).count();
    let late = DEADLINE + Duration::from_secs(1);
    let unexpected = |cell: &Cell| cell.outcome != expected(cell);
    figures
        .show("cells", cells.len())
        .exactly("struck", count(&|cell| cell.struck == 1), cells.len())
        .exactly("unexpected", count(&unexpected), 0)
        .exactly("late", count(&|cell| cell.took > late), 0)
        .exactly("slots_leaked", count(&|cell| cell.next == "never"), 0)
        .exactly("next_unsent", count(&|cell| cell.next != "sent"), 0)
        .exactly("reused", count(&|cell| cell.opened < connections(cell)), 0)
        .exactly("closed_without_need", count(&|cell| cell.opened > connections(cell)), 0)
        .exactly("connections_left", cells.iter().map(|cell| cell.left).sum(), 0);
    for cell in cells {
        let right = !unexpected(cell) && cell.took <= late && cell.next == "sent";
        figures.must(right && cell.opened == connections(cell) && cell.left == 0, label(cell));
    }
}

/// Each cell: the outcome, and the seconds until it was known.
fn table(cells: &[Cell]) -> String {
    let mut text = format!("    {:14}", "");
    FAULTS.iter().for_each(|fault| write!(text, "{fault:14}").unwrap());
    for (stage, _) in EXPECTED {
        write!(text, "\n    {:14}", format!("{stage:?}")).unwrap();
        for fault in FAULTS {
            let here = cells.iter().filter(|cell| (cell.stage, cell.fault) == (stage, fault));
            let slowest = here.max_by_key(|cell| cell.took);
            let entry = slowest.map(|cell| format!("{} {:.1}", cell.outcome, cell.took.as_secs_f64()));
            write!(text, "{:14}", entry.unwrap_or_else(|| "-".to_owned())).unwrap();
        }
    }
    text
}
