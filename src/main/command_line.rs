//! What can be asked of the program: commands, their arguments, and how these are read.

use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use facteur::EmailId;
use facteur::app::{HeldChoice, When};
use facteur::settings;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Facteur, the postman: a mail backend with a durable outbox.
#[derive(Parser)]
#[command(name = "facteur", version, about, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Dies at this place: for the fault suite
    #[cfg(feature = "crash-points")]
    #[arg(long, global = true, hide = true)]
    pub(super) crash_at: Option<facteur::crash::Crash>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Runs everything on this machine for development: API, worker, inbox and, without
    /// DATABASE_URL, a Postgres of its own
    #[cfg(feature = "local")]
    Dev,
    /// Runs the HTTP API and a worker
    Serve {
        /// The API alone; workers run elsewhere
        #[arg(long)]
        no_worker: bool,
    },
    /// Runs a worker without the API
    Worker,
    /// Brings the database schema up to date and ends
    Migrate,
    /// Prints a bearer token, signed with JWT_SECRET
    Token {
        /// What its bearer may do
        #[arg(long)]
        role: RoleName,
        /// How long it lives, in hours: at most 24 for admin, 720 for system
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
        /// The bearer's name: bearers of one name share what they sent
        #[arg(long)]
        subject: Option<String>,
        /// A domain that the bearer may send from; several times for several, never for every domain
        #[arg(long)]
        domain: Vec<String>,
    },
    /// Says whether settings, database and each transport work; sends nothing
    Check {
        /// Asks only whether the process that runs here lives: for the health check of a container
        #[arg(long)]
        live: bool,
    },
    /// Prints what happened to mail, one JSON object a line: every attempt with its time, transport, code and reply
    Events {
        /// From when: a duration such as 30m, 1h or 7d, or a moment such as 2026-11-22T18:00:00Z; 1h when unset, and
        /// with --email from the beginning
        #[arg(long, value_name = "WHEN", value_parser = when)]
        since: Option<When>,
        /// Before when: the same
        #[arg(long, value_name = "WHEN", value_parser = when, conflicts_with = "follow")]
        until: Option<When>,
        /// Of this e-mail alone
        #[arg(long, value_name = "ID", value_parser = email_id)]
        email: Option<EmailId>,
        /// Goes on with what happens, until it is ended
        #[arg(long)]
        follow: bool,
    },
    /// Shows what is parked because nobody knows whether it was sent, and what to do with it
    Held {
        #[command(subcommand)]
        what: Option<HeldHand>,
    },
    /// Sends one mail by hand and shows the conversation, secrets masked: at once and past the outbox,
    /// so it is not kept, not tried again, and counts against no rate or quota
    Send {
        /// The recipient
        #[arg(long)]
        to: String,
        /// The sender; EMAIL_FROM when unset
        #[arg(long)]
        from: Option<String>,
        /// The subject
        #[arg(long, default_value = "A trial by Facteur")]
        subject: String,
        /// The text
        #[arg(long, default_value = "This mail was sent by `facteur send`, to try the way here.")]
        text: String,
        /// The transport, as `facteur transports` shows it; the first when unset
        #[arg(long, value_name = "NAME")]
        transport: Option<String>,
    },
    /// Shows the transports: which is open, since when and why, and what is left of each quota
    Transports {
        #[command(subcommand)]
        what: Option<Hand>,
    },
}

#[derive(Subcommand)]
pub(super) enum Hand {
    /// Sends nothing by this transport, for so long or until it is reset
    Trip {
        /// As `facteur transports` shows it
        name: String,
        /// Such as 30m, 1h or 2d; until it is reset when unset
        #[arg(long = "for", value_name = "DURATION", value_parser = length)]
        length: Option<Duration>,
    },
    /// Sends by this transport again, at once
    Reset {
        /// As `facteur transports` shows it
        name: String,
    },
}

#[derive(Subcommand)]
pub(super) enum HeldHand {
    /// Shows the oldest (the same as no word at all)
    List,
    /// Puts them back in the queue: they are sent, perhaps for the second time
    Release(Chosen),
    /// Ends them as failed, reason unknown: they are never sent again
    GiveUp(Chosen),
}

#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true)))]
pub(super) struct Chosen {
    /// All that is parked
    #[arg(long, group = "which")]
    pub(super) all: bool,
    /// What was accepted before this moment, such as 2026-11-22T18:00:00Z
    #[arg(long, group = "which", value_name = "TIME", value_parser = moment)]
    pub(super) before: Option<OffsetDateTime>,
    /// The e-mails with these ids
    #[arg(group = "which", value_name = "ID")]
    pub(super) ids: Vec<EmailId>,
    /// Also what has expired since; released, it has 24 hours more
    #[arg(long)]
    pub(super) expired: bool,
    /// Does it without asking for the number
    #[arg(long)]
    pub(super) yes: bool,
}

impl From<&Chosen> for HeldChoice {
    fn from(chosen: &Chosen) -> Self {
        let emails = (!chosen.ids.is_empty()).then(|| chosen.ids.clone());
        Self { emails, before: chosen.before, expired: chosen.expired }
    }
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339);
    moment.map_err(|_| "not a moment such as 2026-11-22T18:00:00Z".to_owned())
}

fn length(text: &str) -> Result<Duration, String> {
    let length = settings::parse_duration(text).filter(|length| !length.is_zero());
    length.ok_or_else(|| "not a duration such as 30m, 1h or 2d".to_owned())
}

fn when(text: &str) -> Result<When, String> {
    let ago = settings::parse_duration(text).map(When::Ago);
    let at = || OffsetDateTime::parse(text, &Rfc3339).ok().map(When::At);
    ago.or_else(at).ok_or_else(|| {
        "neither a duration such as 30m, 1h or 7d, nor a moment such as 2026-11-22T18:00:00Z".to_owned()
    })
}

fn email_id(text: &str) -> Result<EmailId, String> {
    text.parse().map_err(|_| "not the id of an e-mail, which is a UUID".to_owned())
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum RoleName {
    Admin,
    System,
}
