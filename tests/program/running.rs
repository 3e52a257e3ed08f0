//! The real program, started as a person would, in a folder of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A folder that goes with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `facteur …` with these variables and no others of ours.
pub(crate) fn facteur(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facteur"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    let ours = [
        "DATABASE_URL",
        "APP_ENV",
        "RUST_LOG",
        "LOG_LEVEL",
        "SMTP_HOST",
        "SMTP_PORT",
        "EMAIL_FROM",
        "HTTP_PORT",
    ];
    for name in ours {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

/// One that runs on.
pub(crate) struct Running {
    child: Child,
    out: mpsc::Receiver<String>,
    log: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, out) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)))
        });
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, out, log: Some(log) }
    }

    /// The rest of the first line of standard output that begins with `start`.
    pub(crate) fn line(&mut self, start: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        while let Ok(line) = self.out.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some(rest) = line.trim_start().strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
        let _ = self.child.kill();
        panic!("no line {start:?}; it said:\n{}", self.log());
    }

    /// Ctrl-C, as the terminal sends it.
    pub(crate) fn interrupt(&self) {
        // The shell's own: a bare machine has no program of that name.
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, and how long that took.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        (self.child.wait().unwrap(), begun.elapsed())
    }

    /// Everything it logged; it must have ended.
    pub(crate) fn log(&mut self) -> String {
        self.log.take().expect("asked for once").join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client for loopback; the program's library is built without a choice of cryptography.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) async fn json(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}
