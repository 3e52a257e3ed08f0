use std::fmt::Display;
use std::time::Instant;

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials as LettreCredentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Auth, Data, Mail, Noop, Quit, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use tokio::io::AsyncWriteExt;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::super::{Parcel, Report, Stage};
use super::content::Content;
use super::deadlines::Deadlines;
use super::failure::Failure;
use super::pool::Counted;
use super::wire::Wire;
use crate::crash::{self, Point};
use crate::settings::{Credentials, ExposeSecret};

/// The content leaves in such pieces, each of which has its deadline.
const PIECE: usize = 16_384;

/// One connection, driven command by command: each stage has its deadline and its one right code.
///
/// A connection whose stage did not end is dropped by whoever holds it: the next reply on it would
/// answer the command before.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    wire: Wire,
    deadlines: Deadlines,
    pub(super) born: Instant,
    pub(super) mails: u32,
    /// A refused mail is still open in the server's eyes.
    needs_reset: bool,
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
        // lettre takes any 2xx or 3xx.
        if wire.reply_code() != "250" {
            return Err(Failure::Broken { stage, text: "the server's reply is not one to EHLO".into() });
        }
        Ok(Self {
            smtp,
            wire,
            deadlines,
            born: Instant::now(),
            mails: 0,
            needs_reset: false,
            _counted: counted,
        })
    }

    /// Logs in with PLAIN or LOGIN, whichever the server offers.
    pub(super) async fn auth(&mut self, credentials: &Credentials) -> Result<(), Failure> {
        let given = LettreCredentials::new(
            credentials.username.expose_secret().to_owned(),
            credentials.password.expose_secret().to_owned(),
        );
        let offered = self.smtp.server_info().get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login]);
        let Some(mechanism) = offered else {
            let text = "the server offers neither AUTH PLAIN nor AUTH LOGIN".into();
            return Err(Failure::Unfit { stage: Stage::Auth, text });
        };
        let answer = timeout(self.deadlines.auth, self.log_in(mechanism, given)).await;
        self.judge(Stage::Auth, &[235], answer)
    }

    /// lettre's own loop says QUIT to a refusal behind a challenge, and takes its answer for the refusal's.
    async fn log_in(
        &mut self,
        mechanism: Mechanism,
        given: LettreCredentials,
    ) -> Result<Response, SmtpError> {
        let mut reply = self.smtp.command(Auth::new(mechanism, given.clone(), None)?).await?;
        // LOGIN has two challenges, PLAIN at most one.
        for _ in 0..2 {
            if !reply.has_code(334) {
                break;
            }
            reply = self.smtp.command(Auth::new_from_response(mechanism, given.clone(), &reply)?).await?;
        }
        Ok(reply)
    }

    /// MAIL and RCPT, after RSET when the mail before was refused.
    pub(super) async fn envelope(&mut self, parcel: Parcel<'_>) -> Result<(), Failure> {
        if self.needs_reset {
            // Whatever the answer, it is not about this mail: a new connection needs no RSET.
            let reset = self.command(Stage::Mail, Rset, &[250]).await;
            reset.map_err(|_| Failure::Broken { stage: Stage::Mail, text: "RSET was refused".into() })?;
            self.needs_reset = false;
        }
        let from = address(Stage::Mail, parcel.from)?;
        let to = address(Stage::Rcpt, parcel.to)?;
        crash::reach(Point::AfterConnect, parcel.to);
        self.command(Stage::Mail, Mail::new(Some(from), vec![]), &[250]).await?;
        crash::reach(Point::AfterMail, parcel.to);
        self.command(Stage::Rcpt, Rcpt::new(to, vec![]), &[250, 251, 252]).await?;
        crash::reach(Point::AfterRcpt, parcel.to);
        Ok(())
    }

    /// DATA, and all of the content but its last piece.
    pub(super) async fn begin_content(&mut self, content: &Content) -> Result<(), Failure> {
        self.command(Stage::Data, Data, &[354]).await?;
        crash::reach(Point::AfterData, "");
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
        self.write_piece(content.last()).await
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

    async fn command(
        &mut self,
        stage: Stage,
        command: impl Display,
        expected: &[u16],
    ) -> Result<(), Failure> {
        let answer = timeout(self.deadlines.command, self.smtp.command(command)).await;
        self.judge(stage, expected, answer)
    }

    fn judge(
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
            Ok(Ok(reply)) => {
                let text = format!("the server answered {} where that is no answer", u16::from(reply.code()));
                Err(Failure::Broken { stage, text })
            }
        }
    }
}

/// A 4xx or 5xx reply is a refusal; anything else that lettre reports is a broken connection.
fn failure(stage: Stage, error: &SmtpError, wire: &Wire) -> Failure {
    match error.status() {
        Some(code) => Failure::Refused { stage, code: code.into(), text: wire.reply_text() },
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

fn address(stage: Stage, text: &str) -> Result<lettre::Address, Failure> {
    // Checked long ago; a row that somebody wrote by hand may still be anything.
    text.parse().map_err(|_| Failure::Refused { stage, code: 553, text: "5.1.3 not an address".into() })
}
