//! Homes that are removed, processes that are killed, and other users.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use facteur::local_postgres::{LocalPostgres, Silent};
use facteur::settings::ExposeSecret;
use sqlx::{Connection, PgConnection};

/// A folder for one test, in the system's own folder for such: every user can enter that one.
pub(crate) struct Home {
    path: PathBuf,
    removed_on_drop: bool,
}

impl Home {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("facteur-home-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path, removed_on_drop: true }
    }

    /// The home that the test which runs this child has made; none when nobody runs it.
    pub(crate) fn from_stdin() -> Option<Self> {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        let path = PathBuf::from(line.trim());
        path.is_absolute().then_some(Self { path, removed_on_drop: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.removed_on_drop {
            end_server_of(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A test that failed may have left its server; it must not outlive the data.
fn end_server_of(home: &Path) {
    let pid_file = home.join("postgres/data/postmaster.pid");
    if let Ok(text) = fs::read_to_string(pid_file)
        && let Some(pid) = text.lines().next().and_then(|pid| pid.parse::<u32>().ok())
        && pid != std::process::id()
        && fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|command| command.contains("cluster_name=facteur-"))
    {
        kill_9(pid);
    }
}

pub(crate) async fn start(home: &Home) -> LocalPostgres {
    LocalPostgres::start(home.path(), None, &Silent).await.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Another process with a server of its own: a Facteur to be killed.
pub(crate) struct Holder {
    child: Child,
    pub(crate) url: String,
}

impl Holder {
    pub(crate) fn start(home: &Home) -> Self {
        let mut child = child(&std::env::current_exe().unwrap(), "child_holding_a_server").spawn().unwrap();
        tell(&mut child, home);
        let url = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("ready ")?.1.to_owned()))
            .expect("the child says when it is ready");
        Self { child, url }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the other process does: it holds the server until it is killed, or its parent is gone.
pub(crate) async fn hold(home: &Home) {
    let server = start(home).await;
    println!("ready {}", server.url().expose_secret());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    server.stop().await.unwrap();
}

fn child(program: &Path, test: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", test, "--ignored", "--nocapture"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// By its standard input: only the settings room reads the environment.
fn tell(child: &mut Child, home: &Home) {
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "{}", home.path().display()).unwrap();
}

/// Runs a test of this program as a user who is not root, in a home of that user's.
pub(crate) fn run_as_normal_user(test: &str) {
    let home = Home::new();
    // The program itself may be where only root can go.
    let program = home.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = child(&program, test);
    command.current_dir(home.path());
    if is_root() {
        let (user, group) = (id(&["-u", "nobody"]), id(&["-g", "nobody"]));
        std::os::unix::fs::chown(home.path(), Some(user), Some(group)).unwrap();
        command.uid(user).gid(group);
    }
    let mut child = command.spawn().unwrap();
    tell(&mut child, &home);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("passed") && output.status.success(), "{said}");
}

pub(crate) fn is_root() -> bool {
    id(&["-u"]) == 0
}

fn id(arguments: &[&str]) -> u32 {
    let output = Command::new("id").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse().unwrap()
}

/// Makes `command` run as the user whom `path` belongs to.
pub(crate) fn as_owner_of(command: &mut Command, path: &Path) {
    let owner = fs::metadata(path).unwrap();
    if is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
}

pub(crate) fn give_to_owner_of(file: &Path, path: &Path) {
    let owner = fs::metadata(path).unwrap();
    std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The process of the server in `folder`.
pub(crate) fn postmaster(folder: &Path) -> u32 {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

pub(crate) fn kill_9(pid: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap();
    assert!(status.success());
}

pub(crate) fn process_group(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the program's name, which may hold anything, come state, parent and group.
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// Waits until the process is gone, or fails after 10 seconds.
pub(crate) fn ended(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        std::thread::yield_now();
    }
}
