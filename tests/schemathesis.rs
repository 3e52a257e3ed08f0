//! The API as schemathesis understands it, which reads nothing but the OpenAPI document.
//!
//! It runs in `target/schemathesis`, a Python environment that `./test` prepares; what is set for it, and
//! why, is in `tests/schemathesis/`. Every check is on, the phase of links between routes too.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "a part of the door is enough here")]
#[path = "http/door.rs"]
mod door;
mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use door::Door;
use facteur::http::Role;

/// Runs it against an API, and ends with what it found.
async fn try_out(door: &Door, token: Option<&str>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/schemathesis/bin/schemathesis");
    assert!(
        program.exists(),
        "schemathesis is not there: run ./test, or python3 -m venv target/schemathesis && target/schemathesis/bin/pip install schemathesis"
    );
    let mut command = tokio::process::Command::new(program);
    // Beside its settings: the hooks are looked for there.
    command.current_dir(root.join("tests/schemathesis"));
    command
        .args(["--config-file", "schemathesis.toml", "run", "--no-color"])
        .arg(format!("{}/openapi.json", door.base));
    if let Some(token) = token {
        command.arg("--header").arg(format!("Authorization: Bearer {token}"));
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(540), command.output()).await;
    let output = output.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // A run that looked at nothing passes too.
    // All routes but that of the document itself.
    for done in ["16 selected / 16 total", "✅  Examples", "✅  Coverage", "✅  Fuzzing", "✅  Stateful"]
    {
        assert!(text.contains(done), "{done} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_wrong_in_development() {
    let door = Door::open().await;
    try_out(&door, None).await;
    let accepted = door.t.number("SELECT count(*) FROM facteur.emails").await;
    assert!(accepted > 50, "it got through to the outbox: {accepted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_wrong_where_tokens_are_needed() {
    let door = Door::guarded().await;
    let token = door.token(Role::Admin, Some("schemathesis"), &[]);
    try_out(&door, Some(&token)).await;
}
