//! One e-mail with everything, its parcels, and transports that are quick to give up.

use std::sync::LazyLock;
use std::time::Duration;

use facteur::Attachment;
use facteur::email::{Header, StoredEmail};
use facteur::testing::{FakeProvider, Provider};
use facteur::transport::api::{ApiTransport, Deadlines};
use facteur::transport::{Gate, Outcome, Parcel};
use rustls::RootCertStore;

pub(crate) const ADA: &str = "ada@example.test";

/// To two people, one copy in Cc, text and HTML, an inline image, a file.
pub(crate) static EMAIL: LazyLock<StoredEmail> = LazyLock::new(|| StoredEmail {
    id: "019aa000-0000-7000-8000-000000000001".parse().unwrap(),
    message_id: "019aa000@example.test".into(),
    date: time::OffsetDateTime::UNIX_EPOCH,
    boundary: "b0".into(),
    from: "\"Shop, the\" <shop@example.test>".parse().unwrap(),
    to: vec!["Ada Lovelace <ada@example.test>".parse().unwrap(), "grace@example.test".parse().unwrap()],
    cc: vec!["Évariste \"É\" Galois <evariste@example.test>".parse().unwrap()],
    reply_to: vec!["help@example.test".parse().unwrap()],
    subject: "Votre commande nº 7".into(),
    text: Some("Merci.".into()),
    html: Some("<p>Merci.</p><img src=\"cid:logo\">".into()),
    headers: vec![
        Header { name: "X-Campaign".into(), value: "été".into() },
        Header { name: "List-Unsubscribe".into(), value: "<https://example.test/u>".into() },
    ],
    attachments: vec![
        Attachment::new("logo.png", "image/png", vec![137, 80, 78, 71, 0, 255]).inline("logo"),
        Attachment::new("reçu.pdf", "application/pdf", b"%PDF-1.7".to_vec()),
    ],
});

/// Answers as it was told, and remembers nothing.
#[derive(Clone, Copy)]
pub(crate) struct FixedGate {
    pub(crate) data: bool,
    pub(crate) dot: bool,
    pub(crate) closed: bool,
}

pub(crate) const OPEN: FixedGate = FixedGate { data: true, dot: true, closed: false };

impl Gate for FixedGate {
    async fn before_data(&self) -> bool {
        self.data
    }

    fn before_dot(&self) -> bool {
        self.dot
    }

    async fn closed(&self) {
        if !self.closed {
            std::future::pending().await
        }
    }
}

/// To connect within so long, and twice as long for all of it.
pub(crate) fn within(each: Duration) -> Deadlines {
    Deadlines { connect: each, whole: 2 * each, body: each }
}

/// With deadlines that only a broken server meets.
pub(crate) fn way(fake: &FakeProvider) -> ApiTransport {
    ApiTransport::with_roots(&fake.settings(), RootCertStore::empty(), within(Duration::from_secs(20)))
        .unwrap()
}

pub(crate) async fn send(way: &ApiTransport, email: &StoredEmail, to: &str) -> Outcome {
    send_through(way, email, to, OPEN).await
}

pub(crate) async fn send_through(
    way: &ApiTransport,
    email: &StoredEmail,
    to: &str,
    gate: FixedGate,
) -> Outcome {
    let message = email.render().unwrap();
    way.send(Parcel { from: email.from.address.as_str(), to, message: &message, email }, &gate).await
}

/// A fake of each provider.
pub(crate) async fn fakes() -> Vec<(Provider, FakeProvider)> {
    let mut fakes = Vec::new();
    for provider in Provider::ALL {
        fakes.push((provider, FakeProvider::start(provider).await.unwrap()));
    }
    fakes
}
