//! `facteur send`: one mail by hand, and the conversation that it takes.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::AppError;
use crate::email::{Email, StoredEmail};
use crate::settings::{Kind, Outgoing, Way};
use crate::transport::{Gate, Outcome, Parcel, Recorder, Report, Said, Speaker, Stage, Transport};

/// What to send, and which way.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The recipient.
    pub to: &'a str,
    /// The sender; the settings' own when unset.
    pub from: Option<&'a str>,
    /// The subject.
    pub subject: &'a str,
    /// The text.
    pub text: &'a str,
    /// The way out by its name; the first when unset.
    pub transport: Option<&'a str>,
}

/// Sends one mail, past the outbox, and shows what is said on the way; secrets are masked.
///
/// # Errors
/// The e-mail or the way is not one, or the mail was not sent; what became of it is on `out`.
pub async fn send(settings: &Outgoing, trial: Trial<'_>, out: &mut impl Write) -> Result<(), AppError> {
    let email = email(settings, trial)?;
    let way = way(settings, trial.transport)?;
    let message = email.render().map_err(|error| AppError::Unrenderable(error.to_string()))?;
    let (recorder, mut said) = Recorder::new();
    let transport = Transport::open(&way)?.recording(recorder.clone());
    // A closed pipe is no reason to stop: the exit code still tells.
    let mut say = |line: &str| drop(writeln!(out, "{line}"));
    let (from, to) = (email.from.address.as_str(), email.to[0].address.as_str());
    say(&format!("{}: from {from} to {to}", way.name));
    if !(way.domains.is_empty() || way.domains.iter().any(|domain| domain == email.from.address.domain())) {
        say("Note: its domains= would keep the worker from sending mail of this sender this way.");
    }
    let outcome = {
        let mut sending = pin!(async {
            let outcome =
                transport.send(Parcel { from, to, message: &message, email: &email }, &OpenGate).await;
            // It says goodbye.
            transport.close_idle().await;
            outcome
        });
        loop {
            tokio::select! {
                biased;
                Some(line) = said.recv() => say(&shown(&line)),
                outcome = &mut sending => break outcome,
            }
        }
    };
    while let Ok(line) = said.try_recv() {
        say(&shown(&line));
    }
    let reply = outcome.report().map(|report| recorder.clean(&in_words(report))).unwrap_or_default();
    say(&format!("\n{} {reply}\n{}", name(&outcome), next(&outcome)));
    if matches!(outcome, Outcome::Sent(_)) { Ok(()) } else { Err(AppError::NotSent) }
}

/// The way of that name; its connection is closed as soon as it is not needed.
fn way(settings: &Outgoing, name: Option<&str>) -> Result<Way, AppError> {
    let found = settings.ways.iter().find(|way| name.is_none_or(|name| way.name == name));
    let mut way = found.cloned().ok_or_else(|| AppError::no_such_transport(name, &settings.ways))?;
    if let Kind::Smtp(relay) = &mut way.kind {
        relay.idle_timeout = Duration::ZERO;
    }
    Ok(way)
}

/// As the outbox would keep it.
fn email(settings: &Outgoing, trial: Trial<'_>) -> Result<StoredEmail, AppError> {
    let from = trial.from.unwrap_or(&settings.sender);
    let checked = Email::builder(from, trial.to, trial.subject, trial.text).build()?;
    let id = Uuid::now_v7();
    Ok(StoredEmail {
        id: id.into(),
        message_id: format!("{id}@{}", checked.from.address.domain()),
        date: OffsetDateTime::now_utc(),
        boundary: format!("facteur{}", Uuid::new_v4().simple()),
        from: checked.from,
        to: checked.to,
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: checked.subject,
        text: checked.text,
        html: None,
        headers: Vec::new(),
        attachments: Vec::new(),
    })
}

/// `  0.012s < 250 ok`
fn shown(line: &Said) -> String {
    let mark = match line.speaker {
        Speaker::Us => '>',
        Speaker::Them => '<',
        Speaker::Note => '*',
    };
    format!("{:7.3}s {mark} {}", line.at.as_secs_f64(), line.text).trim_end().to_owned()
}

fn in_words(report: &Report) -> String {
    let code = report.code.map(|code| format!("{code} ")).unwrap_or_default();
    format!("({}: {code}{})", report.stage, report.text)
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent(_) => "SENT: the server took the mail",
        Outcome::Retry(..) => "NOT SENT, for now",
        Outcome::Reject(_) => "NOT SENT: this recipient or this message is refused for good",
        Outcome::Unusable(_) => "NOT SENT: this way cannot be used",
        Outcome::Unknown(_) => "NOBODY KNOWS: the connection was lost behind the last byte",
        Outcome::Interrupted => "NOT SENT: interrupted",
    }
}

/// What a person does next.
fn next(outcome: &Outcome) -> &'static str {
    let stage = outcome.report().map(|report| report.stage);
    match (outcome, stage) {
        (Outcome::Sent(_), _) => {
            "Next: look into the mailbox. If it is not there, look among the junk, then ask the server's log."
        }
        (Outcome::Unknown(_), _) => "Next: look into the mailbox before you send it again: it may be there.",
        (Outcome::Interrupted, _) => "Next: send it again.",
        (_, Some(Stage::Connect)) => {
            "Next: are host and port right, does the server run, does a firewall stand in between?"
        }
        (_, Some(Stage::Tls | Stage::StartTls)) => {
            "Next: are port and TLS right (465 implicit, 587 starttls)? For an authority of your own there is SMTP_CA_FILE."
        }
        (_, Some(Stage::Auth | Stage::Account)) => {
            "Next: are user name, password or key right, and may this account send by this way?"
        }
        (Outcome::Reject(_), _) => {
            "Next: is the recipient's address right? If it is, the reply above says what is wrong."
        }
        (Outcome::Unusable(_), _) => {
            "Next: the reply above says what the server wants: often another sender, a verified domain or more quota."
        }
        _ => {
            "Next: send it again in a while. The worker would try it again by itself, or go on to the next transport."
        }
    }
}

/// Nothing stands in the way: there is no lease to lose.
struct OpenGate;

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
