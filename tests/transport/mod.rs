//! A transport with short deadlines, a gate that is always open, and one small mail.

use std::sync::LazyLock;
use std::time::Duration;

use facteur::email::StoredEmail;
use facteur::settings::Relay;
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use facteur::transport::{Gate, Outcome, Parcel};
use rustls::RootCertStore;

pub(crate) const FROM: &str = "shop@example.test";
pub(crate) const MESSAGE: &[u8] = b"Subject: hello\r\n\r\nGood day.\r\n";

/// What an SMTP transport has no use for.
pub(crate) static EMAIL: LazyLock<StoredEmail> = LazyLock::new(|| StoredEmail {
    id: "019aa000-0000-7000-8000-000000000001".parse().unwrap(),
    message_id: "019aa000@example.test".into(),
    date: time::OffsetDateTime::UNIX_EPOCH,
    boundary: "b".into(),
    from: FROM.parse().unwrap(),
    to: vec!["ada@example.test".parse().unwrap()],
    cc: vec![],
    reply_to: vec![],
    subject: "hello".into(),
    text: Some("Good day.".into()),
    html: None,
    headers: vec![],
    attachments: vec![],
});

/// Nothing stands in the way.
pub(crate) struct OpenGate;

impl Gate for OpenGate {
    async fn before_data(&self) -> bool {
        true
    }

    fn before_dot(&self) -> bool {
        true
    }

    async fn closed(&self) {
        std::future::pending().await
    }
}

/// The same deadline for each stage.
pub(crate) fn deadlines(each: Duration) -> Deadlines {
    Deadlines {
        connect: each,
        tls: each,
        banner: each,
        ehlo: each,
        auth: each,
        command: each,
        body: each,
        end_of_data: each,
        noop: each,
        quit: each,
        ..Deadlines::default()
    }
}

/// With deadlines that only a broken server meets, trusting nobody.
pub(crate) fn patient(relay: &Relay) -> SmtpTransport {
    let each = deadlines(Duration::from_secs(10));
    SmtpTransport::with_roots(relay, RootCertStore::empty(), each).unwrap()
}

pub(crate) async fn send(transport: &SmtpTransport, to: &str) -> Outcome {
    transport.send(Parcel { from: FROM, to, message: MESSAGE, email: &EMAIL }, &OpenGate).await
}
