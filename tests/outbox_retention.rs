//! What is kept, for how long, and how it goes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use facteur::delivery::{Route, Shutdown, Worker};
use facteur::outbox::{Action, ClaimedDelivery, Final, Pruned, SessionId, Settlement};
use facteur::settings::{Keep, Settings, Variables};
use facteur::{Attachment, EmailId, Outbox, OutboxError};
use sqlx::AssertSqlSafe;
use sqlx::{Connection, PgPool};
use support::outbox::{KEEP, LEASE, TestOutbox, email_to, pace};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const ALL: [&str; 4] = ["emails", "attachments", "outcomes", "events"];
/// Weeks ago: older than what is sent is kept, not than what failed; and older than both.
const OLD: i64 = 8;
const OLDEST: i64 = 20;

/// The name of a week's partitions, without the parent's.
async fn day(t: &TestOutbox, weeks_ago: i64) -> String {
    t.text(&format!("SELECT to_char({}, 'YYYYMMDD')", monday(weeks_ago))).await
}

fn monday(weeks_ago: i64) -> String {
    format!("date_trunc('week', now() AT TIME ZONE 'UTC') - interval '{weeks_ago} weeks'")
}

/// An e-mail with two files that ended so many weeks ago, on the Thursday.
async fn ended(t: &TestOutbox, state: Final, weeks_ago: i64) -> EmailId {
    let email = email_to("ada@x.test")
        .attach(Attachment::new("a.txt", "text/plain", b"one".to_vec()))
        .attach(Attachment::new("b.txt", "text/plain", b"two".to_vec()));
    let id = t.enqueue(email).await;
    let session = t.session().await;
    let claimed = t.claim(session).await;
    let batch: Vec<_> = claimed.iter().map(|delivery| finished(delivery, state)).collect();
    t.outbox.settle(session, &batch).await.unwrap();
    aged(t, id, weeks_ago).await
}

fn finished(delivery: &ClaimedDelivery, state: Final) -> Settlement {
    Settlement {
        id: delivery.id,
        token: delivery.token,
        action: Action::Finish(state, "for the test"),
        transport: None,
        stage: None,
        code: None,
        detail: None,
    }
}

/// Moves the rows of an e-mail, not time: its new id.
async fn aged(t: &TestOutbox, id: EmailId, weeks_ago: i64) -> EmailId {
    let monday = monday(weeks_ago);
    t.execute(&format!("SELECT facteur.make_week(({monday}) AT TIME ZONE 'UTC')")).await;
    let then = format!("(({monday}) AT TIME ZONE 'UTC' + interval '3 days')");
    let old = t.text(&format!("SELECT {}::text", old_id(&then))).await;
    for (table, key) in [
        ("attachments", "email_id"),
        ("outcomes", "email_id"),
        ("events", "email_id"),
        ("deliveries", "email_id"),
    ] {
        t.execute(&format!("UPDATE facteur.{table} SET {key} = '{old}' WHERE {key} = '{id}'")).await;
    }
    t.execute(&format!("UPDATE facteur.emails SET id = '{old}', created_at = {then} WHERE id = '{id}'"))
        .await;
    t.execute(&format!("UPDATE facteur.outcomes SET finished_at = {then} WHERE email_id = '{old}'")).await;
    t.execute(&format!("UPDATE facteur.events SET at = {then} WHERE email_id = '{old}'")).await;
    EmailId::from(old.parse::<Uuid>().unwrap())
}

/// SQL for a fresh UUIDv7 of an instant.
fn old_id(instant: &str) -> String {
    format!(
        "overlay(overlay(gen_random_uuid()::text PLACING left(facteur.uuid_from({instant})::text, 13) FROM 1 FOR 13) \
         PLACING '7' FROM 15 FOR 1)::uuid"
    )
}

/// How many of a week's four tables there are, by whatever name they begin with.
async fn tables(t: &TestOutbox, weeks_ago: i64) -> i64 {
    let day = day(t, weeks_ago).await;
    t.number(&format!("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '_{day}'")).await
}

async fn rows(t: &TestOutbox, id: EmailId) -> [i64; 4] {
    let mut rows = [0; 4];
    for (rows, table) in rows.iter_mut().zip(ALL) {
        let key = if table == "emails" { "id" } else { "email_id" };
        *rows = t.number(&format!("SELECT count(*) FROM facteur.{table} WHERE {key} = '{id}'")).await;
    }
    rows
}

/// Asks until it is so; what is waited for is in the database, and nothing tells when it comes.
async fn until(pool: &PgPool, sql: &'static str) {
    let asked = Instant::now();
    while !sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.unwrap() {
        assert!(asked.elapsed() < Duration::from_secs(20), "never came: {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const WAITS_TO_SWAP: &str = "SELECT EXISTS (SELECT FROM pg_locks
    WHERE NOT granted AND mode = 'AccessExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

#[tokio::test]
async fn a_week_that_is_old_is_dropped_and_leaves_no_relation() {
    let t = TestOutbox::new().await;
    let young = ended(&t, Final::Sent, 2).await;
    let old = ended(&t, Final::Sent, OLD).await;
    let oldest = ended(&t, Final::Failed, OLDEST).await;
    let pruned = t.outbox.prune(&KEEP).await.unwrap();
    assert_eq!(pruned, Pruned { weeks_dropped: 2, ..Pruned::default() });
    assert_eq!((tables(&t, OLD).await, tables(&t, OLDEST).await), (0, 0));
    assert_eq!((rows(&t, old).await, rows(&t, oldest).await), ([0; 4], [0; 4]));
    assert_eq!(rows(&t, young).await, [1, 2, 1, 2]);
    assert_eq!(t.number("SELECT count(*) FROM facteur.upkeep").await, 0);
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap(), Pruned::default(), "and once is enough");
}

#[tokio::test]
async fn what_failed_is_kept_longer_and_whole_when_its_week_is_compacted() {
    let t = TestOutbox::new().await;
    let sent = ended(&t, Final::Sent, OLD).await;
    let failed = ended(&t, Final::Failed, OLD).await;
    let before = format!("{:?}", t.outbox.find(failed).await.unwrap().unwrap());
    let stored = t.outbox.load(&[failed]).await.unwrap()[&failed].render().unwrap();
    let history = t.events(failed).await;
    let shape = shape(&t).await;

    assert_eq!(t.outbox.prune(&KEEP).await.unwrap(), Pruned { weeks_compacted: 1, ..Pruned::default() });
    assert_eq!(rows(&t, sent).await, [0; 4]);
    assert_eq!(rows(&t, failed).await, [1, 2, 1, 2]);
    assert_eq!(format!("{:?}", t.outbox.find(failed).await.unwrap().unwrap()), before);
    assert_eq!(t.outbox.load(&[failed]).await.unwrap()[&failed].render().unwrap(), stored);
    assert_eq!(t.events(failed).await, history);
    assert_eq!(tables(&t, OLD).await, 4);
    assert_eq!(self::shape(&t).await, shape, "the new tables are made as the old ones were");
    // Still a part of the whole: a late event finds its place.
    t.execute(&format!("INSERT INTO facteur.events (email_id, kind) VALUES ('{failed}', 'late')")).await;
    assert_eq!(t.number("SELECT count(*) FROM facteur.events_other").await, 0);
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap(), Pruned::default(), "and once is enough");
}

/// Columns, constraints, indexes and storage of the weeks' tables, without their names.
async fn shape(t: &TestOutbox) -> String {
    t.text(&format!(
        "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
           SELECT concat_ws(' ', i.inhparent::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage) AS line
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND relkind = 'r' JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0
           WHERE c.relname ~ '_{day}$'
           UNION ALL
           SELECT concat_ws(' ', i.inhparent::regclass, k.contype, pg_get_constraintdef(k.oid))
           FROM pg_inherits i JOIN pg_constraint k ON k.conrelid = i.inhrelid JOIN pg_class c ON c.oid = i.inhrelid
           WHERE c.relname ~ '_{day}$'
           UNION ALL
           SELECT concat_ws(' ', i.inhparent::regclass, pg_get_expr(c.relpartbound, c.oid)) FROM pg_inherits i
           JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relname ~ '_{day}$'
           UNION ALL
           SELECT concat_ws(' ', 'index', i.inhparent::regclass) FROM pg_index x JOIN pg_inherits i ON i.inhrelid = x.indexrelid
           JOIN pg_class c ON c.oid = x.indrelid WHERE c.relname ~ '_{day}$') s",
        day = day(t, OLD).await
    ))
    .await
}

#[tokio::test]
async fn after_the_longer_time_everything_is_gone() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let failed = ended(&t, Final::Failed, OLD).await;
    t.outbox.prune(&KEEP).await.unwrap();
    assert_eq!(rows(&t, failed).await[0], 1);
    // As if the longer time had come to its end: the week is looked at again, though it was lately.
    let shorter = Keep { failed: KEEP.sent, ..KEEP };
    t.execute("UPDATE facteur.upkeep SET last_run = now() - interval '8 days'").await;
    assert_eq!(t.outbox.prune(&shorter).await.unwrap(), Pruned { weeks_dropped: 1, ..Pruned::default() });
    assert_eq!((rows(&t, failed).await, tables(&t, OLD).await), ([0; 4], 0));
}

#[tokio::test]
async fn a_week_is_looked_through_when_each_time_is_over_and_every_seven_days() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, 14).await;
    let due = |t: &TestOutbox, looked: &'static str| {
        let week = format!("(({}) AT TIME ZONE 'UTC')", monday(14));
        let end = format!("{week} + interval '7 days'");
        let sql = format!(
            "WITH u AS (
               INSERT INTO facteur.upkeep SELECT 'week ' || to_char({week} AT TIME ZONE 'UTC', 'YYYYMMDD'), {looked}
               ON CONFLICT (task) DO UPDATE SET last_run = excluded.last_run)
             SELECT 0::bigint",
            looked = looked.replace("END", &end)
        );
        let pool = t.pool.clone();
        async move {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
            let due = "SELECT count(*) FROM facteur.old_weeks(interval '30 days', interval '90 days')";
            sqlx::query_scalar::<_, i64>(due).fetch_one(&pool).await.unwrap()
        }
    };
    // The week ended 91 to 98 days ago.
    assert_eq!(due(&t, "END + interval '90 days' - interval '1 minute'").await, 1, "the longer time is over");
    assert_eq!(due(&t, "now() - interval '1 minute'").await, 0, "after that, not at once again");
    assert_eq!(due(&t, "now() - interval '7 days 1 minute'").await, 1, "but every seven days");
}

#[tokio::test]
async fn each_outcome_is_kept_for_its_own_time_whichever_is_longer() {
    let t = TestOutbox::new().await;
    let sent = ended(&t, Final::Sent, OLD).await;
    let cancelled = ended(&t, Final::Sent, OLD).await;
    t.execute(&format!("UPDATE facteur.outcomes SET final = 'cancelled' WHERE email_id = '{cancelled}'"))
        .await;
    let failed = ended(&t, Final::Failed, OLD).await;
    let failed_shorter = Keep { sent: KEEP.failed, failed: KEEP.sent };
    assert_eq!(t.outbox.prune(&failed_shorter).await.unwrap().weeks_compacted, 1);
    let left = [rows(&t, sent).await[0], rows(&t, cancelled).await[0], rows(&t, failed).await[0]];
    assert_eq!(left, [1, 1, 0]);
}

#[tokio::test]
async fn one_delivery_of_several_that_is_kept_keeps_the_email() {
    let t = TestOutbox::new().await;
    let id = ended(&t, Final::Sent, OLD).await;
    let gone = ended(&t, Final::Sent, OLD).await;
    t.execute(&format!(
        "INSERT INTO facteur.outcomes SELECT email_id, 1, 'bob@x.test', 'failed', reason, transport, code, reply, attempts, finished_at
         FROM facteur.outcomes WHERE email_id = '{id}'"
    ))
    .await;
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap().weeks_compacted, 1);
    assert_eq!((rows(&t, id).await, rows(&t, gone).await), ([1, 2, 2, 2], [0; 4]));
}

#[tokio::test]
async fn a_delivery_that_has_not_ended_keeps_its_week() {
    let t = TestOutbox::new().await;
    let sent = ended(&t, Final::Sent, OLDEST).await;
    let scheduled = t.enqueue(email_to("bob@x.test")).await;
    let scheduled = aged(&t, scheduled, OLDEST).await;
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap(), Pruned::default());
    assert_eq!((rows(&t, sent).await[0], rows(&t, scheduled).await[0]), (1, 1));
    let session = t.session().await;
    assert_eq!(t.claim(session).await.len(), 1, "and it is sent");
    // It ended late: it is kept from then on, and the others of its week are not.
    t.execute(
        "WITH gone AS (DELETE FROM facteur.deliveries RETURNING *)
         INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, attempts)
         SELECT email_id, position, recipient, 'sent', 'accepted', 1 FROM gone",
    )
    .await;
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap().weeks_compacted, 1);
    assert_eq!((rows(&t, sent).await[0], rows(&t, scheduled).await[0]), (0, 1));
}

#[tokio::test]
async fn of_two_processes_that_prune_at_once_one_does_and_the_other_leaves() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let mut reader = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.attachments IN ACCESS SHARE MODE").execute(&mut *reader).await.unwrap();
    let first = tokio::spawn({
        let outbox = Outbox::new(PgPool::connect(t.url()).await.unwrap());
        async move { outbox.prune(&KEEP).await.unwrap() }
    });
    until(&t.pool, WAITS_TO_SWAP).await;
    let second = t.outbox.prune(&KEEP).await.unwrap();
    assert_eq!(second, Pruned { elsewhere: true, ..Pruned::default() });
    reader.rollback().await.unwrap();
    assert_eq!(first.await.unwrap(), Pruned { weeks_dropped: 1, ..Pruned::default() });
}

#[tokio::test]
async fn of_a_fleet_one_process_prunes_in_an_hour() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let fleet = (0..4).map(|_| t.outbox.prune_in_turn(&KEEP));
    let did = futures_util::future::join_all(fleet).await;
    assert_eq!(did.into_iter().map(|pruned| pruned.unwrap().weeks_dropped).sum::<u32>(), 1);
    ended(&t, Final::Sent, OLD).await;
    assert_eq!(t.outbox.prune_in_turn(&KEEP).await.unwrap(), Pruned::default(), "not within the hour");
    t.execute("UPDATE facteur.upkeep SET last_run = last_run - interval '1 hour'").await;
    assert_eq!(t.outbox.prune_in_turn(&KEEP).await.unwrap().weeks_dropped, 1);
}

#[tokio::test]
async fn a_worker_that_runs_prunes() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let variables = Variables::from_iter([
        ("APP_ENV", "development"),
        ("SMTP_HOST", "localhost"),
        ("DATABASE_URL", t.url()),
        ("EMAIL_FROM", "a@local.test"),
    ]);
    let settings = Settings::from_variables(&variables).unwrap();
    let route = Route::open(settings.profile.ways()).unwrap();
    let worker = Arc::new(Worker::new(t.outbox.clone(), route, pace(), "test"));
    let shutdown = Shutdown::default();
    let running = tokio::spawn(worker.run(shutdown.clone()));
    until(&t.pool, "SELECT to_regclass('facteur.upkeep') IS NOT NULL AND EXISTS (SELECT FROM facteur.upkeep WHERE task = 'prune')
                    AND NOT EXISTS (SELECT FROM facteur.emails)").await;
    shutdown.begin.cancel();
    running.await.unwrap();
    assert_eq!(tables(&t, OLD).await, 0);
}

#[tokio::test]
async fn one_weeks_trouble_is_no_others() {
    let t = TestOutbox::new().await;
    let first = ended(&t, Final::Sent, OLDEST).await;
    let second = ended(&t, Final::Sent, OLD).await;
    // Somebody's view upon a partition keeps it from being dropped.
    t.execute(&format!("CREATE VIEW watched AS SELECT id FROM facteur.emails_{}", day(&t, OLDEST).await))
        .await;
    let pruned = t.outbox.prune(&KEEP).await.unwrap();
    assert_eq!(pruned, Pruned { weeks_dropped: 1, weeks_put_off: 1, ..Pruned::default() });
    assert_eq!((rows(&t, first).await, rows(&t, second).await), ([1, 2, 1, 2], [0; 4]));
    t.execute("DROP VIEW watched").await;
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap().weeks_dropped, 1);
}

#[tokio::test]
async fn a_copy_that_needs_the_watch_refuses_without_it() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let week =
        format!("SELECT facteur.prune_week(({}) AT TIME ZONE 'UTC', '30 days', '90 days')", monday(OLD));
    let error = sqlx::query(sqlx::AssertSqlSafe(week)).execute(&t.pool).await.unwrap_err();
    assert!(error.to_string().contains("facteur.watch_week must come before"), "{error}");
    assert_eq!(tables(&t, OLD).await, 4);
}

/// What an administrator's retry does: the outcome's row leaves, a live one is there.
const RETRY: &str = "WITH gone AS (DELETE FROM facteur.outcomes WHERE email_id = $1 RETURNING *)
    INSERT INTO facteur.deliveries (email_id, position, recipient, expires_at)
    SELECT email_id, position, recipient, now() + interval '1 day' FROM gone";
/// And what follows, if it is quick.
const END: &str = "WITH gone AS (DELETE FROM facteur.deliveries WHERE email_id = $1 RETURNING *)
    INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, attempts)
    SELECT email_id, position, recipient, 'sent', 'accepted', 1 FROM gone";

#[tokio::test]
async fn a_retry_between_copy_and_swap_loses_nothing() {
    for (state, statements) in [
        (Final::Failed, &[RETRY][..]),
        (Final::Sent, &[RETRY]),
        (Final::Failed, &[RETRY, END]),
        (Final::Sent, &[RETRY, END]),
    ] {
        let t = TestOutbox::new().await;
        let other = ended(&t, Final::Sent, OLD).await;
        ended(&t, Final::Failed, OLD).await;
        let id = ended(&t, state, OLD).await;
        let mut retry = t.pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE facteur.outcomes IN ACCESS SHARE MODE").execute(&mut *retry).await.unwrap();
        let outbox = t.outbox.clone();
        let pruning = tokio::spawn(async move { outbox.prune(&KEEP).await.unwrap() });
        // Everything is copied, and the swap is all that is left.
        until(&t.pool, WAITS_TO_SWAP).await;
        for statement in statements {
            sqlx::query(*statement).bind(id.as_uuid()).execute(&mut *retry).await.unwrap();
        }
        retry.commit().await.unwrap();
        assert_eq!(pruning.await.unwrap(), Pruned { weeks_put_off: 1, ..Pruned::default() }, "{state:?}");
        let live = statements.len() == 1;
        let [email, files, outcomes, _] = rows(&t, id).await;
        assert_eq!((email, files, outcomes), (1, 2, i64::from(!live)));
        assert_eq!(tables(&t, OLD).await, 4, "nothing half-made is left");
        assert_eq!(rows(&t, other).await[0], 1);
        // And the next run does what is right now.
        let pruned = t.outbox.prune(&KEEP).await.unwrap();
        assert_eq!(pruned.weeks_compacted, u32::from(!live));
        assert_eq!(rows(&t, id).await[0], 1);
        assert_eq!(t.outbox.load(&[id]).await.unwrap()[&id].attachments.len(), 2);
        assert_eq!(rows(&t, other).await[0], i64::from(live));
    }
}

#[tokio::test]
async fn traffic_that_holds_its_locks_is_given_way_to() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let mut application = t.pool.begin().await.unwrap();
    facteur::enqueue(&mut *application, &email_to("ada@x.test").build().unwrap()).await.unwrap();
    let pruning = tokio::spawn({
        let outbox = t.outbox.clone();
        async move { outbox.prune(&KEEP).await.unwrap() }
    });
    let mut longest = Duration::ZERO;
    while !pruning.is_finished() {
        let begun = Instant::now();
        t.enqueue(email_to("bob@x.test")).await;
        longest = longest.max(begun.elapsed());
    }
    eprintln!("behind a transaction that stayed open, an enqueuer waited {longest:?} at most");
    // 150 ms and what the machine takes: without the short patience it would be as long as the transaction.
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_eq!(pruning.await.unwrap(), Pruned { weeks_put_off: 1, ..Pruned::default() });
    application.commit().await.unwrap();
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap().weeks_dropped, 1);
}

/// A week of `mails`, of which every hundredth failed, each with a body of some kilobytes.
async fn fill(t: &TestOutbox, weeks_ago: i64, mails: u32, failed: bool) {
    let monday = format!("(({}) AT TIME ZONE 'UTC')", monday(weeks_ago));
    t.execute(&format!("SELECT facteur.make_week({monday})")).await;
    let id = old_id(&format!("({monday} + n * interval '1 second')"));
    t.execute(&format!(
        "WITH made AS MATERIALIZED (SELECT n, {id} AS id FROM generate_series(1, {mails}) n),
         e AS (INSERT INTO facteur.emails (id, message_id, date, boundary, sender, recipients, subject, text_body)
               SELECT id, id || '@x.test', now(), 'facteur0123456789abcdef', '{{}}', '[]', 'Old', repeat(md5(n::text), 100) FROM made),
         o AS (INSERT INTO facteur.outcomes (email_id, position, recipient, final, reason, attempts, finished_at)
               SELECT id, 0, 'ada@x.test', CASE WHEN {failed} AND n % 100 = 0 THEN 'failed' ELSE 'sent' END::facteur.final_state,
                      'for the test', 1, {monday} FROM made)
         INSERT INTO facteur.events (email_id, kind) SELECT id, kind FROM made, unnest(ARRAY['accepted', 'sent']) kind"
    ))
    .await;
}

/// The longest that one statement took.
#[derive(Default)]
struct Longest(Duration);

impl Longest {
    async fn of<T>(&mut self, statement: impl Future<Output = Result<T, OutboxError>>) -> T {
        let begun = Instant::now();
        let result = statement.await.unwrap();
        self.0 = self.0.max(begun.elapsed());
        result
    }

    /// One mail comes in.
    async fn enqueue(&mut self, outbox: &Outbox) {
        self.of(outbox.enqueue(&email_to("ada@x.test").build().unwrap())).await;
    }

    /// A worker's round: claims, reads, settles.
    async fn work(&mut self, outbox: &Outbox, session: SessionId) {
        let claimed = self.of(outbox.claim(session, 20, LEASE, 0)).await;
        let ids: Vec<_> = claimed.iter().map(|delivery| delivery.id.email).collect();
        let payloads = self.of(outbox.load(&ids)).await;
        assert_eq!(payloads.len(), ids.len(), "each claimed mail is there");
        let batch: Vec<_> = claimed.iter().map(|delivery| finished(delivery, Final::Sent)).collect();
        assert_eq!(self.of(outbox.settle(session, &batch)).await, []);
    }
}

/// Two enqueuers and a worker until `done`: the longest that a statement took before `ready`, and after.
async fn traffic(t: &TestOutbox, ready: &Arc<Barrier>, done: &CancellationToken) -> JoinSet<[Duration; 2]> {
    let mut clients = JoinSet::new();
    for client in 0..3 {
        let outbox = Outbox::new(PgPool::connect(t.url()).await.unwrap());
        let (session, ready, done) = (t.session().await, Arc::clone(ready), done.clone());
        clients.spawn(async move {
            let mut longest = [Longest::default(), Longest::default()];
            let mut rounds = 0;
            while !done.is_cancelled() {
                let measured = &mut longest[usize::from(rounds >= 50)];
                if client == 0 {
                    measured.work(&outbox, session).await;
                } else {
                    measured.enqueue(&outbox).await;
                }
                rounds += 1;
                if rounds == 50 {
                    ready.wait().await;
                }
            }
            longest.map(|longest| longest.0)
        });
    }
    clients
}

/// How long giving way again and again may go on, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_long_while_weeks_are_made_dropped_and_compacted() {
    let t = TestOutbox::new().await;
    fill(&t, OLD, 20_000, true).await;
    fill(&t, OLD + 1, 20_000, false).await;
    let (ready, done) = (Arc::new(Barrier::new(4)), CancellationToken::new());
    let clients = traffic(&t, &ready, &done).await;
    ready.wait().await;
    let begun = Instant::now();
    // Under traffic it may give way; it gets there.
    let mut all = Pruned::default();
    while (all.weeks_dropped, all.weeks_compacted) != (1, 1) {
        let pruned = t.outbox.prune(&KEEP).await.unwrap();
        all.weeks_dropped += pruned.weeks_dropped;
        all.weeks_compacted += pruned.weeks_compacted;
        all.weeks_put_off += pruned.weeks_put_off;
        assert!(begun.elapsed() < PATIENCE, "{all:?}");
    }
    for weeks_ahead in 5..10 {
        let week = format!("SELECT facteur.ensure_partitions({weeks_ahead})");
        // It gives way to traffic, as workers know, and is tried again.
        while let Err(error) = sqlx::query(AssertSqlSafe(week.clone())).execute(&t.pool).await {
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("55P03"), "a lock that was not to be had: {error}");
            assert!(begun.elapsed() < PATIENCE, "it never has its locks");
        }
    }
    let took = begun.elapsed();
    done.cancel();
    let longest = clients.join_all().await;
    let before = longest.iter().map(|longest| longest[0]).max().unwrap();
    let meanwhile = longest.iter().map(|longest| longest[1]).max().unwrap();
    eprintln!("a week dropped and one compacted, of 20,000 mails each, and five made in {took:?}");
    eprintln!("the longest wait of an enqueuer or a worker: {before:?} before, {meanwhile:?} meanwhile");
    // A slow machine is slow before, too.
    assert!(meanwhile.saturating_sub(before) < Duration::from_secs(1));
    assert_eq!(t.number(&format!("SELECT count(*) FROM facteur.emails_{}", day(&t, OLD).await)).await, 200);
}

#[tokio::test]
async fn making_a_week_does_not_lock_enqueuers_out() {
    let t = TestOutbox::new().await;
    let mut application = t.pool.begin().await.unwrap();
    facteur::enqueue(&mut *application, &email_to("ada@x.test").build().unwrap()).await.unwrap();
    assert_eq!(
        t.number("SELECT facteur.ensure_partitions(5)::bigint").await,
        4,
        "beside an open transaction"
    );
    application.commit().await.unwrap();
    // Whoever holds what it needs is given way to, soon.
    t.execute(&format!("DROP TABLE facteur.emails_{}", day(&t, -5).await)).await;
    let mut holder = t.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE facteur.emails_other").execute(&mut *holder).await.unwrap();
    let begun = Instant::now();
    sqlx::query("SELECT facteur.ensure_partitions(5)").execute(&t.pool).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1));
    holder.rollback().await.unwrap();
    assert_eq!(t.number("SELECT facteur.ensure_partitions(5)::bigint").await, 1);
}

#[tokio::test]
async fn idempotency_keys_go_after_a_day() {
    let t = TestOutbox::new().await;
    for key in ["old", "young"] {
        t.enqueue(email_to("ada@x.test").idempotency_key(key)).await;
    }
    t.execute(
        "UPDATE facteur.idempotency SET created_at = now() - interval '24 hours 1 second' WHERE key = 'old'",
    )
    .await;
    t.execute(
        "INSERT INTO facteur.idempotency SELECT 'default', 'bulk ' || n, request_sha256, email_id, created_at
         FROM facteur.idempotency, generate_series(1, 2500) n WHERE key = 'old'",
    )
    .await;
    let pruned = t.outbox.prune(&KEEP).await.unwrap();
    assert_eq!(pruned, Pruned { keys_deleted: 2_501, ..Pruned::default() });
    assert_eq!(t.text("SELECT string_agg(key, ' ') FROM facteur.idempotency").await, "young");
}

#[tokio::test]
async fn what_fits_in_no_week_goes_by_its_age() {
    let t = TestOutbox::new().await;
    let strays = |ids: [EmailId; 3]| async move {
        let mut strays = Vec::new();
        for id in ids {
            // A clock that is a century ahead, or far behind.
            let stray = EmailId::from(Uuid::from_u128(id.as_uuid().as_u128() | 0xF << 120));
            strays.push(stray);
        }
        strays
    };
    let sent = ended(&t, Final::Sent, OLD).await;
    let failed = ended(&t, Final::Failed, OLD).await;
    let live = t.enqueue(email_to("bob@x.test")).await;
    let live = aged(&t, live, OLD).await;
    let moved = strays([sent, failed, live]).await;
    for (id, stray) in [sent, failed, live].iter().zip(&moved) {
        for table in ["emails", "attachments", "outcomes", "events", "deliveries"] {
            let key = if table == "emails" { "id" } else { "email_id" };
            t.execute(&format!("UPDATE facteur.{table} SET {key} = '{stray}' WHERE {key} = '{id}'")).await;
        }
    }
    assert_eq!(t.number("SELECT count(*) FROM facteur.emails_other").await, 3);
    // Of a mail whose week is gone: an event that came in late, long ago, and one of today.
    t.execute(
        "INSERT INTO facteur.events (email_id, kind, at)
         SELECT facteur.uuid_from('2020-01-01'), 'late', at FROM unnest(ARRAY[now(), now() - interval '1 year']) at",
    )
    .await;
    assert_eq!(t.outbox.prune(&KEEP).await.unwrap().strays_deleted, 2);
    assert_eq!(rows(&t, moved[0]).await, [0; 4]);
    assert_eq!(rows(&t, moved[1]).await, [1, 2, 1, 2]);
    assert_eq!(rows(&t, moved[2]).await, [1, 0, 0, 1]);
    assert_eq!(t.number("SELECT count(*) FROM facteur.events WHERE kind = 'late'").await, 1);
}

#[tokio::test]
async fn mail_that_came_before_its_week_was_made_does_not_keep_the_next_weeks_from_being_made() {
    let t = TestOutbox::new().await;
    let this = day(&t, 0).await;
    for table in ALL {
        t.execute(&format!("DROP TABLE facteur.{table}_{this}")).await;
        t.execute(&format!("DROP TABLE facteur.{table}_{}", day(&t, -1).await)).await;
    }
    let id = t.enqueue(email_to("ada@x.test")).await;
    assert_eq!(t.number("SELECT count(*) FROM facteur.emails_other").await, 1);
    t.outbox.ensure_partitions().await.unwrap();
    assert_eq!((tables(&t, 0).await, tables(&t, -1).await), (0, 4));
    let session = t.session().await;
    assert_eq!(t.claim(session).await[0].id.email, id);
}

#[tokio::test]
async fn a_role_that_reads_from_one_snapshot_prunes_as_well() {
    let t = TestOutbox::new().await;
    ended(&t, Final::Sent, OLD).await;
    let mut careful = sqlx::PgConnection::connect(t.url()).await.unwrap();
    sqlx::query("SET default_transaction_isolation = 'repeatable read'").execute(&mut careful).await.unwrap();
    let week =
        format!("SELECT facteur.prune_week(({}) AT TIME ZONE 'UTC', '30 days', '90 days')", monday(OLD));
    let error = sqlx::query(sqlx::AssertSqlSafe(week)).execute(&mut careful).await.unwrap_err();
    assert!(error.to_string().contains("READ COMMITTED"), "{error}");
    let sql = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), 'repeatable read'); END $$";
    t.execute(sql).await;
    let outbox = Outbox::new(PgPool::connect(t.url()).await.unwrap());
    assert_eq!(outbox.prune(&KEEP).await.unwrap().weeks_dropped, 1);
}
