//! MAIL, RCPT and DATA: one after the other, or in one write (RFC 2920).

use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::MailParameter;
use tokio::time::timeout;

use super::super::{Gate, Parcel, Stage};
use super::address::EnvelopeAddress;
use super::connection::Connection;
use super::content::Content;
use super::failure::Failure;
use crate::crash::{self, Point};

/// A command with the stage it is and the replies that are good for it.
struct Step {
    stage: Stage,
    command: String,
    expected: &'static [u16],
    then: Option<Point>,
}

impl Step {
    fn new(
        stage: Stage,
        command: impl ToString,
        expected: &'static [u16],
        then: impl Into<Option<Point>>,
    ) -> Self {
        Self { stage, command: command.to_string(), expected, then: then.into() }
    }

    fn is_reset(&self) -> bool {
        self.then.is_none()
    }
}

impl Connection {
    /// Announces a mail, up to the reply to DATA, before which the gate is asked.
    pub(super) async fn announce(
        &mut self,
        parcel: Parcel<'_>,
        content: &Content,
        gate: &impl Gate,
    ) -> Result<(), Failure> {
        let mut steps = self.steps(parcel, content)?;
        crash::reach(Point::AfterConnect, parcel.to);
        if self.offers.pipelining {
            if !gate.before_data().await {
                return Err(Failure::Closed);
            }
            return self.at_once(&steps, parcel.to).await;
        }
        let data = steps.split_off(steps.len() - 1);
        self.one_by_one(&steps, parcel.to).await?;
        if !gate.before_data().await {
            return Err(Failure::Closed);
        }
        self.one_by_one(&data, parcel.to).await
    }

    /// What is to be said, RSET first when the mail before was refused.
    fn steps(&self, parcel: Parcel<'_>, content: &Content) -> Result<Vec<Step>, Failure> {
        let from = EnvelopeAddress::new(Stage::Mail, parcel.from, &self.offers)?;
        let to = EnvelopeAddress::new(Stage::Rcpt, parcel.to, &self.offers)?;
        let mut parameters = Vec::new();
        if self.offers.size {
            parameters.push(MailParameter::Size(self.announced_size(content)?));
        }
        if from.needs_utf8 || to.needs_utf8 {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let mail = Mail::new(Some(from.address), parameters);
        let steps = [
            Step::new(Stage::Mail, mail, &[250], Point::AfterMail),
            Step::new(Stage::Rcpt, Rcpt::new(to.address, vec![]), &[250, 251, 252], Point::AfterRcpt),
            Step::new(Stage::Data, Data, &[354], Point::AfterData),
        ];
        let reset = self.needs_reset.then(|| Step::new(Stage::Mail, Rset, &[250], None));
        Ok(reset.into_iter().chain(steps).collect())
    }

    /// RFC 1870 §6.1: a mail over the server's limit is not sent to be refused.
    fn announced_size(&self, content: &Content) -> Result<usize, Failure> {
        let size = content.message_size();
        if let Some(largest) = self.offers.largest.filter(|largest| size > *largest) {
            let text = format!("the message has {size} bytes, and the server takes {largest} at most");
            return Err(Failure::Undeliverable { stage: Stage::Mail, text });
        }
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }

    async fn one_by_one(&mut self, steps: &[Step], to: &str) -> Result<(), Failure> {
        for step in steps {
            let answer = self.command(step.stage, &step.command, step.expected).await;
            if step.is_reset() {
                answer.map_err(|_| unreset())?;
                self.needs_reset = false;
            } else {
                answer?;
            }
            step.reached(to);
        }
        Ok(())
    }

    /// One write, and a reply for each command. The first refusal is what became of the mail, but all
    /// replies are heard before the connection may be used again.
    async fn at_once(&mut self, steps: &[Step], to: &str) -> Result<(), Failure> {
        let group: String = steps.iter().map(|step| step.command.as_str()).collect();
        match timeout(self.deadlines.command, self.wire.write_group(group.as_bytes())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failure::Broken { stage: Stage::Mail, text: error.to_string() }),
            Err(_) => return Err(Failure::late(Stage::Mail)),
        }
        let mut refused = None;
        for step in steps {
            self.wire.next_reply();
            let code = match self.reply(step.stage, self.deadlines.command).await {
                Ok(code) => code,
                // Lost behind a refusal: that was heard, in order.
                Err(broken) => return Err(self.let_go(refused.unwrap_or(broken))),
            };
            if step.is_reset() {
                self.needs_reset = code != 250;
                if self.needs_reset {
                    return Err(unreset());
                }
            } else if step.expected.contains(&code) {
                if refused.is_none() {
                    step.reached(to);
                } else if step.stage == Stage::Data {
                    // "Go on" without anybody to go to. RFC 2920 §3.1 lets a client end such a mail with
                    // a lone dot; a server that is wrong about this may be wrong about that, too, and an
                    // empty mail cannot be taken back. Without a dot there is none.
                    return Err(self.let_go(refused.unwrap_or(Failure::Closed)));
                }
            } else {
                let failure = self.unexpected(step.stage, code);
                if code == 421 || !matches!(failure, Failure::Refused { .. }) {
                    return Err(self.let_go(if code == 421 { refused.unwrap_or(failure) } else { failure }));
                }
                refused.get_or_insert(failure);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The same failure, after which the connection is nobody's.
    fn let_go(&mut self, failure: Failure) -> Failure {
        self.in_step = false;
        failure
    }
}

impl Step {
    fn reached(&self, to: &str) {
        // The recipient is unknown to those that wait for content.
        let to = if self.stage == Stage::Data { "" } else { to };
        if let Some(point) = self.then {
            crash::reach(point, to);
        }
    }
}

/// Whatever the answer, it is not about this mail: a new connection needs no RSET.
fn unreset() -> Failure {
    Failure::Broken { stage: Stage::Mail, text: "RSET was refused".into() }
}
