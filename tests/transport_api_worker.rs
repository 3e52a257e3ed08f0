//! A worker whose way out is an API: the outbox ends as it does with SMTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use facteur::Email;
use facteur::delivery::{Tick, Worker};
use facteur::email::EmailBuilder;
use facteur::settings::Api;
use facteur::testing::{FakeProvider, Provider, Reply, Trouble};
use facteur::transport::Transport;
use facteur::transport::api::ApiTransport;

use support::outbox::{TestOutbox, pace};

fn email() -> EmailBuilder {
    Email::builder("shop@x.test", "ada@x.test", "Your order", "Thank you.").cc("bob@x.test").bcc("eve@x.test")
}

fn worker(t: &TestOutbox, api: &Api) -> Arc<Worker> {
    let transport = Transport::Api(ApiTransport::new(api).unwrap());
    Arc::new(Worker::new(t.outbox.clone(), transport, pace(), "test"))
}

#[tokio::test]
async fn each_recipient_gets_one_copy_through_every_provider() {
    for provider in Provider::ALL {
        let (t, fake) = (TestOutbox::new().await, FakeProvider::start(provider).await.unwrap());
        let worker = worker(&t, &fake.settings());
        let id = t.enqueue(email()).await;
        assert_eq!(worker.tick().await.unwrap(), Tick::Worked(3), "{provider:?}");
        assert_eq!(t.states().await, "sent 3", "{provider:?}");
        let mut got: Vec<_> = fake.taken().into_iter().map(|mail| mail.recipient).collect();
        got.sort();
        assert_eq!(got, ["ada@x.test", "bob@x.test", "eve@x.test"], "{provider:?}");
        assert!(fake.taken().iter().all(|mail| mail.entity_ref == Some(id.to_string())), "{provider:?}");
        let codes = "SELECT count(*) FROM facteur.outcomes WHERE code BETWEEN 200 AND 202";
        assert_eq!(t.number(codes).await, 3, "{provider:?}");
    }
}

#[tokio::test]
async fn one_bad_address_ends_alone_and_a_closed_account_ends_nobody() {
    let (t, fake) = (TestOutbox::new().await, FakeProvider::start(Provider::Postmark).await.unwrap());
    let worker = worker(&t, &fake.settings());
    fake.cue(Reply::trouble(Trouble::Recipient)).for_recipient("bob@x.test");
    fake.cue(Reply::trouble(Trouble::Suspended)).for_recipient("eve@x.test");
    t.enqueue(email()).await;
    worker.tick().await.unwrap();
    assert_eq!(t.states().await, "failed 1, queued 1, sent 1");
    let failed =
        "SELECT concat_ws(' ', recipient, reason, code) FROM facteur.outcomes WHERE final = 'failed'";
    assert_eq!(t.text(failed).await, "bob@x.test rejected 422");
    assert_eq!(t.text("SELECT recipient FROM facteur.deliveries").await, "eve@x.test");
}
