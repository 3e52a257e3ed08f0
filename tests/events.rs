//! `facteur events`, as an operator runs it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "each test program uses a part")]
#[path = "program/running.rs"]
mod running;
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::Duration;

use facteur::outbox::{Action, ClaimedDelivery, Final, Hop, SessionId, Settlement, Why};
use facteur::testing::{Fault, Script, SmtpServer, Stage};
use running::{Folder, Running, facteur};
use serde_json::Value;
use support::outbox::{TestOutbox, email_to, pace};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

async fn run(t: &TestOutbox, arguments: &[&str]) -> Output {
    let url = t.url().to_owned();
    let arguments: Vec<String> = ["events"].iter().chain(arguments).map(|a| (*a).to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        facteur(&Folder::new(), &arguments, &[("DATABASE_URL", &url)]).output().unwrap()
    });
    running.await.unwrap()
}

/// The lines, each of which must be JSON.
async fn lines(t: &TestOutbox, arguments: &[&str]) -> Vec<Value> {
    let output = run(t, arguments).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

fn settlement(claimed: &ClaimedDelivery, action: Action) -> Settlement {
    Settlement {
        id: claimed.id,
        token: claimed.token,
        action,
        transport: Some("smtp:relay:25".into()),
        stage: Some("rcpt"),
        code: Some(451),
        detail: Some("4.3.0 later".into()),
    }
}

/// Claims what is due, does this to it, and settles it so; due again at once.
async fn settle(t: &TestOutbox, worker: SessionId, action: Action) -> ClaimedDelivery {
    t.execute("UPDATE facteur.deliveries SET run_at = now() WHERE state = 'queued'").await;
    let claimed = t.claim(worker).await.pop().unwrap();
    t.outbox.settle(worker, &[settlement(&claimed, action)]).await.unwrap();
    claimed
}

fn requeue(why: Why) -> Action {
    Action::Requeue { after: Duration::ZERO, why }
}

/// Every kind of event there is, by what writes it.
async fn everything_happens(t: &TestOutbox) {
    let worker = t.session().await;
    let id = t.enqueue(email_to("ada@x.test")).await;
    t.outbox.reschedule(id, OffsetDateTime::now_utc() + time::Duration::hours(1)).await.unwrap();
    for why in [Why::Refused, Why::Unknown, Why::Interrupted] {
        settle(t, worker, requeue(why)).await;
    }
    let claimed = t.claim(worker).await.pop().unwrap();
    let hop = Hop { transport: "first", stage: "connect", code: None, detail: "refused" };
    t.outbox.note_hop(&claimed, hop).await.unwrap();
    // Its lease is lost, and both words come late.
    t.execute("UPDATE facteur.deliveries SET lease_until = now() - interval '1 second'").await;
    t.outbox.reap().await.unwrap();
    t.outbox.settle(worker, &[settlement(&claimed, Action::Finish(Final::Sent, "accepted"))]).await.unwrap();
    let other = settle(t, worker, requeue(Why::Refused)).await;
    let late =
        Settlement { token: other.token, ..settlement(&other, Action::Finish(Final::Failed, "rejected")) };
    let another = t.session().await;
    t.outbox.settle(another, &[late]).await.unwrap();
    settle(t, worker, Action::Finish(Final::Sent, "accepted")).await;

    let id = t.enqueue(email_to("held@x.test").on_unknown(facteur::email::OnUnknown::Hold)).await;
    settle(t, worker, Action::Hold).await;
    t.outbox.retry(id, "ada").await.unwrap();
    settle(t, worker, Action::Finish(Final::Failed, "rejected")).await;
    let id = t.enqueue(email_to("bob@x.test")).await;
    t.claim(worker).await;
    t.outbox.cancel(id).await.unwrap();
    let id = t.enqueue(email_to("carl@x.test")).await;
    t.outbox.cancel(id).await.unwrap();
}

/// The first cells of the rows of the paper's table that begins with this heading.
fn documented(first: &str) -> BTreeSet<String> {
    let paper = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md");
    let paper = std::fs::read_to_string(paper).unwrap();
    let table = paper.split(&format!("| {first} |")).nth(1).expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_event_is_exported_and_every_line_parses() {
    let t = TestOutbox::new().await;
    everything_happens(&t).await;
    let lines = lines(&t, &["--since", "1h"]).await;
    let kinds = lines.iter().map(|line| line["kind"].as_str().unwrap().to_owned());
    assert_eq!(kinds.collect::<BTreeSet<_>>(), documented("kind"), "docs/events.md has each");
    for line in &lines {
        let fields: BTreeSet<String> = line.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, documented("field"), "docs/events.md has each");
        assert!(OffsetDateTime::parse(line["at"].as_str().unwrap(), &Rfc3339).is_ok(), "{line}");
        assert!(line["message_id"].as_str().unwrap().ends_with("@local.test"), "{line}");
        let whole = line["delivery"].is_null();
        assert_eq!(whole, line["recipient"].is_null(), "{line}");
        assert_eq!(whole, line["kind"] == "accepted", "{line}");
    }
    let retry = lines.iter().find(|line| line["kind"] == "retry").unwrap();
    let told =
        ["recipient", "attempt", "transport", "stage", "code", "reply", "lease"].map(|field| &retry[field]);
    assert_eq!(
        serde_json::json!(told).to_string(),
        r#"["ada@x.test",1,"smtp:relay:25","rcpt",451,"4.3.0 later",1]"#
    );
    let retried = lines.iter().find(|line| line["kind"] == "retried").unwrap();
    assert_eq!(retried["actor"], "ada");
    let count = usize::try_from(t.number("SELECT count(*) FROM facteur.events").await).unwrap();
    assert_eq!(lines.len(), count, "none is left out, none comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_of_a_worker_is_there_with_its_code_and_reply() {
    let t = TestOutbox::new().await;
    let script = Script::new().at(Stage::Rcpt, Fault::reply(451, "4.7.1 greylisted\u{9b}2J")).times(1);
    let server = SmtpServer::start(script).await.unwrap();
    let smtp = facteur::transport::smtp::SmtpTransport::new(&server.relay()).unwrap();
    let transport = facteur::transport::Transport::Smtp(smtp);
    let worker = facteur::delivery::Worker::new(t.outbox.clone(), transport, pace(), "test");
    let id = t.enqueue(email_to("ada@x.test")).await;
    worker.tick().await.unwrap();
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    worker.tick().await.unwrap();
    let lines = lines(&t, &["--email", &id.to_string()]).await;
    let told = lines.iter().map(|line| {
        let reply = line["reply"].as_str().unwrap_or_default();
        format!("{} {} {} {}", line["kind"].as_str().unwrap(), line["attempt"], line["code"], reply)
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], "accepted null null ");
    assert!(told[1].starts_with("retry 1 451 ") && told[1].contains("greylisted"), "{told:?}");
    assert!(told[2].starts_with("sent 2 250 "), "{told:?}");
    assert!(lines[1]["transport"].as_str().unwrap().starts_with("smtp:127.0.0.1:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_and_an_email_are_heeded() {
    let t = TestOutbox::new().await;
    let (old, new) = (t.enqueue(email_to("old@x.test")).await, t.enqueue(email_to("new@x.test")).await);
    t.execute(&format!("UPDATE facteur.events SET at = '2026-01-02T03:04:05Z' WHERE email_id = '{old}'"))
        .await;
    let of =
        |lines: Vec<Value>| lines.iter().map(|l| l["email"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (old, new) = (old.to_string(), new.to_string());
    assert_eq!(of(lines(&t, &[]).await), [new.as_str()]);
    assert_eq!(of(lines(&t, &["--since", "2026-01-01T00:00:00Z"]).await), [old.clone(), new.clone()]);
    let day = ["--since", "2026-01-02T03:04:05Z", "--until", "2026-01-02T03:04:05.000001Z"];
    assert_eq!(of(lines(&t, &day).await), [old.as_str()], "the first moment is in, the last is not");
    assert_eq!(
        of(lines(&t, &["--since", "2026-01-01T00:00:00+02:00", "--until", "2026-01-02T03:04:05Z"]).await)
            .len(),
        0
    );
    assert_eq!(of(lines(&t, &["--email", &new]).await), [new.as_str()]);
    assert_eq!(lines(&t, &["--email", &uuid::Uuid::now_v7().to_string()]).await.len(), 0);
}

const MANY: usize = 100_000;

/// Many events within a minute, in the tables of this week.
async fn many(t: &TestOutbox) {
    let id = t.enqueue(email_to("ada@x.test")).await;
    t.execute("DELETE FROM facteur.events").await;
    t.execute(&format!(
        "INSERT INTO facteur.events (email_id, position, at, kind, attempt, transport, stage, code, detail)
         SELECT '{id}', 0, now() - interval '5 minutes' + i / 3 * interval '300 microseconds', 'retry', i % 3, 'smtp:relay:25',
                'rcpt', 451, i || repeat(' later', 10)
         FROM generate_series(1, {MANY}) i"
    ))
    .await;
    // Three at a time have one moment: they are told apart by their token.
    t.execute("UPDATE facteur.events SET lease_token = attempt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_come_in_order_once_each_and_in_little_memory() {
    let t = TestOutbox::new().await;
    many(&t).await;
    let mut child = facteur(&Folder::new(), &["events", "--since", "1h"], &[("DATABASE_URL", t.url())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut before = String::new();
    let mut seen = std::collections::HashSet::new();
    let mut most = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let at = line["at"].as_str().unwrap().to_owned();
        assert!(at >= before, "{at} after {before}");
        before = at;
        let number = line["reply"].as_str().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        assert!(seen.insert(number), "{number} twice");
        if seen.len() == 15_000 {
            // It waits for us now, wherever it is: nothing of it may hold vacuum back.
            let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                        AND application_name = 'facteur' AND (backend_xmin IS NOT NULL OR state LIKE 'idle in%')";
            let asked = std::time::Instant::now();
            while t.number(held).await != 0 {
                assert!(asked.elapsed() < Duration::from_secs(20), "a snapshot while nobody reads");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if seen.len() % 20_000 == 0 {
            most = most.max(memory(child.id()));
        }
    }
    assert_eq!(seen.len(), MANY);
    assert!(child.wait().unwrap().success());
    assert!(most < 80 * 1024, "{most} KiB");
}

/// The most that a process had in memory so far, in KiB; 0 where the system does not tell.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_it_without_a_failure() {
    let t = TestOutbox::new().await;
    many(&t).await;
    let variables = [("DATABASE_URL", t.url()), ("LOG_LEVEL", "error")];
    let mut child = facteur(&Folder::new(), &["events", "--since", "1h"], &variables)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "and without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_sees_what_happens() {
    let t = TestOutbox::new().await;
    let before = t.enqueue(email_to("before@x.test")).await;
    let mut following =
        Running::start(facteur(&Folder::new(), &["events", "--follow"], &[("DATABASE_URL", t.url())]));
    let line = tokio::task::spawn_blocking(move || (following.line("{"), following));
    let (line, mut following) = line.await.unwrap();
    assert!(line.contains(&before.to_string()), "{line}");
    let then = t.enqueue(email_to("then@x.test")).await;
    let line = tokio::task::spawn_blocking(move || following.line("{")).await.unwrap();
    assert!(line.contains(&then.to_string()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_by_name() {
    let t = TestOutbox::new().await;
    for (arguments, named) in [
        (&["--since", "yesterday"][..], "--since"),
        (&["--until", "1x"], "--until"),
        (&["--email", "ada@x.test"], "--email"),
        (&["--follow", "--until", "1h"], "--until"),
        (&["--since", "1h", "--until", "2h"], "--until must be later than --since"),
    ] {
        let output = run(&t, arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(named) && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
    let nobody = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")];
    let output = facteur(&Folder::new(), &["events"], &nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
