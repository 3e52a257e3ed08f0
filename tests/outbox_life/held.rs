//! Parked by the many: the queue after a restore, and a person's word on it.

use std::time::Duration;

use facteur::email::OnUnknown;
use facteur::outbox::{HeldChoice, HeldPlace};

use crate::support::outbox::{LEASE, TestOutbox, email_to};

const ALL: HeldChoice = HeldChoice { emails: None, before: None, expired: false };

/// Steps of two, so that there are several.
async fn hold(t: &TestOutbox) -> u64 {
    let since = t.outbox.now().await.unwrap();
    let mut all = 0;
    loop {
        let step = t.outbox.hold_queue(since, 2).await.unwrap();
        all += step.parked;
        if step.is_all {
            return all;
        }
    }
}

async fn release(t: &TestOutbox, choice: &HeldChoice) -> u64 {
    let (mut place, mut all) = (HeldPlace::default(), 0);
    loop {
        match t.outbox.release_held(choice, &mut place, 2, "grace").await.unwrap() {
            0 => return all,
            step => all += step,
        }
    }
}

#[tokio::test]
async fn what_was_in_the_queue_is_parked_and_new_mail_flows() {
    let t = TestOutbox::new().await;
    let old = t.enqueue(email_to("a@x.test").to("b@x.test").to("c@x.test")).await;
    let later = t.outbox.now().await.unwrap() + Duration::from_secs(3_600);
    t.enqueue(email_to("scheduled@x.test").scheduled_at(later)).await;
    t.enqueue(email_to("choosy@x.test").on_unknown(OnUnknown::Hold)).await;
    assert_eq!(hold(&t).await, 5);
    assert_eq!(t.states().await, "unknown 5");
    assert_eq!(t.events(old).await, "accepted, held, held, held");
    let why = t.text("SELECT DISTINCT detail FROM facteur.events WHERE kind = 'held'").await;
    assert!(why.contains("MAIL_HOLD_ON_START"), "{why}");

    t.enqueue(email_to("new@x.test")).await;
    let worker = t.session().await;
    let claimed = t.claim(worker).await;
    assert_eq!(claimed.iter().map(|d| d.recipient.as_str()).collect::<Vec<_>>(), ["new@x.test"]);

    assert_eq!(release(&t, &ALL).await, 5);
    let claimed = t.claim(t.session().await).await;
    let choosy: Vec<_> = claimed.iter().filter(|d| d.hold_unknown).map(|d| &*d.recipient).collect();
    assert_eq!((claimed.len(), choosy), (4, vec!["choosy@x.test"]), "each as its caller chose, in its time");
    let actor = "SELECT string_agg(DISTINCT actor, ',') FROM facteur.events WHERE kind = 'retried'";
    assert_eq!(t.text(actor).await, "grace");
}

#[tokio::test]
async fn what_was_being_sent_at_the_time_of_the_backup_is_parked_as_its_lease_ends() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("old@x.test")).await;
    let lost = t.session().await;
    assert_eq!(t.claim(lost).await.len(), 1);
    let since = t.outbox.now().await.unwrap();
    assert_eq!(hold(&t).await, 0, "it may be a living worker's");
    t.enqueue(email_to("new@x.test")).await;
    let younger = t.session().await;
    assert_eq!(t.claim(younger).await.len(), 1);
    for session in [lost, younger] {
        t.outbox.end_session(session).await.unwrap();
    }
    let reaped = t.outbox.reap_holding(Some(since)).await.unwrap();
    assert_eq!((reaped.parked, reaped.requeued), (1, 1));
    assert_eq!(
        t.text("SELECT recipient FROM facteur.deliveries WHERE state = 'unknown'").await,
        "old@x.test"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_park_each_mail_once_beside_others_that_claim() {
    let t = TestOutbox::new().await;
    for n in 0..40 {
        t.enqueue(email_to(&format!("a{n}@x.test"))).await;
    }
    let since = t.outbox.now().await.unwrap();
    let park = || async {
        let mut all = 0;
        loop {
            let step = t.outbox.hold_queue(since, 3).await.unwrap();
            all += step.parked;
            if step.is_all {
                return all;
            }
        }
    };
    let claim = || async {
        let mut all = 0;
        let session = t.session().await;
        loop {
            match t.outbox.claim(session, 3, LEASE, 0).await.unwrap().len() as u64 {
                0 => return all,
                claimed => all += claimed,
            }
        }
    };
    let (one, two, claimed) = tokio::join!(park(), park(), claim());
    assert_eq!(one + two + claimed, 40);
    let parked = t.number("SELECT count(*) FROM facteur.deliveries WHERE state = 'unknown'").await;
    assert_eq!(parked.unsigned_abs(), one + two);
    assert_eq!(t.number("SELECT count(*) FROM facteur.events WHERE kind = 'held'").await, parked);
}

#[tokio::test]
async fn what_has_expired_is_released_only_when_it_is_said() {
    let t = TestOutbox::new().await;
    let stale = t.enqueue(email_to("code@x.test")).await;
    let fresh = t.enqueue(email_to("letter@x.test")).await;
    hold(&t).await;
    t.execute(
        "UPDATE facteur.deliveries SET expires_at = now() - interval '1 s' WHERE recipient = 'code@x.test'",
    )
    .await;
    assert_eq!(t.outbox.count_held(&ALL).await.unwrap(), (1, 1));
    let listed = t.outbox.list_held(10).await.unwrap();
    assert_eq!(
        listed.iter().map(|v| (v.id.email, v.expired)).collect::<Vec<_>>(),
        [(stale, true), (fresh, false)]
    );
    assert_eq!(release(&t, &ALL).await, 1);
    assert_eq!(t.states().await, "queued 1, unknown 1");
    let one = HeldChoice { emails: Some(vec![stale]), expired: true, ..HeldChoice::default() };
    assert_eq!(release(&t, &one).await, 1);
    let claimed = t.claim(t.session().await).await;
    assert!(claimed.len() == 2 && claimed.iter().all(|d| !d.expired), "{claimed:?}");
}

#[tokio::test]
async fn a_person_chooses_by_time_and_by_id_and_gives_up_what_was_sent() {
    let t = TestOutbox::new().await;
    let first = t.enqueue(email_to("first@x.test")).await;
    let between = t.outbox.now().await.unwrap();
    let second = t.enqueue(email_to("second@x.test")).await;
    let third = t.enqueue(email_to("third@x.test")).await;
    hold(&t).await;
    let earlier = HeldChoice { before: Some(between), ..HeldChoice::default() };
    assert_eq!(release(&t, &earlier).await, 1);
    let named = HeldChoice { emails: Some(vec![second]), ..HeldChoice::default() };
    let mut place = HeldPlace::default();
    assert_eq!(t.outbox.give_up_held(&named, &mut place, 100, "grace").await.unwrap(), 1);
    assert_eq!(t.outbox.give_up_held(&named, &mut place, 100, "grace").await.unwrap(), 0);
    assert_eq!(t.states().await, "failed 1, queued 1, unknown 1");
    assert_eq!(t.text("SELECT reason FROM facteur.outcomes").await, "unknown");
    assert_eq!(t.events(first).await, "accepted, held, retried");
    assert_eq!(t.events(second).await, "accepted, held, failed");
    // One by one works too, and gives the caller's choice back.
    assert_eq!(t.outbox.retry(third, "grace").await.unwrap(), Some(1));
    assert_eq!(t.number("SELECT count(*) FROM facteur.deliveries WHERE hold_unknown").await, 0);
}

#[tokio::test]
async fn what_was_withdrawn_is_not_parked_and_never_sent() {
    let t = TestOutbox::new().await;
    t.enqueue(email_to("withdrawn@x.test")).await;
    t.execute("UPDATE facteur.deliveries SET cancel_requested = true").await;
    assert_eq!(hold(&t).await, 0);
    let claimed = t.claim(t.session().await).await;
    assert!(claimed.len() == 1 && claimed[0].withdrawn, "who claims it ends it: {claimed:?}");
}
