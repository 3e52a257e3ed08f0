//! Idempotency keys, by many at once and over a connection that breaks.

use std::time::{Duration, Instant};

use facteur::email::EmailBuilder;
use facteur::outbox::OutboxError;
use facteur::testing::TcpProxy;
use facteur::{Email, EmailId, Outbox};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::case::{Figures, Scale};
use crate::database::{Database, email_to};
use crate::http::percentile;

/// 100 calls at once with one key; then calls whose answer is cut off at any moment, each called again.
pub(crate) async fn r33(scale: Scale) -> Figures {
    let cuts = scale.pick(50, 500);
    let database = Database::new().await;
    let mut figures = Figures::new();
    at_once(&database, &mut figures).await;
    let rows = "SELECT count(*) FROM facteur.emails";
    let (before, mut committed, mut answered, mut wrong) = (database.number(rows).await, 0, 0, 0);
    let proxy = TcpProxy::start(address_of(&database.url)).await.unwrap();
    let usual = usual_time(&database).await;
    for i in 0..cuts {
        let key = format!("cut-{i}");
        let first = enqueue_and_cut(&database.url, &proxy, &with_key(&key), usual * 2).await;
        // Perhaps while the first is still at work: then this one waits for it.
        let again = database.outbox.enqueue(&with_key(&key)).await.unwrap();
        let sql = format!("SELECT email_id::text FROM facteur.idempotency WHERE key = '{key}'");
        let kept = database.text(&sql).await;
        answered += usize::from(first.is_some());
        committed += usize::from(!again.created);
        // The answer to both is the one that is kept; and whoever was answered is not asked to make another.
        let told_the_same = first.is_none_or(|first| first == again.id && !again.created);
        wrong += usize::from(!told_the_same || again.id.to_string() != kept);
    }
    let made = database.number(rows).await - before - 10;
    figures
        .show("cuts", cuts)
        .show("answered_before_the_cut", answered)
        .at_least("committed_without_an_answer", committed - answered, 1)
        .at_least("not_committed", cuts - committed, 1)
        .exactly("wrong_second_answers", wrong, 0)
        .exactly("mails", made, cuts as i64)
        .exactly("deliveries", database.number("SELECT count(*) FROM facteur.deliveries").await - 11, made);
    figures
}

/// One key: from a hundred callers with one e-mail, and from one with another.
async fn at_once(database: &Database, figures: &mut Figures) {
    let (email, other) = (with_key("one"), email_to("other@x.test").idempotency_key("one").build().unwrap());
    let calls = join_all((0..100).map(|_| database.outbox.enqueue(&email))).await;
    let told: Vec<_> = calls.into_iter().map(Result::unwrap).collect();
    let mut ids: Vec<_> = told.iter().map(|one| one.id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let reused = database.outbox.enqueue(&other).await;
    figures
        .show("calls", told.len())
        .exactly("rows", database.number("SELECT count(*) FROM facteur.emails").await, 1)
        .exactly("created", told.iter().filter(|one| one.created).count(), 1)
        .exactly("ids", ids.len(), 1)
        .must(matches!(reused, Err(OutboxError::KeyReused)), "another e-mail with the same key is refused");
}

fn with_key(key: &str) -> Email {
    let builder: EmailBuilder = email_to("keyed@x.test");
    builder.idempotency_key(key).build().unwrap()
}

/// Enqueues over a connection that is cut after some part of `most`; the answer, if it came all the same.
async fn enqueue_and_cut(url: &str, proxy: &TcpProxy, email: &Email, most: Duration) -> Option<EmailId> {
    proxy.resume();
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.host("127.0.0.1").port(proxy.addr().port());
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.acquire_timeout(Duration::from_secs(5)).connect_with(options).await.unwrap();
    let outbox = Outbox::new(pool);
    let pause = Duration::from_micros(uuid::Uuid::new_v4().as_u128() as u64 % most.as_micros() as u64);
    let cut = async {
        tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await.unwrap();
        proxy.cut();
    };
    let (answer, ()) = tokio::join!(outbox.enqueue(email), cut);
    answer.ok().map(|enqueued| enqueued.id)
}

/// What the first statement of a connection takes.
async fn usual_time(database: &Database) -> Duration {
    let mut times = Vec::new();
    for _ in 0..10 {
        let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let outbox = Outbox::new(pool.connect(&database.url).await.unwrap());
        let begun = Instant::now();
        outbox.enqueue(&email_to("usual@x.test").build().unwrap()).await.unwrap();
        times.push(begun.elapsed());
    }
    percentile(&mut times, 50)
}

/// Host and port of a URL.
pub(crate) fn address_of(url: &str) -> std::net::SocketAddr {
    let options: PgConnectOptions = url.parse().unwrap();
    format!("{}:{}", options.get_host(), options.get_port()).parse().unwrap()
}
