//! A transport with short deadlines, a gate that is always open, and one small mail.

use std::time::Duration;

use facteur::settings::Relay;
use facteur::transport::smtp::{Deadlines, SmtpTransport};
use facteur::transport::{Gate, Outcome, Parcel};
use rustls::RootCertStore;

pub const FROM: &str = "shop@example.test";
pub const MESSAGE: &[u8] = b"Subject: hello\r\n\r\nGood day.\r\n";

/// Nothing stands in the way.
pub struct OpenGate;

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
pub fn deadlines(each: Duration) -> Deadlines {
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
    }
}

/// To a relay in clear, with deadlines that only a broken server meets.
pub fn patient(relay: &Relay) -> SmtpTransport {
    trusting(relay, RootCertStore::empty())
}

/// The same, trusting these authorities.
pub fn trusting(relay: &Relay, roots: RootCertStore) -> SmtpTransport {
    SmtpTransport::with_roots(relay, roots, deadlines(Duration::from_secs(10))).unwrap()
}

pub async fn send(transport: &SmtpTransport, to: &str) -> Outcome {
    transport.send(Parcel { from: FROM, to, message: MESSAGE }, &OpenGate).await
}
