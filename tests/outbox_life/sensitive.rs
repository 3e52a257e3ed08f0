use facteur::email::EmailBuilder;
use facteur::{Attachment, EmailId, OutboxError};

use crate::support::outbox::{TestOutbox, email_to};
use crate::{REFUSED, REJECTED, SENT};

fn secret(to: &str) -> EmailBuilder {
    let file = Attachment::new("code.txt", "text/plain", b"123456".to_vec());
    email_to(to).html("<p>123456</p>").header("X-Code", "123456").attach(file).sensitive(true)
}

impl TestOutbox {
    /// Whether nothing of its content is left.
    async fn wiped(&self, id: EmailId) -> bool {
        let seen = self.outbox.find(id).await.unwrap().unwrap();
        let left = format!(
            "SELECT count(*) FROM facteur.emails e JOIN facteur.attachments a ON a.email_id = e.id
             WHERE e.id = '{id}' AND (e.subject <> '' OR text_body IS NOT NULL OR html_body IS NOT NULL
                                      OR headers <> '[]' OR octet_length(content) > 0)"
        );
        assert_eq!(seen.wiped, self.number(&left).await == 0);
        assert_eq!(seen.wiped, seen.subject.is_empty() && seen.text.is_none() && seen.html.is_none());
        seen.wiped
    }
}

#[tokio::test]
async fn the_content_goes_with_the_last_delivery_and_the_fate_stays() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(secret("a@x.test").to("b@x.test")).await;
    let plain = t.enqueue(email_to("c@x.test")).await;
    let worker = t.session().await;
    let claimed = t.claim(worker).await;
    for (i, delivery) in claimed.iter().filter(|d| d.id.email == id).enumerate() {
        assert!(!t.wiped(id).await, "one can still be sent");
        assert!(t.settle(worker, delivery, if i == 0 { REJECTED } else { SENT }).await);
    }
    assert!(t.wiped(id).await, "by the statement that ended the last one");
    assert_eq!(t.outcomes(id).await, "failed rejected 1, sent accepted 1");
    t.attempt(SENT).await;
    assert!(!t.outbox.find(plain).await.unwrap().unwrap().wiped);
    assert_eq!(t.outbox.wipe_sensitive().await.unwrap(), 0, "nothing is left to the sweep");
}

#[tokio::test]
async fn one_batch_that_ends_several_deliveries_wipes_too() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(secret("a@x.test").to("b@x.test")).await;
    let worker = t.session().await;
    let claimed = t.claim(worker).await;
    let batch: Vec<_> = claimed
        .iter()
        .map(|delivery| facteur::outbox::Settlement {
            id: delivery.id,
            token: delivery.token,
            action: SENT,
            transport: None,
            stage: None,
            code: None,
            detail: None,
        })
        .collect();
    assert!(t.outbox.settle(worker, &batch).await.unwrap().is_empty());
    assert!(t.wiped(id).await);
}

#[tokio::test]
async fn the_sweep_finds_what_other_ends_leave() {
    let t = TestOutbox::new().await;
    let cancelled = t.enqueue(secret("a@x.test")).await;
    let waiting = t.enqueue(secret("b@x.test")).await;
    t.outbox.cancel(cancelled).await.unwrap();
    assert!(!t.wiped(cancelled).await);
    assert_eq!(t.outbox.wipe_sensitive().await.unwrap(), 1);
    assert!(t.wiped(cancelled).await && !t.wiped(waiting).await);
    assert_eq!(t.outbox.wipe_sensitive().await.unwrap(), 0);
}

#[tokio::test]
async fn a_wiped_email_cannot_be_tried_again_and_one_that_is_not_wiped_can() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(secret("a@x.test")).await;
    t.outbox.cancel(id).await.unwrap();
    assert_eq!(t.outbox.retry(id, "grace").await.unwrap(), Some(1), "its content is still there");
    assert_eq!(t.outbox.wipe_sensitive().await.unwrap(), 0, "and stays: it can be sent again");
    t.attempt(REJECTED).await;
    assert!(t.wiped(id).await);
    assert!(matches!(t.outbox.retry(id, "grace").await, Err(OutboxError::Wiped)));
    assert_eq!(t.states().await, "failed 1");
}

#[tokio::test]
async fn wiping_and_trying_again_at_once_never_leave_an_empty_email_in_the_queue() {
    let t = TestOutbox::new().await;
    let (mut wiped, mut kept) = (0, 0);
    for round in 0..60 {
        let id = t.enqueue(secret("a@x.test")).await;
        t.outbox.cancel(id).await.unwrap();
        let retry = async {
            tokio::time::sleep(std::time::Duration::from_micros(50 * (round % 20))).await;
            t.outbox.retry(id, "grace").await
        };
        let (swept, retried) = tokio::join!(t.outbox.wipe_sensitive(), retry);
        swept.unwrap();
        match retried {
            Ok(back) => assert_eq!((back, t.wiped(id).await), (Some(1), false)),
            Err(OutboxError::Wiped) => assert!(t.wiped(id).await),
            Err(error) => panic!("{error}"),
        }
        if t.wiped(id).await {
            wiped += 1
        } else {
            kept += 1
        }
        t.outbox.cancel(id).await.unwrap();
        t.outbox.wipe_sensitive().await.unwrap();
    }
    assert_eq!(wiped + kept, 60);
}

#[tokio::test]
async fn the_snapshot_of_a_sweep_may_be_older_than_a_retry_by_hand() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(secret("a@x.test")).await;
    t.outbox.cancel(id).await.unwrap();
    // The sweep waits for the row that the retry will have changed.
    let mut retry = t.pool.begin().await.unwrap();
    sqlx::query("UPDATE facteur.to_wipe SET retried = retried + 1").execute(&mut *retry).await.unwrap();
    let outbox = t.outbox.clone();
    let sweep = tokio::spawn(async move { outbox.wipe_sensitive().await.unwrap() });
    t.until_somebody_waits().await;
    retry.commit().await.unwrap();
    assert_eq!(sweep.await.unwrap(), 0);
    assert!(!t.wiped(id).await);
}

#[tokio::test]
async fn a_body_is_missing_from_wiped_mail_only() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("a@x.test")).await;
    let empty = "UPDATE facteur.emails SET text_body = NULL";
    let wiped = "UPDATE facteur.emails SET wiped_at = now()";
    for (sql, constraint) in [(empty, "a_body"), (wiped, "only_the_sensitive_are_wiped")] {
        let error = sqlx::query(sql).execute(&t.pool).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|e| e.constraint()), Some(constraint));
    }
    t.attempt(REFUSED).await;
    assert_eq!(t.states().await, "queued 1");
}
