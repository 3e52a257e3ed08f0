//! `facteur send`, as a person runs it: what is shown, what is not, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use facteur::settings::Api;
use facteur::testing::{FakeProvider, Fault, Provider, Script, SmtpServer, Stage, TestAuthority};

use crate::running::{Folder, facteur};

const PASSWORD: &str = "hunter2-and-more";
/// The password alone, and behind the user name as PLAIN has it.
const CODED: [&str; 2] = ["aHVudGVyMi1hbmQtbW9yZQ", "AGFkYQBodW50ZXIyLWFuZC1tb3Jl"];

/// What the command prints and how it ends, with these transports and nothing else: no database.
async fn send(urls: &str, more: &[(&str, &str)], arguments: &'static [&'static str]) -> Output {
    let urls = urls.to_owned();
    let more: Vec<(String, String)> =
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let running = tokio::task::spawn_blocking(move || {
        let folder = Folder::new();
        let mut variables = vec![
            ("APP_ENV", "development"),
            ("MAIL_TRANSPORTS", urls.as_str()),
            ("RUST_LOG", "trace"),
            ("LOG_FORMAT", "json"),
        ];
        variables.extend(more.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let arguments: Vec<&str> = ["send"].iter().chain(arguments).copied().collect();
        facteur(&folder, &arguments, &variables).output().unwrap()
    });
    running.await.unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The conversation without its times.
fn lines(output: &Output) -> Vec<String> {
    let line = |line: &str| line.get(9..).filter(|_| line.get(7..8) == Some("s")).map(str::to_owned);
    shown(output).lines().filter_map(line).collect()
}

/// Nothing of them is anywhere, on no channel, however much is logged.
fn keeps(output: &Output, secrets: &[&str]) {
    for channel in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(channel);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in:\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_sent_and_its_conversation_shown() {
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let url = format!("smtp://{}?name=first smtp://127.0.0.1:1?name=second", server.addr());
    let output =
        send(&url, &[], &["--to", "ada@example.com", "--subject", "Hello", "--text", "unseen words"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = lines(&output);
    let at = |line: &str| {
        lines.iter().position(|shown| shown == line).unwrap_or_else(|| panic!("{line} in {lines:#?}"))
    };
    let order = [
        at(&format!("* connected to {}", server.addr())),
        lines.iter().position(|line| line.starts_with("< 220 ")).unwrap(),
        at("> EHLO [127.0.0.1]"),
        at("> RCPT TO:<ada@example.com>"),
        at("> DATA"),
        at("> Subject: Hello"),
        at("> ."),
        at("< 250 2.0.0 taken"),
        at("> QUIT"),
    ];
    assert!(order.is_sorted(), "{lines:#?}");
    let text = shown(&output);
    assert!(text.starts_with("first: from noreply@local.test to ada@example.com\n"), "{text}");
    assert!(text.contains("octets of body, not shown") && !text.contains("unseen words"), "{text}");
    assert!(text.contains("\nSENT: the server took the mail (end-of-data: 250 "), "{text}");
    let [mail] = &server.accepted()[..] else { panic!("one mail") };
    assert!(String::from_utf8_lossy(&mail.content).contains("unseen words"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_behind_starttls_shows_what_protects_it_and_no_secret() {
    let authority = TestAuthority::new().unwrap();
    let script = || Script::new().starttls(authority.issue("localhost").unwrap()).login("ada", PASSWORD);
    let folder = Folder::new();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let trusting = [("SMTP_CA_FILE", file.to_str().unwrap())];
    for mechanisms in ["PLAIN", "LOGIN"] {
        let server = SmtpServer::start(script().mechanisms(mechanisms)).await.unwrap();
        let port = server.addr().port();
        let url = format!("smtp://ada:{PASSWORD}@localhost:{port}?tls=starttls");
        let output = send(&url, &trusting, &["--to", "ada@example.com"]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = shown(&output);
        assert!(text.contains("* TLSv1_3, TLS13_"), "{text}");
        assert!(text.contains("* the certificate is good for localhost: "), "{text}");
        assert!(text.contains(&format!("> AUTH {mechanisms}")) && text.contains("***"), "{text}");
        keeps(&output, &[PASSWORD, CODED[0], CODED[1]]);
    }
    // The server repeats what it was given.
    let echo = format!("5.7.8 no: {PASSWORD} {}== \u{1b}[2J", CODED[1]);
    let server = SmtpServer::start(script().at(Stage::Auth, Fault::reply(535, &echo))).await.unwrap();
    let url = format!("smtp://ada:{PASSWORD}@localhost:{}?tls=starttls", server.addr().port());
    let output = send(&url, &trusting, &["--to", "ada@example.com"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = shown(&output);
    assert!(text.contains("< 535 5.7.8 no: *** ") && text.contains("\\u{1b}[2J"), "{text}");
    assert!(text.contains("NOT SENT: this way cannot be used (auth: 535 "), "{text}");
    assert!(text.contains("are user name, password or key right"), "{text}");
    keeps(&output, &[PASSWORD, CODED[0], CODED[1]]);
    // Whom nobody vouches for.
    let url = format!("smtp://ada:{PASSWORD}@localhost:{}?tls=starttls", server.addr().port());
    let output = send(&url, &[], &["--to", "ada@example.com"]).await;
    assert!(shown(&output).contains("SMTP_CA_FILE"), "{output:?}");
    keeps(&output, &[PASSWORD, CODED[0], CODED[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_is_said_in_words_with_what_to_do_next() {
    for (script, ends, next) in [
        (
            Script::new().at(Stage::Rcpt, Fault::reply(550, "5.1.1 no such user")),
            "refused for good (rcpt: 550 5.1.1 no such user)",
            "is the recipient's address right?",
        ),
        (
            Script::new().at(Stage::Mail, Fault::reply(451, "4.3.0 later")),
            "NOT SENT, for now (mail: 451",
            "in a while",
        ),
        (Script::new().at(Stage::EndOfData, Fault::hang_up()), "NOBODY KNOWS", "before you send it again"),
    ] {
        let server = SmtpServer::start(script).await.unwrap();
        let output = send(&format!("smtp://{}", server.addr()), &[], &["--to", "ada@example.com"]).await;
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(ends) && text.contains(next), "{text}");
    }
    let output = send("smtp://127.0.0.1:1", &[], &["--to", "ada@example.com"]).await;
    assert!(shown(&output).contains("does the server run"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_that_stalls_has_said_is_shown_while_it_does() {
    let server = SmtpServer::start(Script::new().at(Stage::Rcpt, Fault::stall())).await.unwrap();
    let url = format!("smtp://{}", server.addr());
    let watching = tokio::task::spawn_blocking(move || {
        let folder = Folder::new();
        let variables = [("APP_ENV", "development"), ("MAIL_TRANSPORTS", url.as_str())];
        let mut command = facteur(&folder, &["send", "--to", "ada@example.com"], &variables);
        let mut sending = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(sending.stdout.take().unwrap()).lines().map(Result::unwrap);
        let last = lines.find(|line| line.ends_with("s < 250 2.1.0 sender ok"));
        let goes_on = sending.try_wait().unwrap().is_none();
        sending.kill().unwrap();
        sending.wait().unwrap();
        (last.is_some(), goes_on)
    });
    assert_eq!(watching.await.unwrap(), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_shows_its_request_and_answer_and_no_key() {
    const TOKEN: &str = "5f3c9a1e-0000-4000-8000-c0ffee000001";
    for (provider, scheme) in [(Provider::Postmark, "postmark"), (Provider::Brevo, "brevo")] {
        let fake = FakeProvider::start(provider).await.unwrap();
        let base = match fake.settings() {
            Api::Postmark(settings) => settings.base_url,
            Api::Brevo(settings) => settings.base_url,
            other => panic!("{other:?}"),
        };
        let url = format!("{scheme}://{TOKEN}?base_url={}", base.unwrap());
        // The fake knows another key: the answer is a refusal.
        let output = send(&url, &[], &["--to", "ada@example.com"]).await;
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("> POST http://127.0.0.1:") && text.contains(": ***"), "{text}");
        assert!(text.contains("< HTTP/1.1 401"), "{text}");
        assert!(text.contains("are user name, password or key right"), "{text}");
        keeps(&output, &[TOKEN]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_an_address_that_is_none_is_a_fault_of_the_command_line() {
    let two = "smtp://127.0.0.1:1?name=a smtp://127.0.0.1:1?name=b";
    let unknown = send(two, &[], &["--to", "ada@example.com", "--transport", "c"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("no transport is called \"c\"; there are: a, b"), "{text}");
    let address = send(two, &[], &["--to", "ada"]).await;
    assert_eq!(address.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&address.stderr).contains("exactly one @"), "{address:?}");
    let nobody = send(two, &[], &[]).await;
    assert_eq!(nobody.status.code(), Some(2));
    let help = send(two, &[], &["--help"]).await;
    assert!(shown(&help).contains("past the outbox"), "{help:?}");
}
