//! A database restored from a backup under the real program: nothing goes out twice by itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::Command;

use facteur::testing::{Script, SmtpServer};

use crate::running::{Folder, Running, facteur};
use crate::support::outbox::{TestOutbox, email_to};

/// The newest of Postgres's own programs on this machine: older ones refuse a newer server.
fn program(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = glob("/usr/lib/postgresql").into_iter().map(|f| f.join("bin")).collect();
    folders.extend(glob("/usr").into_iter().filter(|f| f.ends_with("bin")));
    folders.push("/usr/local/bin".into());
    folders.into_iter().map(|folder| folder.join(name)).find(|program| program.exists())
}

fn glob(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.reverse();
    paths
}

fn run(program: &PathBuf, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

struct Bench {
    t: TestOutbox,
    folder: Folder,
    port: String,
}

impl Bench {
    fn variables<'a>(&'a self, hold: &'a str) -> [(&'a str, &'a str); 6] {
        [
            ("APP_ENV", "development"),
            ("DATABASE_URL", self.t.url()),
            ("SMTP_HOST", "127.0.0.1"),
            ("SMTP_PORT", &self.port),
            ("MAIL_HOLD_ON_START", hold),
            ("USER", "grace"),
        ]
    }

    fn worker(&self, hold: &str) -> Running {
        Running::start(facteur(&self.folder, &["worker"], &self.variables(hold)))
    }

    fn command(&self, arguments: &[&str]) -> (bool, String) {
        let output = facteur(&self.folder, arguments, &self.variables("")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    async fn states(&self, expected: &str) {
        let looking = async {
            while self.t.states().await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(30), looking).await;
        assert!(found.is_ok(), "{expected}: {}", self.t.states().await);
    }
}

fn stop(mut running: Running) -> String {
    running.interrupt();
    assert!(running.wait().0.success());
    running.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nothing_goes_out_again_until_a_person_says_so() {
    let (Some(dump), Some(restore)) = (program("pg_dump"), program("pg_restore")) else {
        eprintln!("LEFT OUT: no pg_dump on this machine (apt-get install postgresql-client)");
        return;
    };
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let port = server.addr().port().to_string();
    let bench = Bench { t: TestOutbox::new().await, folder: Folder::new(), port };
    let t = &bench.t;
    for n in 0..3 {
        t.enqueue(email_to(&format!("before{n}@x.test"))).await;
    }
    let worker = bench.worker("");
    bench.states("sent 3").await;
    stop(worker);

    // The backup: three were sent, five wait, one is being sent.
    for n in 0..6 {
        t.enqueue(email_to(&format!("between{n}@x.test"))).await;
    }
    let lost = t.session().await;
    t.outbox.claim(lost, 1, std::time::Duration::from_secs(120), 0).await.unwrap();
    let file = bench.folder.path().join("backup");
    let file = file.to_str().unwrap();
    run(&dump, &["--format=custom", "--file", file, t.url()]);

    // And after it, they are sent.
    t.outbox.end_session(lost).await.unwrap();
    t.outbox.reap().await.unwrap();
    t.execute("UPDATE facteur.deliveries SET run_at = now()").await;
    let worker = bench.worker("");
    bench.states("sent 9").await;
    stop(worker);
    assert_eq!(server.counters().mails, 9);

    // `pg_restore --clean` cannot take partitions apart: the schema goes first.
    t.execute("DROP SCHEMA facteur CASCADE").await;
    run(&restore, &["--exit-on-error", "--single-transaction", "--dbname", t.url(), file]);
    // Half a minute after the backup its sessions have expired: moved on, not waited for.
    t.execute("UPDATE facteur.worker_sessions SET expires_at = now() - interval '1 s'").await;
    assert_eq!(t.states().await, "queued 5, sending 1, sent 3");

    let worker = bench.worker("1");
    bench.states("sent 3, unknown 6").await;
    t.enqueue(email_to("new@x.test")).await;
    bench.states("sent 4, unknown 6").await;
    let taken = server.accepted();
    assert_eq!((taken.len(), taken[9].to.concat()), (10, "new@x.test".to_owned()), "and nothing old");
    let log = stop(worker);
    assert!(log.contains("MAIL_HOLD_ON_START") && log.contains("held=5"), "{log}");

    let (_, list) = bench.command(&["held"]);
    assert!(list.contains("between3@x.test") && list.contains("6 of 6"), "{list}");
    let (done, said) = bench.command(&["held", "release", "--all"]);
    assert!(!done && said.contains("Type 6") && said.contains("nothing was changed"), "{said}");
    let (done, said) = bench.command(&["held", "release", "--all", "--yes"]);
    assert!(done && said.contains("6 released, by grace"), "{said}");
    let worker = bench.worker("");
    bench.states("sent 10").await;
    stop(worker);
    assert_eq!(server.counters().mails, 16, "all of them went, the six for the second time");
}
