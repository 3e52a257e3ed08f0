//! What a mail costs: accepting and delivering, beside what the same Postgres does for pgbench in the same minute.
//!
//! ```sh
//! createdb cost_of_mail
//! DATABASE_URL=postgres://postgres@localhost/cost_of_mail cargo run --release --example cost
//! ```
//!
//! The database must be empty. docs/scaling.md says what the numbers mean: read the ratios, not the rates.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::delivery::Worker;
use facteur::settings::{Database, ExposeSecret, Settings, Variables};
use facteur::testing::{Script, SmtpServer};
use facteur::transport::{Transport, smtp::SmtpTransport};
use facteur::{Email, Outbox};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

type Anything = Box<dyn Error + Send + Sync>;

const CLIENTS: u32 = 16;
const SECONDS: u64 = 10;
/// One commit of one row of 2 KB: the least that keeping a mail can cost.
const PGBENCH: &str = "INSERT INTO cost_of_a_row (body) VALUES (repeat('x', 2000));\n";

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let database = Database::from_variables(&Variables::from_process())?;
    let url = database.url.expose_secret();
    let pool = PgPoolOptions::new().max_connections(CLIENTS).connect(url).await?;
    facteur::migrate(&pool).await?;
    let mails: i64 = sqlx::query_scalar("SELECT count(*) FROM facteur.emails").fetch_one(&pool).await?;
    if mails > 0 {
        return Err("there are e-mails in this database: give it one of its own".into());
    }

    let before = pgbench(&pool, url).await?;
    let (accepted, accepting) = accept(&pool).await?;
    let bytes: i64 = sqlx::query_scalar(
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
        WHERE c.relnamespace = 'facteur'::regnamespace AND c.relkind = 'r'",
    )
    .fetch_one(&pool)
    .await?;
    let cpu = cpu_seconds();
    let delivering = deliver(&pool, accepted).await?;
    let cpu = cpu_seconds().zip(cpu).map(|(after, before)| (after - before) * 1_000.0 / accepted as f64);
    let after = pgbench(&pool, url).await?;

    let row = (before + after) / 2.0;
    say(format!(
        "pgbench, one row of 2 KB a commit, {CLIENTS} clients: {before:.0} before, {after:.0} after"
    ));
    say(format!(
        "accept, one e-mail of 2 KB a commit, {CLIENTS} clients: {accepting:.0} a second = {:.2} of pgbench",
        accepting / row
    ));
    say(format!(
        "deliver, one worker, a sink in this process: {delivering:.0} a second = {:.2} of pgbench",
        delivering / row
    ));
    say(format!("kept: {} bytes an e-mail", bytes / i64::try_from(accepted)?));
    if let Some(cpu) = cpu {
        say(format!("this process, worker and sink: {cpu:.2} s of CPU for 1,000 delivered"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer of this program")]
fn say(line: String) {
    println!("{line}");
}

/// Rows a second.
async fn pgbench(pool: &PgPool, url: &str) -> Result<f64, Anything> {
    sqlx::raw_sql("DROP TABLE IF EXISTS cost_of_a_row; CREATE TABLE cost_of_a_row (body text)")
        .execute(pool)
        .await?;
    let script = std::env::temp_dir().join(format!("facteur-cost-{}.sql", std::process::id()));
    std::fs::write(&script, PGBENCH)?;
    let (clients, seconds) = (CLIENTS.to_string(), SECONDS.to_string());
    let mut command = Command::new(pgbench_program());
    command
        .args(["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &seconds, "-f"])
        .arg(&script)
        .arg(url);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    std::fs::remove_file(&script)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| format!("pgbench: {}{}", text, String::from_utf8_lossy(&output.stderr)).into())
}

/// Debian keeps it beside the server.
fn pgbench_program() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin/pgbench")).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| "pgbench".into())
}

/// How many e-mails were accepted, and how many a second.
async fn accept(pool: &PgPool) -> Result<(usize, f64), Anything> {
    let outbox = Outbox::new(pool.clone());
    let begun = Instant::now();
    let end = begun + Duration::from_secs(SECONDS);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let outbox = outbox.clone();
        clients.spawn(async move {
            let mut accepted = 0;
            while Instant::now() < end {
                let to = format!("a{accepted}.{client}@x.test");
                let email =
                    Email::builder("shop@x.test", to.as_str(), "Your order", "x".repeat(2_000)).build()?;
                outbox.enqueue(&email).await?;
                accepted += 1;
            }
            Ok::<usize, Anything>(accepted)
        });
    }
    let mut all = 0;
    while let Some(accepted) = clients.join_next().await {
        all += accepted??;
    }
    Ok((all, all as f64 / begun.elapsed().as_secs_f64()))
}

/// Deliveries a second.
async fn deliver(pool: &PgPool, mails: usize) -> Result<f64, Anything> {
    let sink = SmtpServer::start(Script::new()).await?;
    let variables = Variables::from_iter([
        ("APP_ENV", "development"),
        ("DATABASE_URL", "postgres://unused/unused"),
        ("WORKER_CONCURRENCY", "100"),
    ]);
    let settings = Settings::from_variables(&variables)?.worker;
    let mut relay = sink.relay();
    relay.max_connections = CLIENTS as usize;
    let transport = Transport::Smtp(SmtpTransport::new(&relay)?);
    let worker = Arc::new(Worker::new(Outbox::new(pool.clone()), transport, settings, "cost"));
    let begun = Instant::now();
    let shutdown = facteur::delivery::Shutdown::default();
    let running = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
    let left = "SELECT count(*) FROM facteur.deliveries";
    while sqlx::query_scalar::<_, i64>(left).fetch_one(pool).await? > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = begun.elapsed();
    shutdown.begin.cancel();
    running.await?;
    if sink.accepted().len() != mails {
        return Err(format!("the sink has {} of {mails}", sink.accepted().len()).into());
    }
    Ok(mails as f64 / took.as_secs_f64())
}

/// User and system time of this process so far, where the system tells.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
