//! Whether a process runs, and which one it is.

/// The command line of process `pid`, or nothing when there is no such process.
///
/// An empty line is a process that has ended and that nobody has collected.
#[cfg(target_os = "linux")]
pub(super) fn command_line(pid: u32) -> Option<String> {
    // Not `ps`: a small container has none.
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// The command line of process `pid`, or nothing when there is no such process.
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn command_line(pid: u32) -> Option<String> {
    let output = std::process::Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(line)
}

/// The name of the program of process `pid`, or nothing when there is no such process.
#[cfg(windows)]
pub(super) fn command_line(pid: u32) -> Option<String> {
    let output = std::process::Command::new("tasklist")
        .args(["/NH", "/FO", "CSV", "/FI", &format!("PID eq {pid}")])
        .output()
        .ok()?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    line.contains(&format!("\"{pid}\"")).then_some(line)
}
