//! What somebody takes on who takes the library alone, and that the guide for them is a page whose examples run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

/// The names of the crates that are compiled into an application, as cargo resolves them for these arguments.
fn crates(arguments: &[&str]) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let mut names: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_library_alone_has_no_web_server_and_no_command_line() {
    let (alone, whole) = (crates(&["--no-default-features"]), crates(&[]));
    assert!(alone.contains(&"lettre".to_owned()) && alone.contains(&"sqlx".to_owned()), "{alone:?}");
    for name in [
        "askama",
        "axum",
        "hyper",
        "hyper-util",
        "tower",
        "tower-http",
        "h2",
        "reqwest",
        "clap",
        "jsonwebtoken",
        "tracing-subscriber",
        "mail-parser",
        "tar",
    ] {
        assert!(!alone.iter().any(|one| one == name), "{name} is in the library alone");
        assert!(
            name == "h2" || whole.iter().any(|one| one == name),
            "{name} is nowhere: the test cannot fail"
        );
    }
    eprintln!("{} crates alone, {} with everything", alone.len(), whole.len());
    assert!(alone.len() * 4 < whole.len() * 3, "{} of {}", alone.len(), whole.len());
}

#[test]
fn there_is_one_tls_and_one_cryptography() {
    for arguments in [&["--no-default-features"][..], &[], &["--all-features", "--edges", "normal,dev,build"]]
    {
        let names = crates(arguments);
        for name in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "chrono"] {
            assert!(!names.iter().any(|one| one == name), "{name} with {arguments:?}");
        }
        assert!(names.iter().any(|one| one == "ring"));
    }
}
