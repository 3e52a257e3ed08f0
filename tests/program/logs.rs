//! What the logs say, and what they never say, over whole runs at TRACE.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::running::{Folder, Running, client, facteur, json};
use crate::support::outbox::TestOutbox;

const PASSWORD: &str = "Kx7-Zebra-Pass-99";
const USER: &str = "zebra-user";
const SECRET: &str = "q8Jw2ZrT5yVbN1mKc4LxP7sDf0GhA3eU";

/// PLAIN's and LOGIN's base64 of the credentials above, and of the parts that a cut could leave.
const ENCODED: [&str; 3] =
    ["AHplYnJhLXVzZXIAS3g3LVplYnJhLVBhc3MtOTk=", "S3g3LVplYnJhLVBhc3MtOTk=", "emVicmEtdXNlcg=="];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_reaches_the_logs_at_trace() {
    // A database each, so that the one with the password is the one that sends.
    let (t, other, folder) = (TestOutbox::new().await, TestOutbox::new().await, Folder::new());
    let client = client();

    let catcher = [
        ("HTTP_PORT", "0"),
        ("INBOX_HTTP_PORT", "0"),
        ("INBOX_SMTP_PORT", "0"),
        ("DATABASE_URL", other.url()),
        ("RUST_LOG", "trace"),
        ("LOG_FORMAT", "json"),
    ];
    let mut dev = Running::start(facteur(&folder, &["dev"], &catcher));
    let (inbox, smtp) = (dev.line("Inbox"), dev.line("SMTP"));
    let smtp_port = smtp.rsplit(':').next().unwrap().to_owned();

    let port = free_port();
    let variables = [
        ("APP_ENV", "staging"),
        ("HTTP_HOST", "127.0.0.1"),
        ("HTTP_PORT", port.as_str()),
        ("DATABASE_URL", t.url()),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", smtp_port.as_str()),
        ("SMTP_USERNAME", USER),
        ("SMTP_PASSWORD", PASSWORD),
        ("EMAIL_FROM", "Zora Sender <zora-sender@local.test>"),
        ("JWT_SECRET", SECRET),
        ("RUST_LOG", "trace"),
    ];
    let token = facteur(&folder, &["token", "--role", "admin"], &variables).output().unwrap();
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let mut serve = Running::start(facteur(&folder, &["serve"], &variables));
    let api = format!("http://127.0.0.1:{port}");
    until_ready(&client, &api).await;

    let send = |to: &str, token: &str| {
        json(
            client
                .post(format!("{api}/api/test-email?to={to}"))
                .header("authorization", format!("Bearer {token}")),
        )
    };
    let (status, accepted) = send("zelda-private@local.test", &token).await;
    assert_eq!(status, 202, "{accepted}");
    assert_eq!(send("zelda-private@@local.test", &token).await.0, 422);
    assert_eq!(send("zelda-private@local.test", "zany.forged.token").await.0, 401);
    let waited = format!("{inbox}/api/messages/wait?to=zelda-private@local.test&timeout=20s");
    assert_eq!(json(client.get(waited)).await.0, 200);
    client.get(&inbox).send().await.unwrap();

    serve.interrupt();
    assert!(serve.wait().0.success());
    dev.interrupt();
    assert!(dev.wait().0.success());
    let (text, lines) = (serve.log(), dev.log());

    let id = accepted["id"].as_str().unwrap();
    let line =
        |end: &str| text.lines().find(|l| l.contains(id) && l.contains(end)).unwrap_or_default().to_owned();
    assert!(line("accepted").contains("local.test"), "one line when it is accepted:\n{text}");
    let either = format!("{text}\n{lines}");
    let sent = either.lines().find(|l| l.contains(id) && l.contains("sent")).expect("one line when it ends");
    for field in ["domain", "local.test", "attempt", "transport", "250", "ms"] {
        assert!(sent.contains(field), "{field} is missing: {sent}");
    }
    assert!(
        lines.lines().all(|l| !l.starts_with('{') || serde_json::from_str::<serde_json::Value>(l).is_ok())
    );
    assert!(text.contains("TRACE") && lines.contains("TRACE"), "the run was at TRACE");

    let database_password =
        t.url().split(':').nth(2).and_then(|rest| rest.split('@').next()).unwrap_or_default();
    let private = [
        "zelda-private",
        "zora-sender",
        "Zora Sender",
        "It works",
        "handed over by SMTP",
        USER,
        PASSWORD,
        SECRET,
        token.rsplit('.').next().unwrap(),
        "zany.forged",
        database_password,
    ];
    for word in private.into_iter().chain(ENCODED).filter(|word| !word.is_empty()) {
        let found = either.lines().find(|line| line.contains(word));
        assert!(found.is_none(), "{word:?} is in the logs: {}", found.unwrap_or_default());
    }
}

/// Where files are is the caller's, its signature a secret; and a proxy of the environment would see both.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_fetched_file_reaches_neither_the_logs_nor_a_proxy() {
    let (t, folder, client) = (TestOutbox::new().await, Folder::new(), client());
    let files = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = files.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = files.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nHello")
                .await
                .unwrap();
        }
    });
    let proxy = format!("http://127.0.0.1:{}", free_port());
    let mut dev = Running::start(facteur(
        &folder,
        &["dev"],
        &[
            ("HTTP_PORT", "0"),
            ("INBOX_HTTP_PORT", "0"),
            ("INBOX_SMTP_PORT", "0"),
            ("DATABASE_URL", t.url()),
            ("RUST_LOG", "trace"),
            ("ATTACHMENTS_FROM_LOCALHOST", "true"),
            ("HTTP_PROXY", &proxy),
            ("http_proxy", &proxy),
            ("ALL_PROXY", &proxy),
        ],
    ));
    let api = dev.line("API");
    let send = |path: String| {
        let body = serde_json::json!({
            "from": "shop@local.test", "to": "ada@local.test", "subject": "Hello", "text": "Hello",
            "attachments": [{"path": path}],
        });
        let request = client.post(format!("{api}/emails")).header("content-type", "application/json");
        json(request.body(body.to_string()))
    };
    let (status, accepted) = send(format!("http://{at}/order.txt?sig=zulu-signature")).await;
    assert_eq!(status, 200, "{accepted}");
    let (status, refused) = send(format!("http://user:zulu-login@{at}/?sig=zulu-signature")).await;
    assert_eq!(status, 422, "{refused}");
    let (status, refused) = send("http://nowhere.invalid/?sig=zulu-signature".into()).await;
    assert_eq!(status, 422, "{refused}");
    dev.interrupt();
    assert!(dev.wait().0.success());
    let log = dev.log();
    assert!(log.contains("TRACE"), "the run was at TRACE");
    for word in ["zulu-signature", "zulu-login"] {
        let found = log.lines().find(|line| line.contains(word));
        assert!(found.is_none(), "{word:?} is in the log: {}", found.unwrap_or_default());
    }
}

fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Asks until it answers; the program says when it cannot.
async fn until_ready(client: &reqwest::Client, api: &str) {
    for _ in 0..600 {
        if client.get(format!("{api}/readyz")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not ready after 30 s");
}
