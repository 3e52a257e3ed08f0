//! The program: parse the command line, read the settings, run.

mod command_line;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use command_line::{Cli, Command, Hand, HeldHand, RoleName};
use facteur::app::{self, AppError, ByHand, ByHandHeld, Trial, Wanted, When};
use facteur::http::{self, Bearer, Role};
#[cfg(feature = "local")]
use facteur::settings::DevSettings;
use facteur::settings::{
    self, Database, Faults, JwtKey, Log, Otlp, Outgoing, Settings, Variables, WorkerSettings,
};
use facteur::telemetry;

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
