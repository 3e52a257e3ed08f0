//! How fast this door is beside the library's, in the same run: printed, and no promise.

use std::time::{Duration, Instant};

use facteur::enqueue;

use crate::mail::good;
use crate::support::outbox::TestOutbox;

const EMAILS: u32 = 600;
const BATCH: u32 = 100;
const SEND: &str = "SELECT facteur.send_email($1, $2, $3, NULL, $4)";

/// Each e-mail in a transaction of its own, or a batch in one.
async fn took(t: &TestOutbox, by_sql: bool, batch: u32) -> Duration {
    let mail = good();
    let (email, options) = (mail.builder().build().unwrap(), serde_json::json!({"from": mail.from}));
    let begun = Instant::now();
    for _ in 0..EMAILS / batch {
        let mut transaction = t.pool.begin().await.unwrap();
        for _ in 0..batch {
            if by_sql {
                let send =
                    sqlx::query(SEND).bind(&mail.to[0]).bind(&mail.subject).bind(&mail.text).bind(&options);
                send.execute(&mut *transaction).await.unwrap();
            } else {
                enqueue(&mut *transaction, &email).await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }
    begun.elapsed()
}

#[tokio::test]
async fn how_fast_it_is_beside_the_library() {
    let t = TestOutbox::new().await;
    // Plans and caches first.
    took(&t, true, BATCH).await;
    took(&t, false, BATCH).await;
    for batch in [1, BATCH] {
        let (library, sql) = (took(&t, false, batch).await, took(&t, true, batch).await);
        let rate = |took: Duration| f64::from(EMAILS) / took.as_secs_f64();
        eprintln!(
            "{batch} a transaction: {:.0} e-mails a second by SQL, {:.0} by the library: {:.2} of its speed",
            rate(sql),
            rate(library),
            rate(sql) / rate(library)
        );
    }
    assert_eq!(t.number("SELECT count(*) FROM facteur.deliveries").await, i64::from(EMAILS) * 6);
}
