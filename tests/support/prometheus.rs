//! Debian's Prometheus, where it is installed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// `promtool`; none where the package `prometheus` is not installed, which ./test says.
pub(crate) fn promtool() -> Option<PathBuf> {
    find("promtool")
}

/// `prometheus` itself.
pub(crate) fn server() -> Option<PathBuf> {
    find("prometheus")
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
    folders.iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.exists())
}

/// Runs it with this on its standard input: whether it was content, and all that it said.
pub(crate) fn check(promtool: &PathBuf, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}
