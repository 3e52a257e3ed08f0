//! The command line: parse, read the settings, run.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use facteur::app::{self, AppError, ByHand, ByHandHeld, HeldChoice, Trial, Wanted, When};
use facteur::http::{self, Bearer, Role};
#[cfg(feature = "local")]
use facteur::settings::DevSettings;
use facteur::settings::{
    self, Database, Faults, JwtKey, Log, Otlp, Outgoing, Settings, Variables, WorkerSettings,
};
use facteur::{EmailId, telemetry};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Facteur, the postman: a mail backend with a durable outbox.
#[derive(Parser)]
#[command(name = "facteur", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Dies at this place: for the fault suite
    #[cfg(feature = "crash-points")]
    #[arg(long, global = true, hide = true)]
    crash_at: Option<facteur::crash::Crash>,
}

#[derive(Subcommand)]
enum Command {
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
enum Hand {
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
enum HeldHand {
    /// Shows the oldest (the same as no word at all)
    List,
    /// Puts them back in the queue: they are sent, perhaps for the second time
    Release(Chosen),
    /// Ends them as failed, reason unknown: they are never sent again
    GiveUp(Chosen),
}

#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true)))]
struct Chosen {
    /// All that is parked
    #[arg(long, group = "which")]
    all: bool,
    /// What was accepted before this moment, such as 2026-11-22T18:00:00Z
    #[arg(long, group = "which", value_name = "TIME", value_parser = moment)]
    before: Option<OffsetDateTime>,
    /// The e-mails with these ids
    #[arg(group = "which", value_name = "ID")]
    ids: Vec<EmailId>,
    /// Also what has expired since; released, it has 24 hours more
    #[arg(long)]
    expired: bool,
    /// Does it without asking for the number
    #[arg(long)]
    yes: bool,
}

impl From<&Chosen> for HeldChoice {
    fn from(chosen: &Chosen) -> Self {
        let emails = (!chosen.ids.is_empty()).then(|| chosen.ids.clone());
        Self { emails, before: chosen.before, expired: chosen.expired }
    }
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let moment = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
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
enum RoleName {
    Admin,
    System,
}

/// 0 success, 1 failure, 2 usage or settings.
const FAILURE: u8 = 1;
const SETTINGS: u8 = 2;

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the settings are not right:\n{0}")]
    Settings(#[from] Faults),
    #[error(transparent)]
    Log(#[from] telemetry::TelemetryError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Token(#[from] http::TokenError),
    #[error("the runtime does not start: {0}")]
    Runtime(#[source] std::io::Error),
}

fn main() -> ExitCode {
    // clap ends with exit code 2 by itself when it cannot make sense of the command line.
    let cli = Cli::parse();
    #[cfg(feature = "crash-points")]
    cli.crash_at.into_iter().for_each(facteur::crash::arm);
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("facteur: {}", with_causes(&failure));
            let usage = matches!(
                failure,
                Failure::Settings(_)
                    | Failure::Log(_)
                    | Failure::Token(_)
                    | Failure::App(
                        AppError::NoSuchTransport { .. } | AppError::NoTimeBetween | AppError::Email(_)
                    )
            );
            ExitCode::from(if usage { SETTINGS } else { FAILURE })
        }
    }
}

/// An error and what caused it, without what its text says already.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

fn run(command: &Command) -> Result<(), Failure> {
    let mut variables = Variables::from_process();
    variables.load_dotenv()?;
    match command {
        #[cfg(feature = "local")]
        Command::Dev => {
            let settings = DevSettings::from_variables(&variables)?;
            start(&variables, app::dev(settings))
        }
        Command::Serve { no_worker } => {
            let settings = Settings::from_variables(&variables)?;
            start(&variables, app::serve(&settings, !no_worker))
        }
        Command::Worker => {
            let settings = WorkerSettings::from_variables(&variables)?;
            start(&variables, app::work(&settings))
        }
        Command::Migrate => {
            let database = Database::from_variables(&variables)?;
            start(&variables, app::migrate(&database))
        }
        Command::Token { role, hours, subject, domain } => {
            let role = match role {
                RoleName::Admin => Role::Admin,
                RoleName::System => Role::System,
            };
            let domains = (!domain.is_empty()).then(|| domain.clone());
            token(&variables, Bearer { role, subject: subject.clone(), domains }, *hours)
        }
        Command::Check { live: true } => Ok(app::check_live(&settings::probe_addresses(&variables)?)?),
        Command::Held { what } => {
            let database = Database::from_variables(&variables)?;
            let what = match what {
                None | Some(HeldHand::List) => ByHandHeld::List,
                Some(HeldHand::Release(chosen)) => ByHandHeld::Release(chosen.into(), chosen.yes),
                Some(HeldHand::GiveUp(chosen)) => ByHandHeld::GiveUp(chosen.into(), chosen.yes),
            };
            start(
                &variables,
                app::held(&database, what, &mut std::io::stdin().lock(), &mut std::io::stdout()),
            )
        }
        Command::Check { live: false } => {
            let settings = Settings::from_variables(&variables)?;
            start(&variables, app::check(&settings, &mut std::io::stdout()))
        }
        Command::Events { since, until, email, follow } => {
            let database = Database::from_variables(&variables)?;
            let hour = email.is_none().then_some(When::Ago(Duration::from_secs(3_600)));
            let wanted = Wanted { since: since.or(hour), until: *until, email: *email, follow: *follow };
            start(&variables, app::events(&database, wanted, &mut std::io::stdout()))
        }
        Command::Send { to, from, subject, text, transport } => {
            let settings = Outgoing::from_variables(&variables)?;
            let (from, transport) = (from.as_deref(), transport.as_deref());
            let trial = Trial { to, from, subject, text, transport };
            start(&variables, app::send(&settings, trial, &mut std::io::stdout()))
        }
        Command::Transports { what } => {
            let settings = WorkerSettings::from_variables(&variables)?;
            let what = match what {
                None => ByHand::Show,
                Some(Hand::Trip { name, length }) => ByHand::Trip(name, *length),
                Some(Hand::Reset { name }) => ByHand::Reset(name),
            };
            start(&variables, app::transports(&settings, what, &mut std::io::stdout()))
        }
    }
}

/// Sets the log up and runs to the end.
fn start(variables: &Variables, work: impl Future<Output = Result<(), AppError>>) -> Result<(), Failure> {
    let otlp = Otlp::from_variables(variables)?;
    let log = Log::from_variables(variables)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
    runtime.block_on(async {
        let traces = telemetry::init(&log, otlp.as_ref())?;
        let done = work.await;
        traces.finish().await;
        Ok(done?)
    })
}

#[expect(clippy::print_stdout, reason = "the token is this command's answer")]
fn token(variables: &Variables, bearer: Bearer, hours: u32) -> Result<(), Failure> {
    let key = JwtKey::from_variables(variables)?;
    let life = time::Duration::hours(i64::from(hours));
    println!("{}", http::mint_for(&key, bearer, life, time::OffsetDateTime::now_utc())?);
    Ok(())
}
