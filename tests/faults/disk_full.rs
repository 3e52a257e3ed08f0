//! Postgres has no room left, and then has.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use facteur::testing::{Fault, Script, SmtpServer, Stage};
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection};

use crate::account::Account;
use crate::case::{Figures, Scale};
use crate::cluster::Cluster;
use crate::database::Database;
use crate::http::{Answer, post, refused_of, serve};
use crate::process::hasty;

/// A file system in memory, so small that it can be filled; gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("facteur-full-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let disk = Self(folder);
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk.0).output();
        mount.is_ok_and(|done| done.status.success()).then_some(disk)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Until not one byte more fits.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for piece in [vec![0; 1 << 20], vec![0; 4_096]] {
            while file.write_all(&piece).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The disk fills while mail comes in and goes out; later there is room again.
pub(crate) async fn r21(scale: Scale) -> Figures {
    let full_for = Duration::from_secs(scale.pick(2, 20));
    let mut figures = Figures::new();
    let Some(disk) = SmallDisk::mount(160) else {
        figures.show("left_out", "no right to mount a small disk here");
        return figures;
    };
    let home = disk.0.join("home");
    std::fs::create_dir(&home).unwrap();
    let mut cluster = Cluster::start_in(home).await;
    let database = Database::on(cluster.url()).await;
    let slow = Script::new().at(Stage::EndOfData, Fault::delay(Duration::from_millis(50)));
    let server = SmtpServer::start(slow).await.unwrap();
    let (process, address) = serve(&[], &hasty(&database.url, &server.relay())).await;
    let before = database.enqueue(500).await.len();
    disk.fill();
    let mut answers = knock_for(address, full_for).await;
    // Up to here a table could not grow; from here the log of the database cannot either.
    if let Ok(mut admin) = PgConnection::connect(&database.url).await {
        let _ = sqlx::query("SELECT pg_switch_wal()").execute(&mut admin).await;
    }
    answers.extend(knock_for(address, full_for).await);
    std::fs::remove_file(disk.filler()).unwrap();
    let freed = Instant::now();
    let fell = !answers_again(&database, &cluster).await;
    if fell {
        cluster.start_again().await;
    }
    let drained = database.until_drained(Duration::from_secs(90)).await;
    let back = freed.elapsed();
    let refused_after = refused_of(address, 20).await;
    database.until_drained(Duration::from_secs(30)).await;
    let stored: HashSet<String> = sqlx::query_scalar("SELECT id::text FROM facteur.emails")
        .fetch_all(&database.pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let promised: Vec<_> = answers.iter().filter_map(Answer::id).collect();
    let refused = answers.iter().filter(|answer| answer.status == 503 && answer.retry_after).count();
    let log = std::fs::read_to_string(cluster.data().with_file_name("postgres.log")).unwrap_or_default();
    let no_room = log.matches("No space left on device").count();
    figures
        .show("posts_while_full", answers.len())
        .at_least("503", refused, 1)
        .show("202_while_full", promised.len())
        .exactly("202_and_not_stored", promised.iter().filter(|id| !stored.contains(*id)).count(), 0)
        .exactly("other_answers", answers.len() - refused - promised.len(), 0)
        .at_least("no_room_in_postgres_log", no_room, 1)
        .show("postgres_started_by_hand", fell)
        .exactly("refused_after", refused_after, 0)
        .must(drained.is_some(), "the queue is drained within 90 s")
        .show("drained_after_s", format!("{:.1}", back.as_secs_f64()));
    let account = Account::of(&database, &server.accepted()).await;
    account.into_figures(stored.len(), &mut figures);
    figures.at_least("stored", stored.len(), before + promised.len() + 20);
    drop(process);
    drop(cluster);
    figures
}

/// Four clients, each one request after the other.
async fn knock_for(address: SocketAddr, time: Duration) -> Vec<Answer> {
    let end = Instant::now() + time;
    let clients = (0..4).map(|i| async move {
        let mut answers = Vec::new();
        while Instant::now() < end {
            answers.push(post(address, &format!("full{i}@x.test")).await.unwrap());
        }
        answers
    });
    join_all(clients).await.into_iter().flatten().collect()
}

/// Whether Postgres takes connections within 5 s, having restarted itself where it had to.
async fn answers_again(database: &Database, cluster: &Cluster) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end && cluster.data().join("postmaster.pid").exists() {
        if PgConnection::connect(&database.url).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
