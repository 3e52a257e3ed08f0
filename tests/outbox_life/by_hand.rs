use std::time::Duration;

use facteur::OutboxError;
use facteur::email::{OnUnknown, Priority};
use facteur::outbox::Action;

use crate::support::outbox::{TestOutbox, email_to};
use crate::{REFUSED, REJECTED, SENT, UNKNOWN};

#[tokio::test]
async fn what_failed_or_was_cancelled_is_tried_again_with_the_same_bytes() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("a@x.test").to("b@x.test").to("c@x.test").priority(Priority::High)).await;
    let bytes = t.outbox.load(&[id]).await.unwrap()[&id].render().unwrap();
    let worker = t.session().await;
    let claimed = t.claim(worker).await;
    assert!(t.settle(worker, &claimed[0], SENT).await);
    assert!(t.settle(worker, &claimed[1], REJECTED).await);
    assert!(t.settle(worker, &claimed[2], REFUSED).await);
    t.outbox.cancel(id).await.unwrap();
    assert_eq!(t.states().await, "cancelled 1, failed 1, sent 1");
    assert_eq!(t.outbox.retry(id, "grace").await.unwrap(), Some(2));
    assert_eq!(t.states().await, "queued 2, sent 1");
    let fresh = "SELECT count(*) FROM facteur.deliveries
                 WHERE attempt = 0 AND max_attempts = 20 AND priority = 1 AND lease_token > 0
                   AND expires_at BETWEEN now() + interval '23 hours' AND now() + interval '24 hours'";
    assert_eq!(t.number(fresh).await, 2);
    assert_eq!(t.outbox.load(&[id]).await.unwrap()[&id].render().unwrap(), bytes);
    assert_eq!(
        t.text("SELECT string_agg(DISTINCT actor, ',') FROM facteur.events WHERE kind = 'retried'").await,
        "grace"
    );
    assert_eq!(t.attempt(SENT).await, 2);
    assert_eq!(
        t.outbox.retry(id, "grace").await.unwrap(),
        Some(0),
        "what was sent is never sent again by hand"
    );
    assert_eq!(t.states().await, "sent 3");
}

#[tokio::test]
async fn a_late_worker_writes_nothing_to_what_was_tried_again() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    let (slow, quick) = (t.session().await, t.session().await);
    let lost = t.claim(slow).await.remove(0);
    t.lose_the_workers().await;
    t.outbox.cancel(id).await.unwrap();
    assert!(!t.settle(slow, &lost, REJECTED).await, "while it has ended");
    t.outbox.retry(id, "grace").await.unwrap();
    assert!(!t.settle(slow, &lost, REJECTED).await, "while it is queued");
    let held = t.claim(quick).await.remove(0);
    assert_ne!(held.token, lost.token, "the token grows over the life of the delivery");
    assert!(!t.settle(slow, &lost, REJECTED).await, "while somebody else sends it");
    assert!(!t.outbox.mark_data_started(&lost).await.unwrap());
    assert!(t.settle(quick, &held, SENT).await);
    assert_eq!(t.states().await, "sent 1");

    // What ended before its token was kept begins above any that was given.
    t.execute("DELETE FROM facteur.deliveries").await;
    t.execute("UPDATE facteur.outcomes SET final = 'failed', lease_token = NULL").await;
    t.outbox.retry(id, "grace").await.unwrap();
    assert!(t.number("SELECT lease_token FROM facteur.deliveries").await > 1_000_000_000);
}

#[tokio::test]
async fn parked_mail_goes_back_or_is_given_up() {
    let t = TestOutbox::new().await;
    let park = async || {
        let id = t.enqueue(email_to("ada@x.test").on_unknown(OnUnknown::Hold)).await;
        assert_eq!(t.attempt(Action::Hold).await, 1);
        id
    };
    let again = park().await;
    assert_eq!(t.outbox.retry(again, "grace").await.unwrap(), Some(1));
    assert_eq!(t.outbox.give_up(again, "grace").await.unwrap(), Some(0), "it is not parked any more");
    assert_eq!(
        t.outbox.cancel(again).await.unwrap().unwrap().unknown,
        1,
        "and may have been sent the first time"
    );
    assert_eq!(t.outcomes(again).await, "failed unknown 0");

    let given_up = park().await;
    assert_eq!(t.outbox.give_up(given_up, "grace").await.unwrap(), Some(1));
    assert_eq!(t.outcomes(given_up).await, "failed unknown 1");
    assert_eq!(t.events(given_up).await, "accepted, held, failed");
    assert_eq!(t.text("SELECT actor FROM facteur.events WHERE detail = 'given up'").await, "grace");

    assert_eq!(t.outbox.retry(given_up, "grace").await.unwrap(), Some(1), "held as before");
    assert_eq!(
        t.number("SELECT count(*) FROM facteur.deliveries WHERE hold_unknown AND may_have_left").await,
        1
    );
}

#[tokio::test]
async fn mail_that_may_have_left_is_not_called_cancelled_after_a_retry_by_hand_either() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    t.attempt(UNKNOWN).await;
    t.attempt(REJECTED).await;
    t.outbox.retry(id, "grace").await.unwrap();
    t.outbox.cancel(id).await.unwrap();
    assert_eq!(t.outcomes(id).await, "failed unknown 0");
}

#[tokio::test]
async fn a_person_says_who_they_are_and_which_email() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    for actor in ["", "a\nb", &"é".repeat(129)] {
        assert!(matches!(t.outbox.retry(id, actor).await, Err(OutboxError::Actor)));
        assert!(matches!(t.outbox.give_up(id, actor).await, Err(OutboxError::Actor)));
    }
    let unknown = uuid::Uuid::now_v7().into();
    assert_eq!(t.outbox.retry(unknown, "grace").await.unwrap(), None);
    assert_eq!(t.outbox.give_up(unknown, "grace").await.unwrap(), None);
    assert_eq!(t.outbox.retry(id, &"é".repeat(128)).await.unwrap(), Some(0), "it is queued already");
}

#[tokio::test]
async fn two_people_at_once_try_it_again_once() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    for _ in 0..20 {
        assert_eq!(t.attempt(REJECTED).await, 1);
        let (a, b) = tokio::join!(t.outbox.retry(id, "grace"), t.outbox.retry(id, "ada"));
        assert_eq!(a.unwrap().unwrap() + b.unwrap().unwrap(), 1);
        assert_eq!(t.states().await, "queued 1");
    }
}

#[tokio::test]
async fn a_retry_by_hand_wakes_the_worker() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    t.attempt(REJECTED).await;
    t.outbox.woken().await;
    t.outbox.retry(id, "grace").await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), t.outbox.woken()).await.unwrap();
}
