//! SMTP submission to one relay (RFC 5321, RFC 1870, RFC 2920, RFC 3207, RFC 4954, RFC 6531, RFC 8314).
//!
//! lettre's connection is driven command by command; its pooled transport is not used, because it
//! has no deadline after the connect, puts a connection back whose send was cancelled, and takes
//! any 2xx or 3xx for the answer it waits for.

mod address;
mod auth;
mod certificate;
mod classify;
mod connect;
mod connection;
mod content;
mod deadlines;
mod envelope;
mod failure;
mod oauth;
mod offers;
mod pool;
mod tls;
mod wire;

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::recorder::Recorder;
use super::{Gate, Outcome, Parcel, Report, Stage};
use crate::crash::{self, Point};
use crate::settings::{self, ExposeSecret};
use connection::Connection;
use content::Content;
use failure::Failure;
use oauth::Tokens;
use pool::{Pool, Slot};

#[cfg(feature = "providers")]
pub(super) use classify::asked_wait;
pub use deadlines::Deadlines;
pub use tls::{TlsError, machine_roots};

/// A relay, with its connections.
pub struct SmtpTransport {
    name: String,
    relay: settings::Relay,
    deadlines: Deadlines,
    tls: Option<tls::Tls>,
    tokens: Option<Tokens>,
    pool: Pool,
    recorder: Option<Recorder>,
}

impl SmtpTransport {
    /// A transport to this relay, whose certificate is checked against this machine's authorities and
    /// the relay's own.
    ///
    /// # Errors
    /// TLS is asked for and cannot be set up.
    pub fn new(relay: &settings::Relay) -> Result<Self, TlsError> {
        let roots = match relay.tls {
            settings::Tls::None => RootCertStore::empty(),
            settings::Tls::StartTls | settings::Tls::Implicit => match machine_roots() {
                // An authority of one's own is enough.
                Err(TlsError::NoAuthorities) if !relay.authorities.is_empty() => RootCertStore::empty(),
                roots => roots?,
            },
        };
        Self::with_roots(relay, roots, Deadlines::default())
    }

    /// The same, with these authorities in place of the machine's, and these deadlines.
    ///
    /// # Errors
    /// TLS is asked for and cannot be set up.
    pub fn with_roots(
        relay: &settings::Relay,
        roots: RootCertStore,
        deadlines: Deadlines,
    ) -> Result<Self, TlsError> {
        let tls = match relay.tls {
            settings::Tls::None => None,
            settings::Tls::StartTls | settings::Tls::Implicit => Some(tls::Tls::new(relay, roots)?),
        };
        Ok(Self {
            name: format!("smtp:{}", connect::place(relay)).chars().take(64).collect(),
            relay: relay.clone(),
            deadlines,
            tls,
            tokens: relay.oauth.as_ref().map(Tokens::new),
            pool: Pool::new(relay),
            recorder: None,
        })
    }

    /// The same, with what is said on connections that are opened from here on taken down.
    #[must_use]
    pub fn recording(mut self, recorder: Recorder) -> Self {
        if let Some(login) = &self.relay.credentials {
            recorder.hide(&login.password);
            // A mailbox is no secret, and shows elsewhere; anything else may be a key.
            if !login.username.expose_secret().contains('@') {
                recorder.hide(&login.username);
            }
        }
        if let Some(oauth) = &self.relay.oauth {
            recorder.hide(&oauth.client_secret);
        }
        self.recorder = Some(recorder);
        self
    }

    /// `smtp:host:port`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends one mail. Until its last byte it can be stopped by the gate; after it, only the
    /// server's reply or the deadline ends it.
    pub async fn send(&self, parcel: Parcel<'_>, gate: &impl Gate) -> Outcome {
        let content = Content::new(parcel.message);
        let prepared = tokio::select! {
            biased;
            () = gate.closed() => return Outcome::Interrupted,
            prepared = self.prepare(parcel, &content, gate) => prepared,
        };
        match prepared {
            Ok((slot, connection)) => self.commit(slot, connection, &content, gate).await,
            Err(failure) => failure.before_dot(),
        }
    }

    /// Everything up to the last piece of the content.
    async fn prepare(
        &self,
        parcel: Parcel<'_>,
        content: &Content,
        gate: &impl Gate,
    ) -> Result<(Slot, Connection), Failure> {
        let (slot, mut connection) = self.introduce(parcel, content, gate).await?;
        self.recorder.iter().for_each(|recorder| recorder.content(parcel.message));
        let answer = connection.begin_content(content).instrument(stage("content")).await;
        let connection = self.keep_if_refused(&slot, connection, answer)?;
        Ok((slot, connection))
    }

    /// Announces the mail, on whichever connection.
    async fn introduce(
        &self,
        parcel: Parcel<'_>,
        content: &Content,
        gate: &impl Gate,
    ) -> Result<(Slot, Connection), Failure> {
        loop {
            let mut slot = self.pool.slot().await;
            if let Some(connection) = self.reuse(&mut slot, parcel, content, gate).await? {
                return Ok((slot, connection));
            }
            match self.connect().instrument(stage("connect")).await {
                Ok(mut connection) => {
                    let answer =
                        connection.announce(parcel, content, gate).instrument(stage("envelope")).await;
                    let connection = self.keep_if_refused(&slot, connection, answer)?;
                    return Ok((slot, connection));
                }
                // Those that it has are ours: to wait for one of them costs the mail nothing.
                Err(failure) if failure.is_one_too_many() && self.pool.spare(&slot) => {
                    tracing::info!(transport = self.name, "the server wants no more connections for now");
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Announces the mail on a connection that is open already; none when there is none. That the server gave it up
    /// while it idled is no fault of this mail's, and costs it nothing.
    async fn reuse(
        &self,
        slot: &mut Slot,
        parcel: Parcel<'_>,
        content: &Content,
        gate: &impl Gate,
    ) -> Result<Option<Connection>, Failure> {
        let Some((mut connection, idled)) = slot.idle.take() else { return Ok(None) };
        if self.pool.is_stale(&connection, idled) {
            connection.quit().await;
            return Ok(None);
        }
        if idled > self.deadlines.doubted && connection.noop().await.is_err() {
            return Ok(None);
        }
        match connection.announce(parcel, content, gate).instrument(stage("envelope")).await {
            Err(failure) if failure.is_stale_connection() => Ok(None),
            answer => self.keep_if_refused(slot, connection, answer).map(Some),
        }
    }

    /// The last piece: from here on there may be a mail.
    async fn commit(
        &self,
        slot: Slot,
        mut connection: Connection,
        content: &Content,
        gate: &impl Gate,
    ) -> Outcome {
        if !gate.before_dot() {
            return Outcome::Interrupted;
        }
        crash::reach(Point::BeforeDot, "");
        let span = stage("end-of-data");
        if let Err(failure) = connection.end_content(content).instrument(span.clone()).await {
            return failure.before_dot();
        }
        self.recorder.iter().for_each(|recorder| recorder.us("."));
        let verdict = connection.verdict().instrument(span.clone()).await;
        span.record("code", verdict.as_ref().ok().and_then(|report| report.code).map(i64::from));
        drop(span);
        let outcome = match verdict {
            Ok(report) => {
                self.put_back(&slot, connection);
                Outcome::Sent(report)
            }
            Err(failure) => {
                if failure.leaves_connection_usable() {
                    self.put_back(&slot, connection);
                }
                failure.after_dot()
            }
        };
        drop(slot);
        outcome
    }

    /// Hands the connection on after a good answer; after a refusal it goes back to the pool;
    /// after anything else it is dropped.
    fn keep_if_refused(
        &self,
        slot: &Slot,
        connection: Connection,
        answer: Result<(), Failure>,
    ) -> Result<Connection, Failure> {
        match answer {
            Ok(()) => Ok(connection),
            Err(failure) => {
                if connection.in_step && failure.leaves_connection_usable() {
                    self.put_back(slot, connection);
                }
                Err(failure)
            }
        }
    }

    fn put_back(&self, slot: &Slot, connection: Connection) {
        if let Some(done) = self.pool.put_back(connection) {
            // Open until it has said goodbye: it keeps its place so long.
            let permit = Arc::clone(&slot.permit);
            tokio::spawn(async move {
                done.quit().await;
                drop(permit);
            });
        }
    }

    /// Connects, logs in, and says goodbye.
    ///
    /// # Errors
    /// The stage that failed and what was said.
    pub async fn check(&self) -> Result<(), Report> {
        match self.connect().await {
            Ok(connection) => {
                connection.quit().await;
                Ok(())
            }
            Err(failure) => Err(match failure {
                Failure::Refused { stage, code, text } => Report { stage, code: Some(code), text },
                Failure::Broken { stage, text }
                | Failure::Unfit { stage, text }
                | Failure::Undeliverable { stage, text } => Report::new(stage, text),
                Failure::Closed => Report::new(Stage::Connect, "stopped"),
            }),
        }
    }

    /// Says goodbye on connections that idled for too long.
    pub async fn close_idle(&self) {
        while let Some((connection, _slot)) = self.pool.take_stale() {
            connection.quit().await;
        }
    }
}

/// A span of a trace for one part of the conversation; those that need no answer of their own go in one write.
fn stage(name: &'static str) -> Span {
    tracing::info_span!(target: "facteur::trace", "smtp", otel.name = format!("smtp {name}"), otel.kind = "client", code = Empty)
}

impl fmt::Debug for SmtpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpTransport").field("name", &self.name).finish_non_exhaustive()
    }
}
