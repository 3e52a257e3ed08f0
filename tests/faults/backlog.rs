//! Long queues, and what keeps Postgres from tidying up behind them.

use std::time::{Duration, Instant};

use facteur::Outbox;
use facteur::outbox::{Action, ClaimedDelivery, Cursor, Final, SessionId, Settlement};
use sqlx::Connection;
use sqlx::postgres::PgPoolOptions;

use crate::case::{Figures, Scale};
use crate::database::Database;

const BATCH: i64 = 20;
const LEASE: Duration = Duration::from_secs(120);

/// A queue of a million, and hundreds of thousands that are more urgent and not due yet.
pub(crate) async fn r24(scale: Scale) -> Figures {
    let (due, scheduled) = scale.pick((100_000, 30_000), (1_000_000, 300_000));
    let long = Database::new().await;
    fill(&long, due, 2, "now() - interval '1 hour'").await;
    fill(&long, scheduled, 1, "now() + interval '1 day'").await;
    let short = Database::new().await;
    fill(&short, scale.pick(20_000, 60_000), 2, "now() - interval '1 hour'").await;
    // In turns, because whatever else the machine does should disturb both alike.
    let (mut in_long, mut in_short) = (Claimer::new(&long).await, Claimer::new(&short).await);
    let seconds = Duration::from_millis(scale.pick(500, 2_000));
    for _ in 0..4 {
        in_short.work(seconds).await;
        in_long.work(seconds).await;
    }
    let buffers = in_long.buffers_of_a_claim().await;
    let ratio = in_long.rate() / in_short.rate();
    let begun = Instant::now();
    long.outbox.oldest_due().await.unwrap();
    let health = long.outbox.health().await.unwrap();
    let asked = begun.elapsed();
    let mut figures = Figures::new();
    figures
        .show("due", due)
        .show("scheduled_and_more_urgent", scheduled)
        .show("claim_p50_ms", in_long.percentile(50))
        .show("claim_p99_ms", in_long.percentile(99))
        .at_most("p99_against_a_short_queue", round(in_long.percentile(99) / in_short.percentile(99)), 3.0)
        .at_most("buffers_a_claim", buffers, 400)
        .at_least("rate_against_a_short_queue", round(ratio), 0.7)
        .at_most("health_ms", asked.as_millis(), 200)
        .must(health.due > 0, "the queue's length is known");
    figures
}

/// The same with a snapshot held open: nothing that was claimed can be tidied away.
pub(crate) async fn r25(scale: Scale) -> Figures {
    let due = scale.pick(150_000, 1_000_000);
    let seconds = Duration::from_secs(scale.pick(4, 120));
    let database = Database::new().await;
    fill(&database, due, 2, "now() - interval '1 hour'").await;
    let phase = |database: &Database| Claimer::new_on(database.url.clone());
    let mut before = phase(&database).await;
    before.work(Duration::from_secs(2)).await;

    let mut holder = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let mut snapshot = holder.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT count(*) FROM facteur.worker_sessions").fetch_one(&mut *snapshot).await.unwrap();
    let mut during = phase(&database).await;
    during.work(seconds).await;
    let mut last = phase(&database).await;
    last.work(Duration::from_secs(2)).await;
    let alarm = database.outbox.health().await.unwrap().oldest_snapshot;
    // What each claim would cost that begins at the beginning each time.
    let mut naive = phase(&database).await;
    naive.from_the_beginning = true;
    naive.work(Duration::from_secs(2)).await;
    snapshot.rollback().await.unwrap();
    database.execute("VACUUM facteur.deliveries").await;
    let mut after = phase(&database).await;
    after.work(Duration::from_secs(2)).await;

    let mut figures = Figures::new();
    let claims = |claimer: &Claimer| claimer.rate().round();
    figures
        .show("due", due)
        .show("held_s", seconds.as_secs())
        .show("cycles_a_second_before", claims(&before))
        .show("during", claims(&last))
        .show("after", claims(&after))
        .show("without_the_cursor", claims(&naive))
        .show("claim_p99_ms", during.percentile(99))
        .at_least("during_against_before", round(last.rate() / before.rate()), 0.4)
        .at_least("during_against_without_the_cursor", round(last.rate() / naive.rate()), 1.2)
        .at_least("after_against_before", round(after.rate() / before.rate()), 0.7)
        .at_least("oldest_snapshot_s", alarm.as_secs(), seconds.as_secs());
    figures
}

/// Rows of the queue without their e-mails: claiming does not look at those.
async fn fill(database: &Database, rows: i64, priority: i16, run_at: &str) {
    let sql = format!(
        "INSERT INTO facteur.deliveries (email_id, position, recipient, priority, run_at, expires_at)
         SELECT gen_random_uuid(), 0, 'a@x.test', {priority}, {run_at} + i * interval '1 microsecond',
                now() + interval '2 days'
         FROM generate_series(1, {rows}) i"
    );
    database.execute(&sql).await;
    database.execute("VACUUM ANALYZE facteur.deliveries").await;
}

/// Claims and settles, one batch after the other, over one connection.
struct Claimer {
    outbox: Outbox,
    session: SessionId,
    cursor: Cursor,
    from_the_beginning: bool,
    claims: Vec<Duration>,
    spent: Duration,
}

impl Claimer {
    async fn new(database: &Database) -> Self {
        Self::new_on(database.url.clone()).await
    }

    async fn new_on(url: String) -> Self {
        let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        let outbox = Outbox::new(pool);
        let session = SessionId::new();
        outbox.heartbeat(session, "faults", LEASE, LEASE, &[]).await.unwrap();
        Self {
            outbox,
            session,
            cursor: Cursor::default(),
            from_the_beginning: false,
            claims: Vec::new(),
            spent: Duration::ZERO,
        }
    }

    async fn work(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if self.from_the_beginning {
                self.cursor = Cursor::default();
            }
            let asked = Instant::now();
            let claimed = self.claim().await;
            self.claims.push(asked.elapsed());
            self.settle(&claimed).await;
        }
        self.spent += begun.elapsed();
    }

    async fn claim(&mut self) -> Vec<ClaimedDelivery> {
        let claimed = self.outbox.claim_on(&mut self.cursor, self.session, BATCH, LEASE, 0).await.unwrap();
        assert_eq!(claimed.len() as i64, BATCH, "there is enough for all");
        claimed
    }

    async fn settle(&self, claimed: &[ClaimedDelivery]) {
        let sent = claimed.iter().map(|delivery| Settlement {
            id: delivery.id,
            token: delivery.token,
            action: Action::Finish(Final::Sent, "accepted"),
            transport: None,
            stage: None,
            code: Some(250),
            detail: None,
        });
        assert!(self.outbox.settle(self.session, &sent.collect::<Vec<_>>()).await.unwrap().is_empty());
    }

    /// Batches a second.
    fn rate(&self) -> f64 {
        self.claims.len() as f64 / self.spent.as_secs_f64()
    }

    /// Of the claims alone, in milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.claims.clone();
        sorted.sort();
        round(sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1_000.0)
    }

    /// Pages of tables and indexes that one claim looks at.
    async fn buffers_of_a_claim(&mut self) -> i64 {
        let before = self.touched().await;
        let mut claimed = Vec::new();
        for _ in 0..25 {
            claimed.extend(self.claim().await);
        }
        let buffers = (self.touched().await - before) / 25;
        self.settle(&claimed).await;
        buffers
    }

    async fn touched(&self) -> i64 {
        let pool = self.outbox.pool();
        // Each backend tells what it did at its own pace, unless it is asked.
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(pool).await.unwrap();
        sqlx::query_scalar(
            "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(pool)
        .await
        .unwrap()
    }
}

fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
