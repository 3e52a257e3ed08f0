//! `facteur transports` and `facteur check`, as a person or a script runs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Output;

use facteur::testing::{Script, SmtpServer};

use crate::running::{Folder, facteur};
use crate::support::outbox::TestOutbox;

/// What a command prints and how it ends, with these transports.
async fn run(t: &TestOutbox, urls: &str, arguments: &'static [&'static str]) -> Output {
    let (url, urls) = (t.url().to_owned(), urls.to_owned());
    let running = tokio::task::spawn_blocking(move || {
        let folder = Folder::new();
        let variables = [
            ("APP_ENV", "development"),
            ("DATABASE_URL", url.as_str()),
            ("MAIL_TRANSPORTS", urls.as_str()),
            ("USER", "ada"),
            ("SUDO_USER", ""),
        ];
        facteur(&folder, arguments, &variables).output().unwrap()
    });
    running.await.unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The columns of the line that begins with this name.
fn row(shown: &str, name: &str) -> Vec<String> {
    let line = shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{shown}"));
    line.split("  ").filter(|cell| !cell.is_empty()).map(|cell| cell.trim().to_owned()).collect()
}

const TWO: &str = "smtp://a.test?name=a&quota=100/d&rate=5/s smtp://me:hunter2@b.test?name=b";

#[tokio::test(flavor = "multi_thread")]
async fn transports_are_shown_tripped_and_reset() {
    let t = TestOutbox::new().await;
    let limits = facteur::outbox::Limits {
        quota: Some(100),
        window: std::time::Duration::from_secs(86_400),
        ..Default::default()
    };
    t.outbox.reserve("a", &limits, 7, false).await.unwrap();
    let shown = out(&run(&t, TWO, &["transports"]).await);
    assert!(shown.starts_with("NAME  STATE"), "{shown}");
    assert_eq!(row(&shown, "a")[..6], ["a", "closed", "-", "-", "5/s", "7 of 100/d"]);
    assert_eq!(row(&shown, "b")[..6], ["b", "closed", "-", "-", "-", "-"]);
    assert!(!shown.contains("hunter2"));

    let tripped = out(&run(&t, TWO, &["transports", "trip", "a", "--for", "1h"]).await);
    assert!(tripped.starts_with("a: open for 1h, by ada"), "{tripped}");
    let shown = out(&run(&t, TWO, &["transports"]).await);
    let a = row(&shown, "a");
    assert!(a[1] == "open" && a[3].ends_with('Z') && a[7].starts_with("tripped by ada"), "{shown}");
    let left =
        "SELECT extract(epoch FROM held_until - now())::bigint FROM facteur.transports WHERE name = 'a'";
    assert!((3_500..=3_600).contains(&t.number(left).await));

    out(&run(&t, TWO, &["transports", "trip", "b"]).await);
    assert_eq!(row(&out(&run(&t, TWO, &["transports"]).await), "b")[3], "reset");
    out(&run(&t, TWO, &["transports", "reset", "a"]).await);
    let shown = out(&run(&t, TWO, &["transports"]).await);
    assert!(row(&shown, "a")[1] == "closed" && row(&shown, "a")[7].starts_with("reset by ada"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_a_duration_that_is_none_is_a_fault_of_the_command_line() {
    let t = TestOutbox::new().await;
    let unknown = run(&t, TWO, &["transports", "trip", "c"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("no transport is called \"c\"; there are: a, b"), "{text}");
    let never = run(&t, TWO, &["transports", "trip", "a", "--for", "ever"]).await;
    assert_eq!(never.status.code(), Some(2));
    assert_eq!(t.number("SELECT count(*) FROM facteur.transports").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_logs_in_to_every_transport_and_says_each_ones_result() {
    let t = TestOutbox::new().await;
    let login = || Script::new().login("user", "right");
    let (a, b) = (SmtpServer::start(login()).await.unwrap(), SmtpServer::start(login()).await.unwrap());
    let urls = |password: &str| {
        format!("smtp://user:right@{}?name=good smtp://user:{password}@{}?name=other", a.addr(), b.addr())
    };
    let good = out(&run(&t, &urls("right"), &["check"]).await);
    assert!(good.contains("good: logged in") && good.contains("other: logged in"), "{good}");
    let bad = run(&t, &urls("wrong"), &["check"]).await;
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains("ok    transport good: logged in"), "{text}");
    assert!(text.contains("FAIL  transport other: auth failed: 535"), "{text}");
    assert_eq!((a.counters().mails, b.counters().mails), (0, 0), "nothing is sent");
}
