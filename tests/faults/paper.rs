//! The table in `docs/reliability.md`: one row a case, each with its date and its command.

use std::path::Path;

use crate::case::{Ended, Scale};

/// Replaces the rows of the cases that have run; the others keep theirs.
pub(crate) fn write(results: &[Ended], scale: Scale) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for ended in results {
        let row = row(ended, scale);
        let start = format!("| {} |", ended.case.id);
        let old = text.lines().find(|line| line.starts_with(&start)).map(str::to_owned);
        match old {
            Some(old) => text = text.replace(&old, &row),
            None => {
                println!("faults: docs/reliability.md has no row for {}; it would be:\n{row}", ended.case.id)
            }
        }
    }
    std::fs::write(&path, text).unwrap();
}

fn row(ended: &Ended, scale: Scale) -> String {
    let command = match scale {
        Scale::Short => format!("`./test faults {}`", ended.case.id),
        Scale::Full => format!("`./test faults --full {}`", ended.case.id),
    };
    let verdict = if ended.holds() { "holds" } else { "**broken**" };
    let today = time::OffsetDateTime::now_utc().date();
    format!(
        "| {} | {} | {verdict} | {} | {:.0} s | {today} | {command} | {} |",
        ended.case.id,
        ended.case.what,
        ended.figures(),
        ended.took.as_secs_f64(),
        machine(),
    )
}

/// `2 cores, 23 GB`.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes: u64 = memory.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    format!("{cores} cores, {} GB", kilobytes / 1_048_576)
}
