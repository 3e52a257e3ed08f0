//! The real clients of Resend, unmodified: only their base URL is another.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::door::Door;

/// Where clients are installed: kept between runs.
fn folder(client: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk").join(client);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// What a client did, or why it cannot be had here.
async fn run(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    tokio::time::timeout(std::time::Duration::from_secs(120), command.output()).await.unwrap().unwrap()
}

fn assert_done(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("all done"), "{text}\n{errors}");
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn left_out(what: &str) {
    eprintln!("LEFT OUT: {what}");
}

#[tokio::test]
async fn the_node_client_works_unmodified() {
    const PACKAGE: &str = "resend@6.38.0";
    let folder = folder("node");
    if !works(Command::new("node").arg("--version")) {
        return left_out("the node client of Resend: there is no node");
    }
    if !folder.join("node_modules/resend").exists() {
        let mut install = Command::new("npm");
        install
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(&folder)
            .arg(PACKAGE);
        if !works(&mut install) {
            return left_out("the node client of Resend: npm could not install it");
        }
    }
    let door = Door::open().await;
    // Packages are looked for beside the script.
    let here = folder.join("emails.mjs");
    std::fs::copy(script("emails.mjs"), &here).unwrap();
    let mut node = Command::new("node");
    node.arg(here).env("RESEND_BASE_URL", &door.base);
    assert_done(&run(node).await);
    assert_eq!(door.t.number("SELECT count(*) FROM facteur.emails").await, 7);
}

#[tokio::test]
async fn the_python_client_works_unmodified() {
    const PACKAGE: &str = "resend==2.52.0";
    let folder = folder("python");
    if !works(Command::new("python3").arg("--version")) {
        return left_out("the python client of Resend: there is no python3");
    }
    if !folder.join("resend").exists() {
        let mut install = Command::new("python3");
        install.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&folder).arg(PACKAGE);
        if !works(&mut install) {
            return left_out("the python client of Resend: pip could not install it");
        }
    }
    let door = Door::open().await;
    let mut python = Command::new("python3");
    python.arg(script("emails.py")).env("PYTHONPATH", &folder).env("RESEND_API_URL", &door.base);
    assert_done(&run(python).await);
    assert_eq!(door.t.number("SELECT count(*) FROM facteur.emails").await, 6);
}
