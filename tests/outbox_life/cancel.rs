use facteur::EmailId;
use facteur::email::OnUnknown;
use facteur::outbox::{Action, Cancelled};

use crate::support::outbox::{TestOutbox, email_to};
use crate::{REFUSED, RELEASED, SENT, UNKNOWN};

#[tokio::test]
async fn what_is_queued_leaves_the_queue_and_its_attempts_stay_counted() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test").cc("bob@x.test")).await;
    t.attempt(REFUSED).await;
    let found = t.outbox.cancel(id).await.unwrap().unwrap();
    assert_eq!(found, Cancelled { cancelled: 2, ..Cancelled::default() });
    assert_eq!(t.outcomes(id).await, "cancelled withdrawn 1, cancelled withdrawn 1");
    assert_eq!(t.events(id).await, "accepted, retry, retry, cancelled, cancelled");
    assert_eq!(t.attempt(SENT).await, 0, "nothing is left to send");
    let again = t.outbox.cancel(id).await.unwrap().unwrap();
    assert_eq!(again, Cancelled { ended: 2, ..Cancelled::default() });
}

#[tokio::test]
async fn an_unknown_email_cannot_be_cancelled() {
    let t = TestOutbox::new().await;
    let id: EmailId = uuid::Uuid::now_v7().into();
    assert_eq!(t.outbox.cancel(id).await.unwrap(), None);
}

#[tokio::test]
async fn each_delivery_of_an_email_is_told_apart() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("a@x.test").to("b@x.test").to("c@x.test")).await;
    let worker = t.session().await;
    let claimed = t.outbox.claim(worker, 2, crate::support::outbox::LEASE, 0).await.unwrap();
    assert!(t.settle(worker, &claimed[0], SENT).await);
    let found = t.outbox.cancel(id).await.unwrap().unwrap();
    assert_eq!(found, Cancelled { cancelled: 1, sending: 1, unknown: 0, ended: 1 });
    assert_eq!(t.states().await, "cancelled 1, sending 1, sent 1");
}

#[tokio::test]
async fn what_is_being_sent_ends_should_it_come_back_and_says_the_truth() {
    for (action, end) in [
        (SENT, "sent accepted 1"),
        (REFUSED, "cancelled withdrawn 1"),
        (RELEASED, "cancelled withdrawn 0"),
        (UNKNOWN, "failed unknown 1"),
    ] {
        let t = TestOutbox::new().await;
        let id = t.enqueue(email_to("ada@x.test")).await;
        let worker = t.session().await;
        let claimed = t.claim(worker).await.remove(0);
        assert_eq!(t.outbox.cancel(id).await.unwrap().unwrap().sending, 1);
        assert!(t.settle(worker, &claimed, action.clone()).await, "the lease holds");
        assert_eq!(t.outcomes(id).await, end, "{action:?}");
        let last = end.split(' ').next().unwrap();
        assert_eq!(t.events(id).await, format!("accepted, cancel_requested, {last}"));
        assert!(t.settle(worker, &claimed, action).await, "and is found to be written");
        assert_eq!(t.events(id).await, format!("accepted, cancel_requested, {last}"), "once");
    }
}

#[tokio::test]
async fn mail_that_may_have_left_is_never_called_cancelled() {
    let t = TestOutbox::new().await;
    let unknown = t.enqueue(email_to("unknown@x.test")).await;
    t.attempt(UNKNOWN).await;
    let lost = t.enqueue(email_to("lost@x.test")).await;
    let worker = t.session().await;
    t.claim(worker).await;
    t.lose_the_workers().await;
    for id in [unknown, lost] {
        let found = t.outbox.cancel(id).await.unwrap().unwrap();
        assert_eq!(found, Cancelled { unknown: 1, ..Cancelled::default() });
        assert!(t.outcomes(id).await.starts_with("failed unknown"));
    }
}

#[tokio::test]
async fn a_lost_worker_does_not_bring_withdrawn_mail_back() {
    let t = TestOutbox::new().await;
    let anyhow = t.enqueue(email_to("anyhow@x.test")).await;
    let before = t.enqueue(email_to("before@x.test").on_unknown(OnUnknown::Hold)).await;
    let begun = t.enqueue(email_to("begun@x.test").on_unknown(OnUnknown::Hold)).await;
    let worker = t.session().await;
    for delivery in t.claim(worker).await {
        if delivery.id.email == begun {
            assert!(t.outbox.mark_data_started(&delivery).await.unwrap());
        }
        assert_eq!(t.outbox.cancel(delivery.id.email).await.unwrap().unwrap().sending, 1);
    }
    t.lose_the_workers().await;
    assert_eq!(t.outcomes(before).await, "cancelled withdrawn 1", "its content was certainly not begun");
    assert_eq!(t.outcomes(anyhow).await, "failed unknown 1", "nobody knows how far it came");
    assert_eq!(t.states().await, "cancelled 1, failed 1, unknown 1", "held mail waits for a person");
    assert_eq!(t.outbox.cancel(begun).await.unwrap().unwrap().unknown, 1, "whom a cancel does not replace");
}

#[tokio::test]
async fn held_mail_that_is_withdrawn_and_unknown_waits_for_a_person() {
    let t = TestOutbox::new().await;
    let id = t.enqueue(email_to("ada@x.test").on_unknown(OnUnknown::Hold)).await;
    let worker = t.session().await;
    let claimed = t.claim(worker).await.remove(0);
    t.outbox.cancel(id).await.unwrap();
    assert!(t.settle(worker, &claimed, Action::Hold).await);
    assert_eq!(t.states().await, "unknown 1");
}

#[tokio::test]
async fn cancelling_and_settling_at_once_leave_one_end() {
    let t = TestOutbox::new().await;
    let worker = t.session().await;
    for round in 0..30 {
        let id = t.enqueue(email_to("ada@x.test").to("bob@x.test")).await;
        let claimed = t.claim(worker).await;
        let action = [SENT, REFUSED, RELEASED][round % 3].clone();
        let settle = async {
            for delivery in claimed.iter().rev() {
                assert!(t.settle(worker, delivery, action.clone()).await, "a cancel does not take the lease");
            }
        };
        let (_, found) = tokio::join!(settle, t.outbox.cancel(id));
        let Cancelled { cancelled, sending, unknown, ended } = found.unwrap().unwrap();
        assert_eq!(cancelled + sending + unknown + ended, 2);
        assert_eq!(t.number("SELECT count(*) FROM facteur.deliveries").await, 0, "round {round}: {action:?}");
        assert_eq!(t.outcomes(id).await.split(", ").count(), 2);
    }
}
