use time::{Duration, OffsetDateTime};

use crate::support::outbox::{TestOutbox, email_to};
use crate::{REFUSED, RELEASED, SENT};

const SPAN: &str = "SELECT extract(epoch FROM expires_at - run_at)::bigint FROM facteur.deliveries";

#[tokio::test]
async fn mail_that_was_never_tried_moves_and_has_as_long_as_before() {
    let t = TestOutbox::new().await;
    let (noon, later) =
        (OffsetDateTime::now_utc() + Duration::HOUR, OffsetDateTime::now_utc() + Duration::DAY);
    let id =
        t.enqueue(email_to("ada@x.test").scheduled_at(noon).expires_at(noon + Duration::minutes(10))).await;
    assert_eq!(t.outbox.reschedule(id, later).await.unwrap(), Some(1));
    assert_eq!(t.number(SPAN).await, 600);
    let seen = t.outbox.find(id).await.unwrap().unwrap();
    assert!((seen.scheduled_at.unwrap() - later).abs() < Duration::MILLISECOND, "{seen:?}");
    assert!(seen.deliveries[0].scheduled);
    assert_eq!(t.attempt(SENT).await, 0, "not yet due");

    let past = OffsetDateTime::now_utc() - Duration::DAY;
    assert_eq!(t.outbox.reschedule(id, past).await.unwrap(), Some(1));
    assert_eq!(t.number(SPAN).await, 600, "a moment that has passed is now");
    assert_eq!(
        t.number("SELECT count(*) FROM facteur.deliveries WHERE run_at > now() - interval '1 min'").await,
        1
    );
    assert_eq!(t.events(id).await, "accepted, rescheduled, rescheduled");
    assert_eq!(t.attempt(SENT).await, 1);
}

#[tokio::test]
async fn what_was_tried_is_being_sent_or_has_ended_stays_where_it_is() {
    let t = TestOutbox::new().await;
    let later = OffsetDateTime::now_utc() + Duration::DAY;
    let tried = t.enqueue(email_to("tried@x.test")).await;
    t.attempt(REFUSED).await;
    assert_eq!(t.outbox.reschedule(tried, later).await.unwrap(), Some(0));
    let worker = t.session().await;
    let claimed = t.claim(worker).await.remove(0);
    assert_eq!(t.outbox.reschedule(tried, later).await.unwrap(), Some(0));
    assert!(t.settle(worker, &claimed, SENT).await);
    assert_eq!(t.outbox.reschedule(tried, later).await.unwrap(), Some(0));
    assert_eq!(t.outbox.find(tried).await.unwrap().unwrap().scheduled_at, None);
    assert_eq!(t.outbox.reschedule(uuid::Uuid::now_v7().into(), later).await.unwrap(), None);

    let released = t.enqueue(email_to("released@x.test")).await;
    t.attempt(RELEASED).await;
    assert_eq!(t.outbox.reschedule(released, later).await.unwrap(), Some(1), "an interruption is not a try");
}
