//! The command line: parse, read the settings, run.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use facteur::EmailId;
use facteur::app::{self, AppError, ByHand, Parts, Wanted, When};
use facteur::http::{self, Bearer, Role};
#[cfg(feature = "local")]
use facteur::settings::DevSettings;
use facteur::settings::{self, Database, Faults, JwtKey, Log, Otlp, Settings, Variables};
use facteur::telemetry;
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
    Check,
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
                    | Failure::App(AppError::NoSuchTransport { .. } | AppError::NoTimeBetween)
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
            let parts = if *no_worker { Parts::DoorOnly } else { Parts::All };
            start(&variables, app::serve(&settings, parts))
        }
        Command::Worker => {
            let settings = Settings::from_variables(&variables)?;
            start(&variables, app::serve(&settings, Parts::WorkerOnly))
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
        Command::Check => {
            let settings = Settings::from_variables(&variables)?;
            start(&variables, app::check(&settings, &mut std::io::stdout()))
        }
        Command::Events { since, until, email, follow } => {
            let database = Database::from_variables(&variables)?;
            let hour = email.is_none().then_some(When::Ago(Duration::from_secs(3_600)));
            let wanted = Wanted { since: since.or(hour), until: *until, email: *email, follow: *follow };
            start(&variables, app::events(&database, wanted, &mut std::io::stdout()))
        }
        Command::Transports { what } => {
            let settings = Settings::from_variables(&variables)?;
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
    let mut traces = telemetry::init(&Log::from_variables(variables)?, otlp.as_ref())?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
    runtime.block_on(async {
        traces.start();
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
