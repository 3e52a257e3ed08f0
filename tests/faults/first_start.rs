//! Processes that all find an empty database, and one that dies while it fills it.

use std::time::Duration;

use facteur::testing::{Script, SmtpServer};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::case::{Figures, Scale};
use crate::database::Database;
use crate::process::{Process, hasty};

const PROCESSES: usize = 4;

/// All migrate at once; one of them is killed on the way.
pub(crate) async fn r39(scale: Scale) -> Figures {
    let rounds = scale.pick(6, 30);
    let known = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let (mut refused, mut applied_twice, mut half, mut killed_at_work) = (0, 0, 0, 0);
    for round in 0..rounds {
        let url = Database::empty().await;
        let environment = hasty(&url, &server.relay());
        let mut all: Vec<_> = (0..PROCESSES).map(|_| Process::start(&["migrate"], &environment)).collect();
        tokio::time::sleep(Duration::from_millis(30 + round * 15)).await;
        let mut victim = all.remove(0);
        killed_at_work += usize::from(victim.ended(Duration::ZERO).await.is_none());
        victim.kill();
        for mut process in all {
            let ended = process.ended(Duration::from_secs(60)).await;
            let good = ended.is_some_and(|(status, _)| status.success());
            if !good {
                println!("{}", process.log());
            }
            refused += usize::from(!good);
        }
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let number = |sql: &'static str| AssertSqlSafe(sql);
        let applied: i64 =
            sqlx::query_scalar(number("SELECT count(*) FROM facteur.migrations WHERE success"))
                .fetch_one(&mut connection)
                .await
                .unwrap();
        let different: i64 =
            sqlx::query_scalar(number("SELECT count(DISTINCT version) FROM facteur.migrations"))
                .fetch_one(&mut connection)
                .await
                .unwrap();
        applied_twice += applied - different;
        half += usize::from(applied as usize != known);
    }
    let mut figures = Figures::new();
    figures
        .show("rounds", rounds)
        .show("processes", PROCESSES)
        .show("migrations", known)
        .at_least("killed_at_work", killed_at_work, 1)
        .exactly("refused_to_start", refused, 0)
        .exactly("applied_twice", applied_twice, 0)
        .exactly("left_half_done", half, 0);
    figures
}
