//! The running server: started, recognised, stopped.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgresql_commands::pg_ctl::{Mode, PgCtlBuilder, ShutdownMode};
use postgresql_commands::{AsyncCommandExecutor, CommandBuilder, Error as CommandError};
use sqlx::{Connection, PgConnection};

use super::error::LocalPostgresError;
use super::home::Place;
use super::pid_file::{PidFile, same_folder};
use super::progress::Progress;
use super::{binaries, cluster, process};
use crate::settings::{ExposeSecret, SecretString};

/// The one role, the owner of everything.
pub(super) const USER: &str = "postgres";

/// Seconds for crash recovery and start, for a fast stop, and for an immediate one.
const START_SECONDS: u32 = 60;
const FAST_STOP_SECONDS: u32 = 2;
const IMMEDIATE_STOP_SECONDS: u32 = 3;

/// What a committed transaction survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A power cut, as in production.
    Full,
    /// The end of the process, not of the machine: the data of tests is worth nothing.
    ForTests,
}

#[derive(Debug)]
pub(super) struct Server {
    place: Place,
    bin: PathBuf,
    password: SecretString,
    durability: Durability,
    port: u16,
}

impl Server {
    /// Everything from nothing to a server with a database.
    pub(super) async fn launch(
        place: Place,
        mirror: Option<&str>,
        durability: Durability,
        progress: &dyn Progress,
    ) -> Result<Self, LocalPostgresError> {
        let made_by = cluster::major_version(&place)?;
        let bin = binaries::obtain(&place, made_by.as_deref(), mirror, progress).await?;
        let password = if made_by.is_some() {
            cluster::password(&place)?
        } else {
            progress.step("Making a private PostgreSQL database (once)");
            cluster::init(&place, &bin, durability).await?
        };
        let mut server = Self { port: kept_port(&place).unwrap_or(0), place, bin, password, durability };
        server.clear_last_run(progress).await?;
        server.start().await?;
        server.create_database().await?;
        Ok(server)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.place.folder
    }

    pub(super) fn url(&self, database: &str) -> SecretString {
        url(&self.password, self.port, database)
    }

    /// What a Facteur that was killed left behind: a server that still runs is ended, because
    /// its settings and its log may be another version's; a PID file that names somebody else's
    /// process is made harmless.
    async fn clear_last_run(&self, progress: &dyn Progress) -> Result<(), LocalPostgresError> {
        let Some(pid_file) = PidFile::read(&self.place) else {
            return Ok(());
        };
        let Some(command) = process::command_line(pid_file.pid) else {
            // PostgreSQL itself recognises the number of a process that is gone.
            return Ok(());
        };
        if self.is_ours(&command, &pid_file) {
            progress.step("Ending the PostgreSQL that the last run left behind");
            return self.stop().await;
        }
        pid_file.disown(&self.place)
    }

    fn is_ours(&self, command: &str, pid_file: &PidFile) -> bool {
        // A copy of a data folder brings along the PID file of the original's server.
        let moved = !Path::new(&pid_file.data).exists();
        let here = moved || same_folder(Path::new(&pid_file.data), &self.place.data());
        let named = command.contains(&self.cluster_name());
        here && (named || (cfg!(windows) && command.contains("postgres")))
    }

    async fn start(&mut self) -> Result<(), LocalPostgresError> {
        self.prepare_log()?;
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut other_ports = 3;
        loop {
            if !is_free(self.port) {
                self.port = free_port().map_err(LocalPostgresError::folder("127.0.0.1"))?;
            }
            let log_start = fs::metadata(self.place.log()).map_or(0, |file| file.len());
            let Err(printed) = run(&self.place, self.pg_ctl_start()).await else {
                return self.place.write_private("port", &self.port.to_string());
            };
            let said = last_lines(&self.place.log(), log_start).unwrap_or(printed);
            if said.contains("could not bind") && other_ports > 0 {
                other_ports -= 1;
                self.port = 0;
            } else if said.contains("shared memory block") && Instant::now() < deadline {
                // The sessions of a server that was killed see it, and end, a moment later.
                tokio::time::sleep(Duration::from_millis(100)).await;
            } else {
                let log = self.place.log();
                return Err(LocalPostgresError::Start { log, said });
            }
        }
    }

    fn pg_ctl_start(&self) -> PgCtlBuilder {
        self.pg_ctl()
            .mode(Mode::Start)
            .log("postgres.log")
            .wait()
            .timeout(START_SECONDS)
            .options(&[self.options()])
    }

    fn pg_ctl_stop(&self, how: ShutdownMode) -> PgCtlBuilder {
        self.pg_ctl().mode(Mode::Stop).shutdown_mode(how)
    }

    fn pg_ctl(&self) -> PgCtlBuilder {
        // Names relative to the folder: `pg_ctl` hands them to a shell, which would read a `$` in a path.
        PgCtlBuilder::new().program_dir(&self.bin).pgdata("data")
    }

    /// The server's settings, on its command line so that each start has this version's.
    fn options(&self) -> String {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            format!("cluster_name={}", self.cluster_name()),
            "shared_buffers=64MB".to_owned(),
            // The log names no mail's data: neither statements nor the values that broke a rule.
            "log_min_error_statement=panic".to_owned(),
            "log_error_verbosity=terse".to_owned(),
            "log_checkpoints=off".to_owned(),
        ];
        match self.durability {
            Durability::Full => {
                settings.extend(["fsync=on", "synchronous_commit=on"].map(String::from));
            }
            Durability::ForTests => {
                let fast = ["fsync=off", "full_page_writes=off", "max_connections=300"];
                settings.extend(fast.map(String::from));
            }
        }
        let settings: Vec<_> = settings.iter().map(|s| format!("-c {s}")).collect();
        format!("-p {} {}", self.port, settings.join(" "))
    }

    /// On the command line of the server, and so the mark by which it is known again.
    fn cluster_name(&self) -> String {
        let secret = self.password.expose_secret().as_bytes();
        let digest = ring::digest::digest(&ring::digest::SHA256, secret);
        format!("facteur-{}", cluster::hex(&digest.as_ref()[..6]))
    }

    /// Made here, because it is the server's user who writes it; kept small.
    fn prepare_log(&self) -> Result<(), LocalPostgresError> {
        let log = self.place.log();
        if fs::metadata(&log).is_ok_and(|file| file.len() < 1_000_000) {
            return Ok(());
        }
        self.place.write_private("postgres.log", "")
    }

    async fn create_database(&self) -> Result<(), LocalPostgresError> {
        let mut connection = PgConnection::connect(self.url("postgres").expose_secret()).await?;
        let found = sqlx::query("SELECT FROM pg_database WHERE datname = 'facteur'")
            .fetch_optional(&mut connection)
            .await?;
        if found.is_none() {
            sqlx::query("CREATE DATABASE facteur").execute(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }

    pub(super) async fn stop(&self) -> Result<(), LocalPostgresError> {
        let fast = self.pg_ctl_stop(ShutdownMode::Fast).wait().timeout(FAST_STOP_SECONDS);
        if run(&self.place, fast).await.is_ok() || !self.is_running() {
            return Ok(());
        }
        let at_once = self.pg_ctl_stop(ShutdownMode::Immediate).wait().timeout(IMMEDIATE_STOP_SECONDS);
        match run(&self.place, at_once).await {
            Err(said) if self.is_running() => {
                Err(LocalPostgresError::Stop { folder: self.place.data(), said })
            }
            _ => Ok(()),
        }
    }

    fn is_running(&self) -> bool {
        PidFile::read(&self.place)
            .and_then(|file| process::command_line(file.pid).map(|line| (line, file)))
            .is_some_and(|(line, file)| self.is_ours(&line, &file))
    }

    pub(super) fn stop_without_waiting(&self) {
        let mut command = self.pg_ctl_stop(ShutdownMode::Fast).no_wait().build();
        self.place.account.apply(&mut command);
        // Nobody is left to hear of an error; the next start ends what this did not.
        let _ = command.current_dir(&self.place.folder).output();
    }
}

/// Finds the running server of `place`, if there is one that answers.
pub(super) async fn find_running(place: &Place) -> Option<SecretString> {
    let pid_file = PidFile::read(place)?;
    let url = url(&cluster::password(place).ok()?, pid_file.port?, "postgres");
    let mut connection = PgConnection::connect(url.expose_secret()).await.ok()?;
    let folder: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut connection).await.ok()?;
    connection.close().await.ok()?;
    same_folder(Path::new(&folder), &place.data()).then_some(url)
}

/// Runs one of PostgreSQL's programs as the server's user, in its folder; an error is what it printed.
pub(super) async fn run(place: &Place, program: impl CommandBuilder) -> Result<(), String> {
    // Messages in English, because some are looked for; none of the caller's own settings.
    let mut command = program.env("LC_ALL", "C").build();
    for name in ["PGDATA", "PGPORT", "PGOPTIONS", "PGDATESTYLE", "PGCLIENTENCODING"] {
        command.env_remove(name);
    }
    command.current_dir(&place.folder);
    command.stdin(std::process::Stdio::null());
    place.account.apply(&mut command);
    match tokio::process::Command::from(command).execute(None).await {
        Ok(_) => Ok(()),
        Err(CommandError::CommandError { stdout, stderr }) => {
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            Err(said.trim().to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn url(password: &SecretString, port: u16, database: &str) -> SecretString {
    let password = password.expose_secret();
    SecretString::from(format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}?sslmode=disable"))
}

fn kept_port(place: &Place) -> Option<u16> {
    let text = fs::read_to_string(place.folder.join("port")).ok()?;
    text.trim().parse().ok()
}

fn is_free(port: u16) -> bool {
    port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// The last lines that were written to `log` after its byte `start`.
fn last_lines(log: &Path, start: u64) -> Option<String> {
    let mut file = fs::File::open(log).ok()?;
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(15)..];
    (!last.is_empty()).then(|| last.join("\n"))
}
