use facteur::email::EmailBuilder;
use facteur::outbox::{Action, Final, enqueue};

use crate::support::outbox::{TestOutbox, email_to};
use crate::{REFUSED, SENT, UNKNOWN};

fn code(to: &str) -> EmailBuilder {
    email_to(to).supersedes("login-code:ada")
}

const SUPERSEDED: Action = Action::Finish(Final::Cancelled, "superseded");

#[tokio::test]
async fn the_newest_cancels_the_older_ones_and_nothing_else() {
    let t = TestOutbox::new().await;
    let other = t.enqueue(email_to("bob@x.test").supersedes("login-code:bob")).await;
    let plain = t.enqueue(email_to("ada@x.test")).await;
    let first = t.enqueue(code("ada@x.test").cc("eve@x.test")).await;
    let second = t.enqueue(code("ada@x.test")).await;
    let third = t.enqueue(code("ada@x.test")).await;
    assert_eq!(t.outcomes(first).await, "cancelled superseded 0, cancelled superseded 0");
    assert_eq!(t.outcomes(second).await, "cancelled superseded 0");
    assert_eq!(t.events(second).await, "accepted, cancelled");
    let worker = t.session().await;
    let mut claimed: Vec<_> = t.claim(worker).await.into_iter().map(|d| d.id.email).collect();
    claimed.sort();
    assert_eq!(claimed, [other, plain, third]);
}

#[tokio::test]
async fn what_is_being_sent_is_not_stopped_and_not_tried_again() {
    for (action, end) in [(REFUSED, "cancelled superseded 1"), (UNKNOWN, "failed unknown 1")] {
        let t = TestOutbox::new().await;
        let older = t.enqueue(code("ada@x.test")).await;
        let worker = t.session().await;
        let sending = t.claim(worker).await.remove(0);
        let newer = t.enqueue(code("ada@x.test")).await;
        assert_eq!(t.states().await, "queued 1, sending 1");
        assert!(t.settle(worker, &sending, action).await);
        let claimed = t.claim(worker).await;
        for delivery in &claimed {
            assert_eq!(delivery.superseded, delivery.id.email == older);
            let action = if delivery.superseded { SUPERSEDED } else { SENT };
            assert!(t.settle(worker, delivery, action).await);
        }
        assert_eq!(t.outcomes(older).await, end, "counted are the attempts that were made");
        assert_eq!(t.outcomes(newer).await, "sent accepted 1");
    }
}

#[tokio::test]
async fn a_newer_email_that_is_rolled_back_cancels_nothing() {
    let t = TestOutbox::new().await;
    let older = t.enqueue(code("ada@x.test")).await;
    let mut newer = t.pool.begin().await.unwrap();
    enqueue(&mut *newer, &code("ada@x.test").build().unwrap()).await.unwrap();
    let worker = t.session().await;
    assert!(t.claim(worker).await.is_empty(), "whether it may be sent is not decided yet");
    newer.rollback().await.unwrap();
    let claimed = t.claim(worker).await;
    assert_eq!((claimed.len(), claimed[0].id.email, claimed[0].superseded), (1, older, false));
}

#[tokio::test]
async fn two_that_are_enqueued_at_once_leave_one_to_send() {
    let t = TestOutbox::new().await;
    for round in 0..20 {
        let (ada, bob) = (code("a@x.test").build().unwrap(), code("b@x.test").build().unwrap());
        let (a, b) = tokio::join!(t.outbox.enqueue(&ada), t.outbox.enqueue(&bob));
        let (a, b) = (a.unwrap().id, b.unwrap().id);
        let newest = t.text("SELECT email_id::text FROM facteur.newest").await;
        assert!([a, b].map(|id| id.to_string()).contains(&newest));
        let worker = t.session().await;
        let claimed = t.claim(worker).await;
        let live: Vec<_> = claimed.iter().filter(|d| !d.superseded).collect();
        assert_eq!(live.len(), 1, "round {round}: {claimed:?}");
        assert_eq!(live[0].id.email.to_string(), newest);
        for delivery in &claimed {
            t.settle(worker, delivery, if delivery.superseded { SUPERSEDED } else { SENT }).await;
        }
    }
}

#[tokio::test]
async fn an_older_email_in_an_open_transaction_is_superseded_when_it_commits() {
    let t = TestOutbox::new().await;
    let mut open = t.pool.begin().await.unwrap();
    let older = enqueue(&mut *open, &code("ada@x.test").build().unwrap()).await.unwrap().id;
    let outbox = t.outbox.clone();
    let newer = tokio::spawn(async move { outbox.enqueue(&code("ada@x.test").build().unwrap()).await });
    t.until_somebody_waits().await;
    open.commit().await.unwrap();
    let newer = newer.await.unwrap().unwrap().id;
    let worker = t.session().await;
    for delivery in t.claim(worker).await {
        assert_eq!(delivery.superseded, delivery.id.email == older, "{delivery:?}");
        t.settle(worker, &delivery, if delivery.superseded { SUPERSEDED } else { SENT }).await;
    }
    assert_eq!(t.outcomes(older).await, "cancelled superseded 0");
    assert_eq!(t.outcomes(newer).await, "sent accepted 1");
}

#[tokio::test]
async fn what_was_superseded_stays_so_when_it_is_tried_again_by_hand() {
    let t = TestOutbox::new().await;
    let older = t.enqueue(code("ada@x.test")).await;
    t.enqueue(code("ada@x.test")).await;
    assert_eq!(t.outbox.retry(older, "grace").await.unwrap(), Some(1));
    let worker = t.session().await;
    let claimed = t.claim(worker).await;
    assert!(claimed.iter().find(|d| d.id.email == older).unwrap().superseded);
}
