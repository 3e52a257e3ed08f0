//! The fault suite: every promise, held while something breaks. One line of figures a case.
//!
//! `./test faults` runs the short form, `./test faults --full` the long one; names (`R01`) choose
//! cases; `--write` puts the figures into the table of `docs/reliability.md`.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the figures are this program's answer")]

mod account;
mod backlog;
mod bell;
mod case;
mod clients;
mod cluster;
mod crashes;
mod database;
mod disk_full;
mod first_start;
mod frozen;
mod half_open;
mod http;
mod idle;
mod keys;
mod kills;
mod paper;
mod pooler;
mod postgres_down;
mod priorities;
mod process;
mod smtp_cell;
mod smtp_closed_idle;
mod smtp_crowd;
mod smtp_desync;
mod smtp_half_open;
mod smtp_lost_reply;
mod smtp_matrix;
mod smtp_refusals;
mod smtp_slow_and_long;
mod smtp_worker;
mod stops;
#[path = "../transport/mod.rs"]
mod transport;
mod upgrade;

use std::process::ExitCode;

use case::{Case, Scale, case};

/// Every case, in the order of their numbers.
const CASES: &[Case] = &[
    case!("R01", "kill -9 of workers at work, again and again", 300 s, kills::r01),
    case!("R02", "a worker dies at each named place", 300 s, crashes::r02),
    case!("R03", "the same, with on_unknown = hold", 300 s, crashes::r03),
    case!("R04", "Postgres restarted under workers at work", 300 s, postgres_down::r04),
    case!("R05", "Postgres away while replies are awaited", 200 s, postgres_down::r05),
    case!("R06", "every fault at every stage of SMTP", 200 s, smtp_matrix::r06),
    case!("R07", "sends that are dropped half-way", 100 s, smtp_desync::r07),
    case!("R08", "the server takes the mail and its answer is lost", 60 s, smtp_lost_reply::r08),
    case!("R09", "replies a byte at a time, and without end", 60 s, smtp_slow_and_long::r09),
    case!("R10", "a path that dies without a word", 100 s, smtp_half_open::r10),
    case!("R11", "servers that close connections between two mails", 100 s, smtp_closed_idle::r11),
    case!("R12", "SIGTERM under load, then twice", 120 s, stops::r12),
    case!("R13", "SIGTERM with a server gone silent", 120 s, stops::r13),
    case!("R14", "a worker frozen past its session, before and behind the dot", 420 s, frozen::r14),
    case!("R15", "a lease shorter than the server's answer", 120 s, frozen::r15),
    case!("R16", "a silent path between a worker and Postgres", 250 s, half_open::r16),
    case!("R18", "more HTTP clients than connections", 200 s, clients::r18),
    case!("R19", "HTTP clients that hang up", 200 s, clients::r19),
    case!("R20", "PgBouncer in transaction mode", 200 s, pooler::r20),
    case!("R21", "no room left under Postgres", 200 s, disk_full::r21),
    case!("R23", "a mail that kills its worker, one that breaks its renderer", 120 s, crashes::r23),
    case!("R24", "a queue of a million", 400 s, backlog::r24),
    case!("R25", "a snapshot held open over a long queue", 500 s, backlog::r25),
    case!("R27", "a flood of urgent mail", 180 s, priorities::r27),
    case!("R30", "dead recipients, one after the other", 100 s, smtp_refusals::r30),
    case!("R31", "a provider that allows four connections", 100 s, smtp_crowd::r31),
    case!("R32", "the bell between processes, black-holed", 250 s, bell::r32),
    case!("R33", "one key, many calls, and answers that are cut off", 200 s, keys::r33),
    case!("R37", "an empty queue", 120 s, idle::r37),
    case!("R38", "old and new together, the schema changed under both", 900 s, upgrade::r38),
    case!("R39", "first starts all at once, one killed on the way", 180 s, first_start::r39),
];

struct Arguments {
    scale: Scale,
    write: bool,
    /// Whether a case that failed has a second try; both are printed.
    again: bool,
    names: Vec<String>,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut arguments = Self { scale: Scale::Short, write: false, again: false, names: Vec::new() };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--full" => arguments.scale = Scale::Full,
                "--write" => arguments.write = true,
                "--again" => arguments.again = true,
                "--list" => {
                    CASES.iter().for_each(|case| println!("{}  {}", case.id, case.what));
                    std::process::exit(0);
                }
                name if CASES.iter().any(|case| case.id.eq_ignore_ascii_case(name)) => {
                    arguments.names.push(name.to_uppercase());
                }
                other => {
                    return Err(format!("{other}: not a case (see --list), nor --full, --write, --list"));
                }
            }
        }
        Ok(arguments)
    }

    fn chosen(&self) -> impl Iterator<Item = &'static Case> {
        CASES.iter().filter(|case| self.names.is_empty() || self.names.iter().any(|name| name == case.id))
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            println!("faults: {error}");
            return ExitCode::from(2);
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let begun = std::time::Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let results: Vec<_> = arguments
        .chosen()
        .map(|case| {
            let result = runtime.block_on(case::run(case, arguments.scale));
            println!("{result}");
            if result.holds() || !arguments.again {
                return result;
            }
            println!("{} once more: a busy machine may have been in its way", case.id);
            let result = runtime.block_on(case::run(case, arguments.scale));
            println!("{result}");
            result
        })
        .collect();
    database::end_shared(&runtime);
    let failed = results.iter().filter(|result| !result.holds()).count();
    println!("faults: {} cases, {failed} failed, {} s", results.len(), begun.elapsed().as_secs());
    if arguments.write {
        paper::write(&results, arguments.scale);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
