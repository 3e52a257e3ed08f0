use facteur::email::Priority;

use crate::SENT;
use crate::support::outbox::{LEASE, TestOutbox, email_to};

#[tokio::test]
async fn the_lowest_is_begun_within_ten_claims_under_a_flood_of_the_most_urgent() {
    for first_turn in [0, 3, 9] {
        let t = TestOutbox::new().await;
        t.enqueue(email_to("low@x.test").priority(Priority::Low)).await;
        let worker = t.session().await;
        let mut claims = 0;
        let begun = 'flood: loop {
            for _ in 0..5 {
                t.enqueue(email_to("urgent@x.test").priority(Priority::Urgent)).await;
            }
            let claimed = t.outbox.claim(worker, 5, LEASE, first_turn + claims).await.unwrap();
            claims += 1;
            assert_eq!(claimed.len(), 5, "there is always more to do than is taken");
            for delivery in &claimed {
                t.settle(worker, delivery, SENT).await;
                if delivery.recipient == "low@x.test" {
                    break 'flood claims;
                }
            }
            assert!(claims < 20, "starved");
        };
        assert!(begun <= 10, "begun at claim {begun}");
    }
}
