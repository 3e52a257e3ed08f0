//! `facteur dev`: everything that a laptop needs, brought along.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::doors::Door;
use super::process::Process;
use super::{AppError, signals, worker};
use crate::delivery::Shutdown;
use crate::http::base_url;
use crate::inbox::{Inbox, InboxSettings};
use crate::local_postgres::{LocalPostgres, Terminal};
use crate::settings::{Database, DevSettings, Profile, Relay, SecretString, Settings, Way, WorkerSettings};

/// Ctrl-C ends everything within five seconds, Postgres too: mail has two of them.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the API, a worker, an inbox and, without `DATABASE_URL`, a Postgres of its own.
///
/// # Errors
/// A port is taken, the data folder cannot be used, Postgres does not start; each says what to do.
pub async fn dev(settings: DevSettings) -> Result<(), AppError> {
    let shutdown = signals::on_signals();
    // First, because its home tells best what is wrong: no rights, or a Facteur that runs already.
    let (postgres, url) = database(&settings).await?;
    let result = run(settings, url, shutdown).await;
    if let Some(postgres) = postgres {
        postgres.stop().await?;
    }
    result
}

async fn run(settings: DevSettings, url: SecretString, shutdown: Shutdown) -> Result<(), AppError> {
    let door = Door::open(settings.http, "HTTP_PORT").await?;
    let mail = Mail::find_or_open(&settings, door.address).await?;
    let settings = &settings_for_serving(settings, &mail, url);
    let outbox = super::outbox(&settings.database, settings.database.access.api_connections)?;
    super::prepare(&settings.database, &outbox).await?;
    let worker = worker(&WorkerSettings::from(settings), &outbox)?;
    welcome(&door, &mail);
    let stop_inbox = CancellationToken::new();
    let inbox = tokio::spawn(mail.run(stop_inbox.clone()));
    let process = Process {
        outbox,
        door: Some((door, settings)),
        probes: None,
        worker: Some(worker),
        hold: false,
        grace: settings.worker.grace,
    };
    let result = process.run(shutdown).await;
    // After the worker, which may still have had mail for it.
    stop_inbox.cancel();
    match inbox.await {
        Ok(ended) => result.and(ended),
        Err(_) => result,
    }
}

async fn database(settings: &DevSettings) -> Result<(Option<LocalPostgres>, SecretString), AppError> {
    if let Some(url) = &settings.database_url {
        return Ok((None, url.clone()));
    }
    let postgres =
        LocalPostgres::start(&settings.home, settings.postgres_mirror.as_deref(), &Terminal::new()).await?;
    let url = postgres.url();
    Ok((Some(postgres), url))
}

fn settings_for_serving(settings: DevSettings, mail: &Mail, url: SecretString) -> Settings {
    let mut worker = settings.worker;
    worker.grace = worker.grace.min(GRACE);
    let ways = match settings.transports {
        ways if ways.is_empty() => vec![Way::of_relay(mail.relay(settings.relay))],
        ways => ways,
    };
    Settings {
        profile: Profile::Development { ways },
        http: settings.http,
        limits: settings.limits,
        database: Database { url, access: settings.database },
        sender: settings.sender,
        worker,
        metrics: None,
        hold_on_start: false,
        domains: settings.domains,
    }
}

/// Where mail goes in development.
enum Mail {
    /// The inbox that Facteur brings.
    Inbox(Box<Inbox>),
    /// A mail catcher that was there already: MailHog, Maildev, Mailpit.
    Catcher(String),
    /// A relay elsewhere, by the settings.
    Relay(String),
}

impl Mail {
    async fn find_or_open(settings: &DevSettings, api: SocketAddr) -> Result<Self, AppError> {
        if !settings.transports.is_empty() {
            let names = settings.transports.iter().map(|way| way.name.as_str());
            return Ok(Self::Relay(names.collect::<Vec<_>>().join(", ")));
        }
        let place = format!("{}:{}", settings.relay.host, settings.relay.port);
        if !settings.relay.is_loopback() {
            return Ok(Self::Relay(place));
        }
        if settings.relay.port != 0 && speaks_smtp(&settings.relay).await {
            return Ok(Self::Catcher(place));
        }
        let inbox = Inbox::bind(InboxSettings {
            http: settings.inbox_http,
            smtp: settings.inbox_smtp,
            folder: settings.home.join("inbox"),
            api: base_url(api),
        });
        Ok(Self::Inbox(Box::new(inbox.await?)))
    }

    /// The relay to use: the inbox's own port may have been chosen by the system.
    fn relay(&self, mut relay: Relay) -> Relay {
        if let Self::Inbox(inbox) = self
            && relay.port == 0
        {
            relay.port = inbox.smtp_addr().port();
        }
        relay
    }

    async fn run(self, stop: CancellationToken) -> Result<(), AppError> {
        if let Self::Inbox(inbox) = self {
            inbox.run(stop).await?;
        }
        Ok(())
    }
}

/// Whether somebody already greets there as a mail server.
async fn speaks_smtp(relay: &Relay) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect((relay.host.as_str(), relay.port)).await?;
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await?;
        Ok::<_, std::io::Error>(greeting)
    };
    matches!(timeout(Duration::from_secs(2), greeting).await, Ok(Ok(greeting)) if &greeting == b"220")
}

/// What to do next, first of all.
fn welcome(door: &Door, mail: &Mail) {
    let api = base_url(door.address);
    let (inbox, smtp) = match mail {
        Mail::Inbox(inbox) => (
            base_url(inbox.http_addr()),
            format!("smtp://localhost:{}", inbox.smtp_addr().port()),
        ),
        Mail::Catcher(place) => (
            "the page of the mail server that was there already (Maildev http://localhost:1080, MailHog and Mailpit http://localhost:8025)".into(),
            format!("smtp://{place} (somebody listened there already: that one is used)"),
        ),
        Mail::Relay(place) => ("none: mail leaves for real, to the relay below".into(), format!("smtp://{place}")),
    };
    let text = format!(
        "\nFacteur is ready.\n\n  API     {api}\n  Inbox   {inbox}\n  SMTP    {smtp}\n\n\
         Send a first mail, then look at the inbox:\n\n  \
         curl -X POST \"{api}/api/test-email?to=test@local.test\"\n\n  \
         Invoke-WebRequest -Uri \"{api}/api/test-email?to=test@local.test\" -Method POST\n\n\
         Ctrl-C ends it all.\n\n"
    );
    // A closed standard output is no reason not to run.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
