//! What doing nothing costs.

use std::time::{Duration, Instant};

use facteur::testing::{Script, SmtpServer};

use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::process::{Process, hasty};

const PROCESSES: usize = 4;

/// Workers at the default pace, and an empty queue.
pub(crate) async fn r37(scale: Scale) -> Figures {
    let seconds = scale.pick(10, 60);
    let database = Database::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let mut environment = hasty(&database.url, &server.relay());
    environment.retain(|(name, _)| !name.starts_with("WORKER_"));
    let workers: Vec<_> = (0..PROCESSES).map(|_| Process::start(&["worker"], &environment)).collect();
    let alive = "SELECT count(*) FROM facteur.worker_sessions";
    database.until(alive, PROCESSES as i64, Duration::from_secs(30)).await.expect("they start");
    // The first house-keeping is behind them.
    tokio::time::sleep(Duration::from_secs(7)).await;

    let before = (transactions(&database).await, cpu(&workers));
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = (transactions(&database).await, cpu(&workers));
    let per_second = |spent: f64| spent / begun.elapsed().as_secs_f64() / PROCESSES as f64;
    let queries = per_second((after.0 - before.0) as f64);
    let percent = per_second(after.1 - before.1) * 100.0;
    let mut figures = Figures::new();
    figures
        .show("processes", PROCESSES)
        .show("seconds", seconds)
        .at_most("queries_a_second_each", (queries * 100.0).round() / 100.0, 2.0)
        .at_most("cpu_percent_each", (percent * 100.0).round() / 100.0, 0.5)
        .at_least("queries", after.0 - before.0, 1);
    figures
}

/// Committed since the database was made. A backend tells its own only once a second, when it works.
async fn transactions(database: &Database) -> i64 {
    tokio::time::sleep(Duration::from_secs(1)).await;
    database.number("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await
}

/// Seconds of processor time.
fn cpu(workers: &[Process]) -> f64 {
    let ticks = workers.iter().map(|worker| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.id())).unwrap();
        // Behind the name, which may hold anything: state is the third field, utime the fourteenth.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    ticks.sum::<u64>() as f64 / 100.0
}
