use std::fmt::Display;
use std::time::{Duration, Instant};

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Noop, Quit};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use tokio::io::AsyncWriteExt;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::super::recorder::Mode;
use super::super::{Report, Stage};
use super::content::Content;
use super::deadlines::Deadlines;
use super::failure::Failure;
use super::offers::Offers;
use super::pool::Counted;
use super::wire::Wire;
use crate::crash::{self, Point};

/// The content leaves in such pieces, each of which has its deadline.
const PIECE: usize = 16_384;

/// One connection, driven command by command: each stage has its deadline and its one right code.
///
/// A connection whose stage did not end is dropped by whoever holds it: the next reply on it would
/// answer the command before.
pub(super) struct Connection {
    pub(super) smtp: AsyncSmtpConnection,
    pub(super) wire: Wire,
    pub(super) deadlines: Deadlines,
    pub(super) offers: Offers,
    pub(super) born: Instant,
    pub(super) mails: u32,
    /// A refused mail is still open in the server's eyes.
    pub(super) needs_reset: bool,
    /// Every reply that was asked for has come, and the server waits for a command.
    pub(super) in_step: bool,
    _counted: Counted,
}

impl Connection {
    /// EHLO; the greeting was heard.
    pub(super) async fn open(
        wire: Wire,
        hello: &ClientId,
        deadlines: Deadlines,
        counted: Counted,
    ) -> Result<Self, Failure> {
        let opening = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), hello);
        let stage = Stage::Ehlo;
        let smtp = match timeout(deadlines.ehlo, opening).await {
            Ok(Ok(smtp)) => smtp,
            Ok(Err(error)) => return Err(failure(stage, &error, &wire)),
            Err(_) => return Err(Failure::late(stage)),
        };
        wire.opened();
        // lettre takes any 2xx or 3xx.
        if wire.reply_code() != "250" {
            return Err(Failure::Broken { stage, text: "the server's reply is not one to EHLO".into() });
        }
        let offers = Offers::read(wire.reply_lines().iter().map(String::as_str));
        Ok(Self {
            smtp,
            wire,
            deadlines,
            offers,
            born: Instant::now(),
            mails: 0,
            needs_reset: false,
            in_step: true,
            _counted: counted,
        })
    }

    /// All of the content but its last piece.
    pub(super) async fn begin_content(&mut self, content: &Content) -> Result<(), Failure> {
        self.wire.show(Mode::Content);
        let whole = timeout(self.deadlines.body_of(content.len()), async {
            for piece in content.all_but_last().chunks(PIECE) {
                self.write_piece(piece).await?;
                crash::reach(Point::MidBody, "");
            }
            Ok(())
        });
        whole.await.unwrap_or_else(|_| Err(Failure::late(Stage::Body)))
    }

    async fn write_piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match timeout(self.deadlines.body, self.wire.write_all(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Broken { stage: Stage::Body, text: error.to_string() }),
            Err(_) => Err(Failure::late(Stage::Body)),
        }
    }

    /// Hands over the last piece. When it fails, the dot at its end has not left, and there is no mail.
    pub(super) async fn end_content(&mut self, content: &Content) -> Result<(), Failure> {
        let written = self.write_piece(content.last()).await;
        self.wire.show(Mode::Commands);
        written
    }

    /// The reply that decides.
    pub(super) async fn verdict(&mut self) -> Result<Report, Failure> {
        let stage = Stage::EndOfData;
        match timeout(self.deadlines.body, self.wire.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failure::Broken { stage, text: error.to_string() }),
            Err(_) => return Err(Failure::late(stage)),
        }
        crash::reach(Point::AfterDot, "");
        let answer = timeout(self.deadlines.end_of_data, self.smtp.read_response()).await;
        self.judge(stage, &[250], answer)?;
        self.mails += 1;
        Ok(Report { stage, code: Some(250), text: self.wire.reply_text() })
    }

    /// Whether a connection that idled is still one.
    pub(super) async fn noop(&mut self) -> Result<(), Failure> {
        let answer = timeout(self.deadlines.noop, self.smtp.command(Noop)).await;
        self.judge(Stage::Noop, &[250], answer)
    }

    /// Says goodbye; the answer does not matter.
    pub(super) async fn quit(mut self) {
        // An error here cannot change what became of any mail.
        let _ = timeout(self.deadlines.quit, self.smtp.command(Quit)).await;
    }

    pub(super) async fn command(
        &mut self,
        stage: Stage,
        command: impl Display,
        expected: &[u16],
    ) -> Result<(), Failure> {
        let answer = timeout(self.deadlines.command, self.smtp.command(command)).await;
        self.judge(stage, expected, answer)
    }

    /// The code of the next reply, whatever it is.
    pub(super) async fn reply(&mut self, stage: Stage, deadline: Duration) -> Result<u16, Failure> {
        match timeout(deadline, self.smtp.read_response()).await {
            Err(_) => Err(Failure::late(stage)),
            Ok(Ok(reply)) => Ok(reply.code().into()),
            Ok(Err(error)) => match error.status() {
                Some(code) => Ok(code.into()),
                None => Err(failure(stage, &error, &self.wire)),
            },
        }
    }

    /// What a code means that is not one of those that were waited for.
    pub(super) fn unexpected(&mut self, stage: Stage, code: u16) -> Failure {
        if !(400..=599).contains(&code) {
            let text = format!("the server answered {code} where that is no answer");
            return Failure::Broken { stage, text };
        }
        self.needs_reset = true;
        Failure::Refused { stage, code, text: self.wire.reply_text() }
    }

    pub(super) fn judge(
        &mut self,
        stage: Stage,
        expected: &[u16],
        answer: Result<Result<Response, SmtpError>, Elapsed>,
    ) -> Result<(), Failure> {
        match answer {
            Err(_) => Err(Failure::late(stage)),
            Ok(Err(error)) => {
                self.needs_reset = true;
                Err(failure(stage, &error, &self.wire))
            }
            Ok(Ok(reply)) if expected.contains(&u16::from(reply.code())) => Ok(()),
            Ok(Ok(reply)) => Err(self.unexpected(stage, reply.code().into())),
        }
    }
}

/// A 4xx or 5xx reply is a refusal; anything else that lettre reports is a broken connection.
fn failure(stage: Stage, error: &SmtpError, wire: &Wire) -> Failure {
    match error.status() {
        Some(code) => Failure::Refused { stage, code: code.into(), text: wire.reply_text() },
        None if wire.certificate_refused() => {
            let text = "the server does not take our certificate, or wants one".into();
            Failure::Unfit { stage: Stage::Tls, text }
        }
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            Failure::Broken { stage, text }
        }
    }
}
