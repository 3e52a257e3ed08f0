//! The plan of the house, held against its `use` lines and paths: arrows point down only.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["app", "crash", "http", "settings", "telemetry"]),
    (
        "app",
        &[
            "http",
            "delivery",
            "inbox",
            "local_postgres",
            "outbox",
            "transport",
            "email",
            "settings",
            "telemetry",
        ],
    ),
    ("http", &["outbox", "email", "settings", "telemetry"]),
    ("delivery", &["outbox", "transport", "crash", "email", "settings", "telemetry"]),
    ("send", &["outbox", "email", "settings"]),
    ("transport", &["crash", "email", "settings"]),
    ("outbox", &["email", "settings", "telemetry"]),
    ("crash", &[]),
    ("email", &[]),
    ("inbox", &["email", "settings"]),
    ("local_postgres", &["settings"]),
    ("testing", &["email", "settings"]),
    ("settings", &[]),
    ("telemetry", &["settings"]),
];

/// Names that only some rooms may say, and why.
const KEPT_TO: &[(&str, &[&str], &str)] = &[
    ("sqlx::", &["outbox", "app", "local_postgres", "send"], "SQL on e-mails is the outbox's"),
    ("lettre::", &["email", "transport"], "the SMTP library stays behind the transport"),
    (
        "reqwest::",
        &["transport", "local_postgres", "http", "telemetry"],
        "HTTP goes out through the transports, for one download, for attachments by URL, and with traces",
    ),
    ("metrics_exporter_prometheus::", &["telemetry"], "others count through the facade"),
    ("opentelemetry", &["telemetry"], "others open spans through tracing"),
    ("utoipa::", &["http"], "the HTTP door is what is described"),
    ("env::var", &["settings"], "only the settings read the environment"),
    ("StatusCode", &["http", "inbox"], "only doors know HTTP's codes"),
];

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
                let room = first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((room, path, code_of(&text)));
            }
        }
    }
    files
}

/// The code alone: a comment or a text may name whatever it likes.
fn code_of(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.map(|line| line.split('"').step_by(2).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// The rooms named behind `start`, groups in braces included.
fn rooms_used(code: &str, start: &str, rooms: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices(start) {
        let rest = &code[at + start.len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default(),
        };
        let words = names.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        used.extend(words.filter(|word| rooms.contains(word)).map(str::to_owned));
    }
    used
}

#[test]
fn rooms_use_only_what_they_may() {
    let plan: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let rooms: BTreeSet<&str> = plan.keys().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        // The library's face re-exports; it has no logic of its own.
        if room == "lib" {
            continue;
        }
        let Some(allowed) = plan.get(room.as_str()) else {
            wrong.push(format!("{}: the room {room} is not on the plan", path.display()));
            continue;
        };
        // The program is a crate of its own, and names the library.
        let start = if room == "main" { "facteur::" } else { "crate::" };
        for used in rooms_used(&code, start, &rooms) {
            if used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {room} may not use {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn some_names_are_kept_to_some_rooms() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        for (name, rooms, why) in KEPT_TO {
            // A room's own tests may look behind the curtain.
            let code = code.split("#[cfg(test)]").next().unwrap_or_default();
            let is_test = path.components().any(|part| part.as_os_str() == "tests");
            if code.contains(name) && !rooms.contains(&room.as_str()) && !is_test {
                wrong.push(format!("{}: {name} in {room}; {why}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_plan_has_no_cycle() {
    let plan: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut left: BTreeSet<&str> = plan.keys().copied().collect();
    while let Some(free) =
        left.iter().copied().find(|room| plan[room].iter().all(|used| !left.contains(used)))
    {
        left.remove(free);
    }
    assert!(left.is_empty(), "these rooms use each other in a circle: {left:?}");
}

#[test]
fn a_forbidden_edge_is_seen() {
    let rooms = BTreeSet::from(["http", "outbox", "email"]);
    let used =
        rooms_used("use crate::{email::Address, outbox};\nlet x = crate::http::router();", "crate::", &rooms);
    assert_eq!(used, BTreeSet::from(["email".to_owned(), "http".to_owned(), "outbox".to_owned()]));
}
