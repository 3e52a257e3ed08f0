//! The alerts of ops/prometheus/: held by promtool, by their pages, and by Prometheus itself on a Facteur that runs.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "each test program uses a part")]
#[path = "program/running.rs"]
mod running;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use facteur::telemetry::{DATABASE, Family, Kind, PROCESS};
use facteur::testing::{Script, SmtpServer};
use running::{Folder, Running, client, facteur, json};
use support::outbox::{TestOutbox, email_to};
use support::prometheus::{promtool, server};

const RULES: &str = "ops/prometheus/rules/facteur.yml";
const CONFIGURATION: &str = "ops/prometheus/prometheus.yml";
const TESTS: &str = "ops/prometheus/tests/facteur.yml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What promtool says of these files: whether it was content.
fn ask(promtool: &Path, folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(promtool).args(arguments).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

#[test]
fn promtool_has_nothing_against_the_rules_and_their_tests() {
    let Some(promtool) = promtool() else { return };
    for arguments in [["check", "config", CONFIGURATION], ["check", "rules", RULES], ["test", "rules", TESTS]]
    {
        let (good, said) = ask(&promtool, root(), &arguments);
        assert!(good, "promtool {}:\n{said}", arguments.join(" "));
    }
    // The tests hold each threshold and each patience: with another they fail.
    let folder = Folder::new();
    for part in ["rules", "tests"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
    }
    std::fs::write(folder.path().join("tests/facteur.yml"), read(TESTS)).unwrap();
    let rules = read(RULES);
    let comparisons = [
        " == 0",
        " > 300",
        " > 0\n",
        " == 1",
        " > 0.1",
        " > 0.05",
        " >= 10",
        " < 0.1",
        " > 1800",
        " > 1000000",
    ];
    let patience: Vec<String> =
        rules.lines().filter(|line| line.contains("for: ")).map(str::to_owned).collect();
    for (n, line) in patience.iter().enumerate() {
        let mut seen = 0;
        let longer = |text: &str| {
            seen += usize::from(text.contains("for: "));
            let this = text.contains("for: ") && seen == n + 1;
            if this { "        for: 3h".to_owned() } else { text.to_owned() }
        };
        let changed: Vec<String> = rules.lines().map(longer).collect();
        let good = holds(&promtool, folder.path(), &changed.join("\n"));
        assert!(!good, "no test needs {line:?} of rule {n}");
    }
    for comparison in comparisons {
        assert!(rules.contains(comparison), "{comparison:?} is in no rule");
        let never = format!(" > 1e99{}", if comparison.ends_with('\n') { "\n" } else { "" });
        assert!(
            !holds(&promtool, folder.path(), &rules.replace(comparison, &never)),
            "no test needs{comparison}"
        );
    }
}

/// Whether the tests pass with these rules.
fn holds(promtool: &Path, folder: &Path, rules: &str) -> bool {
    std::fs::write(folder.join("rules/facteur.yml"), rules).unwrap();
    ask(promtool, folder, &["test", "rules", "tests/facteur.yml"]).0
}

/// Each rule's lines, by its alert.
fn rules() -> Vec<(String, String)> {
    let text = read(RULES);
    let rules = text.split("      - alert: ").skip(1);
    rules.map(|rule| (rule.lines().next().unwrap().to_owned(), rule.to_owned())).collect()
}

#[test]
fn each_alert_has_a_page_a_severity_and_a_test() {
    let rules = rules();
    let tests = read(TESTS);
    let index = read("docs/alerts.md");
    assert!(rules.len() >= 7, "{}", rules.len());
    for (alert, rule) in &rules {
        for line in
            ["severity: ", "summary: ", "description: ", &format!("runbook_url: docs/alerts/{alert}.md")]
        {
            assert!(rule.contains(line), "{alert} has no {line:?}");
        }
        let severity = rule.split("severity: ").nth(1).unwrap().lines().next().unwrap();
        let row = index.lines().find(|line| line.starts_with(&format!("| [{alert}](alerts/{alert}.md) | ")));
        assert!(
            row.is_some_and(|row| row.ends_with(&format!("| {severity} |"))),
            "{alert} in docs/alerts.md: {row:?}"
        );
        let page = read(&format!("docs/alerts/{alert}.md"));
        for part in [&format!("# {alert}\n"), "## What it means\n", "## What to look at\n", "## What to do\n"]
        {
            assert!(page.contains(part), "docs/alerts/{alert}.md has no {part:?}");
        }
        // Does not fire, fires, resolves: in this order.
        let cases: Vec<bool> = tests
            .split("      - alertname: ")
            .filter(|case| case.lines().next() == Some(alert))
            .map(|case| !case.contains("exp_alerts: []"))
            .collect();
        let changes: Vec<bool> = cases.windows(2).filter(|two| two[0] != two[1]).map(|two| two[1]).collect();
        assert!(changes.starts_with(&[true, false]) && !cases[0], "{alert} is tested as {cases:?}");
    }
    let pages = std::fs::read_dir(root().join("docs/alerts")).unwrap();
    let pages: BTreeSet<String> =
        pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(pages, rules.iter().map(|(alert, _)| format!("{alert}.md")).collect());
}

/// Each `facteur_…` in a text, with what stands behind it.
fn metrics(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("facteur_").map(|(at, _)| {
        let rest = &text[at..];
        rest.split_at(rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len()))
    })
}

/// The family that a name belongs to.
fn family(name: &str) -> Option<&'static Family> {
    let mut families = PROCESS.iter().chain(DATABASE);
    families.find(|family| {
        let of = |suffix: &str| name.strip_suffix(suffix) == Some(family.name);
        name == family.name
            || family.kind == Kind::Histogram && ["_bucket", "_sum", "_count"].into_iter().any(of)
    })
}

#[test]
fn no_alert_asks_for_a_metric_that_is_not_there() {
    let mut texts = vec![
        read(RULES),
        read(TESTS),
        read("docs/metrics.md"),
        read("docs/operations.md"),
        read("docs/scaling.md"),
    ];
    let pages = std::fs::read_dir(root().join("docs/alerts")).unwrap();
    texts.extend(pages.map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap()));
    let mut asked = 0;
    for (name, behind) in texts.iter().flat_map(|text| metrics(text)) {
        let family = family(name).unwrap_or_else(|| panic!("{name} is no metric of Facteur"));
        asked += 1;
        let Some(matchers) = behind.strip_prefix('{').and_then(|rest| rest.split('}').next()) else {
            continue;
        };
        for matcher in matchers.split(',') {
            let (label, values) = matcher.split_once('=').unwrap();
            let values = values.trim_start_matches('~').trim_matches('"');
            // Prometheus's own, of the scrape.
            if ["job", "instance"].contains(&label) {
                continue;
            }
            let known = family.labels.iter().find(|(known, _)| *known == label);
            let (_, known) = known.unwrap_or_else(|| panic!("{name} has no label {label}"));
            let is_known = |value: &str| known.is_empty() || known.split('|').any(|known| known == value);
            assert!(values.replace('\\', "").split('|').all(is_known), "{name}{{{matcher}}}");
        }
    }
    assert!(asked > 50, "{asked}");
}

/// The rules and the configuration as they are, with a second for each minute, and these targets.
fn quickened(folder: &Path, targets: &[u16]) -> PathBuf {
    let seconds = |text: &str| {
        let words = text.split_inclusive(['m']);
        let shortened = words.map(|word| match word.strip_suffix('m') {
            Some(word) if is_duration(word) => format!("{word}s"),
            _ => word.to_owned(),
        });
        shortened.collect::<String>()
    };
    let rules: Vec<String> = read(RULES)
        .lines()
        .map(|line| if line.contains(": '") { line.to_owned() } else { seconds(line) })
        .collect();
    assert!(
        rules.iter().any(|line| line == "        for: 1s")
            && !rules.iter().any(|line| line.ends_with("for: 1m"))
    );
    std::fs::create_dir(folder.join("rules")).unwrap();
    std::fs::write(folder.join("rules/facteur.yml"), rules.join("\n")).unwrap();
    let shipped = read(CONFIGURATION).replace(": 15s", ": 1s");
    let (head, discovery) = shipped.split_once("    dns_sd_configs:").expect("where its targets are");
    let targets: Vec<String> = targets.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    let rest = discovery.split_once("refresh_interval: 1s").expect("the end of its targets").1;
    let configuration = format!("{head}    static_configs:\n      - targets: [{}]{rest}", targets.join(", "));
    let path = folder.join("prometheus.yml");
    std::fs::write(&path, configuration).unwrap();
    path
}

/// `for: 2` or `[30`: a number that stands for itself.
fn is_duration(word: &str) -> bool {
    let digits = word.chars().rev().take_while(char::is_ascii_digit).count();
    digits > 0 && word[..word.len() - digits].ends_with(['[', ' '])
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Prometheus {
    process: std::process::Child,
    url: String,
    client: reqwest::Client,
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, targets: &[u16]) -> Self {
        let port = free_port();
        let configuration = quickened(folder, targets);
        let process = Command::new(program)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, url: format!("http://127.0.0.1:{port}"), client: client() }
    }

    async fn get(&self, path: &str) -> serde_json::Value {
        match self.client.get(format!("{}{path}", self.url)).send().await {
            Ok(answer) => serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default(),
            Err(_) => serde_json::Value::Null,
        }
    }

    /// The alerts that fire now.
    async fn firing(&self) -> Option<BTreeSet<String>> {
        let answer = self.get("/api/v1/alerts").await;
        let firing = answer["data"]["alerts"].as_array()?.iter().filter(|alert| alert["state"] == "firing");
        Some(firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect())
    }

    /// Until the alert fires, or does not any more.
    async fn until(&self, alert: &str, fires: bool) {
        let end = Instant::now() + Duration::from_secs(45);
        loop {
            let firing = self.firing().await;
            if firing.as_ref().is_some_and(|firing| firing.contains(alert) == fires) {
                return;
            }
            assert!(Instant::now() < end, "{alert} {fires}: {firing:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Until each target was read, and the rules were looked at.
    async fn until_it_reads(&self, targets: usize) {
        let end = Instant::now() + Duration::from_secs(45);
        loop {
            let answer = self.get("/api/v1/query?query=up==1").await;
            let rules = self.get("/api/v1/rules").await;
            let looked = rules["data"]["groups"][0]["rules"][0]["health"] == "ok";
            if looked && answer["data"]["result"].as_array().is_some_and(|up| up.len() == targets) {
                return;
            }
            assert!(Instant::now() < end, "{answer} {rules}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `facteur …` against this database and relay.
fn process(
    folder: &Folder,
    t: &TestOutbox,
    arguments: &[&str],
    http: u16,
    relay: u16,
    password: &str,
) -> Running {
    let (http, relay) = (http.to_string(), relay.to_string());
    let variables = [
        ("APP_ENV", "development"),
        ("DATABASE_URL", t.url()),
        ("HTTP_PORT", &http),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &relay),
        ("SMTP_USERNAME", "shop"),
        ("SMTP_PASSWORD", password),
        ("SMTP_TLS", "none"),
        ("WORKER_HEARTBEAT", "500ms"),
        ("WORKER_SESSION_EXPIRY", "2s"),
    ];
    Running::start(facteur(folder, arguments, &variables))
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_a_refused_login_overdue_mail_and_a_dead_worker() {
    let Some(program) = server() else { return };
    let (t, folder) = (TestOutbox::new().await, Folder::new());
    let relay = SmtpServer::start(Script::new().login("shop", "right")).await.unwrap();
    let smtp = relay.addr().port();
    let (one, other) = (free_port(), free_port());
    let mut both = process(&folder, &t, &["serve"], one, smtp, "wrong");
    let _door = process(&folder, &t, &["serve", "--no-worker"], other, smtp, "wrong");
    let prometheus = Prometheus::start(&program, folder.path(), &[one, other]);
    prometheus.until_it_reads(2).await;
    assert_eq!(prometheus.firing().await, Some(BTreeSet::new()), "all is well");

    let post = client().post(format!("http://127.0.0.1:{one}/api/test-email?to=ada@local.test"));
    assert_eq!(json(post).await.0, 202);
    prometheus.until("FacteurBreakerOpen", true).await;

    for _ in 0..3 {
        t.enqueue(email_to("ada@x.test")).await;
    }
    t.execute("UPDATE facteur.deliveries SET run_at = now() - interval '10 minutes' WHERE state = 'queued'")
        .await;
    prometheus.until("FacteurMailOverdue", true).await;
    assert!(!prometheus.firing().await.unwrap().contains("FacteurNoWorkerAlive"));

    both.kill();
    prometheus.until("FacteurNoWorkerAlive", true).await;
    prometheus.until("FacteurDown", true).await;

    let _worker = process(&folder, &t, &["worker"], 0, smtp, "right");
    for alert in ["FacteurNoWorkerAlive", "FacteurMailOverdue"] {
        prometheus.until(alert, false).await;
    }
    assert_eq!(relay.accepted().len(), 4, "and what waited was sent");
}
