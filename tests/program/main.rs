//! The program as a newcomer meets it.

#![cfg(unix)]

mod live;
mod logs;
mod restore;
mod running;
mod send;
#[path = "../support/mod.rs"]
mod support;
mod transports;

use std::time::Duration;

use running::{Folder, Running, client, facteur, json};

const ANY_PORTS: &[(&str, &str)] = &[("HTTP_PORT", "0"), ("INBOX_HTTP_PORT", "0"), ("INBOX_SMTP_PORT", "0")];

/// `facteur dev`, ready: itself, its API, its inbox.
fn dev(folder: &Folder) -> (Running, String, String) {
    let mut running = Running::start(facteur(folder, &["dev"], ANY_PORTS));
    let api = running.line("API");
    let inbox = running.line("Inbox");
    (running, api, inbox)
}

fn no_postgres_is_left(folder: &Folder) -> bool {
    // Its own record of the running server, wherever the data had to be put.
    let data = folder.path().join(".facteur/postgres/data");
    !data.exists() || !data.join("postmaster.pid").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_today_tomorrow_and_after_a_kill() {
    let folder = Folder::new();
    let client = client();
    let (mut running, api, inbox) = dev(&folder);
    let begun = std::time::Instant::now();
    let (status, accepted) = json(client.post(format!("{api}/api/test-email?to=test@local.test"))).await;
    assert_eq!(status, 202);
    let (status, mail) =
        json(client.get(format!("{inbox}/api/messages/wait?to=test@local.test&timeout=5s"))).await;
    assert_eq!((status, mail["to"][0].as_str()), (200, Some("test@local.test")));
    assert!(begun.elapsed() < Duration::from_secs(1), "in the inbox after {:?}", begun.elapsed());
    let metrics = client.get(format!("{api}/metrics")).send().await.expect("answers");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("\nfacteur_accepted_total 1\n"), "counted by this process: {metrics}");

    running.interrupt();
    let (status, took) = running.wait();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}:\n{}", running.log());
    assert!(no_postgres_is_left(&folder));

    let (mut running, api, inbox) = dev(&folder);
    let (_, mails) = json(client.get(format!("{inbox}/api/messages"))).await;
    assert!(mails.to_string().contains("test@local.test"), "yesterday's mail is still there: {mails}");
    let id = accepted["id"].as_str().unwrap_or_default();
    let (_, email) = json(client.get(format!("{api}/emails/{id}"))).await;
    assert_eq!(email["last_event"], "sent");

    running.kill();
    let (running, api, inbox) = dev(&folder);
    let (status, _) = json(client.post(format!("{api}/api/test-email?to=after@local.test"))).await;
    assert_eq!(status, 202);
    let (status, _) =
        json(client.get(format!("{inbox}/api/messages/wait?to=after@local.test&timeout=10s"))).await;
    assert_eq!(status, 200, "it recovered by itself");

    let second = facteur(&folder, &["dev"], ANY_PORTS).output().expect("runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("already"), "two at once: {said}");
    running.interrupt();
}

#[test]
fn a_port_that_is_taken_is_named_with_what_moves_it() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for variable in ["HTTP_PORT", "INBOX_HTTP_PORT"] {
        let mut ports = ANY_PORTS.to_vec();
        ports.retain(|(name, _)| *name != variable);
        ports.push((variable, &port));
        let ended = facteur(&folder, &["dev"], &ports).output().expect("runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(variable) && said.contains(&port), "{said}");
    }
    assert!(no_postgres_is_left(&folder));
}

#[test]
fn production_does_not_start_open_and_every_fault_is_named_at_once() {
    let folder = Folder::new();
    let wrong = [
        ("APP_ENV", "production"),
        ("JWT_SECRET", "changeme"),
        ("SMTP_HOST", "mail.example.com"),
        ("SMTP_TLS", "none"),
    ];
    let ended = facteur(&folder, &["serve"], &wrong).output().expect("runs");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    for name in ["JWT_SECRET", "SMTP_TLS", "DATABASE_URL", "EMAIL_FROM"] {
        assert!(said.contains(name), "{name} is not named:\n{said}");
    }
    assert!(!said.contains("changeme"), "a secret is not echoed:\n{said}");
    let ended = facteur(&folder, &["token", "--role", "root"], &[]).output().expect("runs");
    assert_eq!(ended.status.code(), Some(2), "a role that is not one");
}

#[test]
fn a_dotenv_file_works_and_the_environment_wins() {
    let folder = Folder::new();
    std::fs::write(folder.path().join(".env"), "APP_ENV=staging\nJWT_SECRET=short\n").expect("written");
    let ended = facteur(&folder, &["token", "--role", "admin"], &[]).output().expect("runs");
    assert_eq!(ended.status.code(), Some(2));
    let good = [("JWT_SECRET", "q8Jw2ZrT5yVbN1mKc4LxP7sDf0GhA3eU")];
    let ended = facteur(&folder, &["token", "--role", "admin"], &good).output().expect("runs");
    assert!(ended.status.success());
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim().split('.').count(), 3, "three parts");
}
