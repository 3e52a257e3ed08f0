//! PgBouncer in transaction mode between everything and Postgres.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use facteur::Outbox;
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use futures_util::StreamExt;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::database::{Database, email_to};
use crate::http::{post, serve};
use crate::keys::address_of;
use crate::process::{Process, hasty};

/// Two connections to Postgres for everybody, each lent for one transaction.
struct PgBouncer {
    child: Child,
    config: PathBuf,
    url: String,
}

impl PgBouncer {
    /// None when it is not on this machine.
    async fn before(database: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = program.into_iter().find(|path| std::path::Path::new(path).exists())?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = address_of(database);
        let password = database.split(['/', ':', '@']).nth(4).unwrap();
        let config = std::env::temp_dir().join(format!("facteur-pgbouncer-{}.ini", uuid::Uuid::new_v4()));
        let text = format!(
            "[databases]\n* = host={} port={} user=postgres password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 500\n\
             ignore_startup_parameters = extra_float_digits\n",
            server.ip(),
            server.port(),
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        if is_root() {
            // It refuses to be root.
            command.args(["-u", "nobody"]);
        }
        let child = command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().unwrap();
        let url = database.replace(&server.to_string(), &format!("127.0.0.1:{port}"));
        let pooler = Self { child, config, url };
        let end = Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < end, "PgBouncer does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(pooler)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// Enqueueing, draining, a worker that dies, HTTP: all of it through the pooler.
pub(crate) async fn r20(scale: Scale) -> Figures {
    let (mails, posts) = scale.pick((200, 50), (5_000, 1_000));
    let mut figures = Figures::new();
    let database = Database::new().await;
    let Some(pooler) = PgBouncer::before(&database.url).await else {
        figures.show("left_out", "pgbouncer is not on this machine");
        return figures;
    };
    let slow = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(5)));
    let server = SmtpServer::start(slow).await.unwrap();
    let unaware = hasty(&pooler.url, &server.relay());
    let aware = [unaware.clone(), vec![("DATABASE_POOLER", "transaction".to_owned())]].concat();
    figures.at_least("errors_without_the_setting", errors_of_the_unaware(&database, unaware).await, 1);

    let (door, address) = serve(&["--no-worker"], &aware).await;
    let mut workers = [(); 2].map(|()| Process::start(&["worker"], &aware));
    let accepted = enqueue_through(&pooler.url, mails).await;
    let posted = futures_util::stream::iter(0..posts).map(|i| async move {
        post(address, &format!("pooled{i}@x.test")).await.is_ok_and(|answer| answer.status == 202)
    });
    let posted = posted.buffer_unordered(16).filter(|good| std::future::ready(*good)).count().await;
    let dead = [workers[0].log()];
    workers[0].kill();
    workers[0] = Process::start(&["worker"], &aware);
    let drained = drained_in_haste(&database, Duration::from_secs(60)).await;
    let taken_back = database.number("SELECT count(*) FROM facteur.events WHERE kind = 'lease_lost'").await;
    let logs = dead.into_iter().chain(workers.iter().map(Process::log)).chain([door.log()]);
    let logs: Vec<_> = logs.collect();
    let said = |text: &str| logs.iter().map(|log| log.matches(text).count()).collect::<Vec<_>>();
    figures
        .exactly("prepared_statement_errors", said("prepared statement").iter().sum(), 0)
        .exactly("errors_logged", said("\"level\":\"ERROR\"").iter().sum(), 0)
        .exactly("enqueued", accepted, mails)
        .exactly("posted", posted, posts)
        .exactly(
            "bell_warnings",
            format!("{:?}", said("no bell between processes")),
            "[1, 1, 1, 0]".to_owned(),
        )
        .at_least("taken_back_from_the_dead", taken_back, 1)
        .must(drained.is_some(), "the queue is drained within 60 s");
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(mails + posts + BASELINE, &mut figures);
    figures
}

/// Waits until the queue is empty; what waits for another attempt does not.
async fn drained_in_haste(database: &Database, patience: Duration) -> Option<()> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        database
            .execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued' AND run_at > now()")
            .await;
        if database.until_drained(Duration::from_millis(200)).await.is_some() {
            return Some(());
        }
    }
    None
}

/// Mails for the worker that does not know of the pooler.
const BASELINE: usize = 100;

/// How many errors a worker meets through the pooler that was told nothing of it.
async fn errors_of_the_unaware(database: &Database, mut unaware: Vec<(&'static str, String)>) -> usize {
    unaware.push(("DATABASE_DIRECT_URL", database.url.clone()));
    database.enqueue(BASELINE).await;
    let worker = Process::start(&["worker"], &unaware);
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let errors = worker.log().matches("prepared statement").count();
        if errors > 2 || Instant::now() > end {
            return errors;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// By a library user with eight connections; how many were accepted.
async fn enqueue_through(url: &str, mails: usize) -> usize {
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
    let outbox = Outbox::new(pool).behind_a_transaction_pooler(None);
    let all = futures_util::stream::iter(0..mails).map(|i| {
        let email = email_to(&format!("mail{i}@x.test")).build().unwrap();
        let outbox = &outbox;
        async move { outbox.enqueue(&email).await.inspect_err(|error| println!("R20: {error}")).is_ok() }
    });
    all.buffer_unordered(8).filter(|good| std::future::ready(*good)).count().await
}
