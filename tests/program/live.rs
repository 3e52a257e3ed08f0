//! `facteur check --live`, and a worker that opens no door but a port for metrics and probes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;

use facteur::testing::{Script, SmtpServer};

use crate::running::{Folder, Running, client, facteur, json};
use crate::support::outbox::{TestOutbox, email_to};

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Blocking programs beside servers of this very runtime.
async fn live(variables: &[(&str, &str)]) -> (bool, String) {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let asked = tokio::task::spawn_blocking(move || {
        let folder = Folder::new();
        let variables: Vec<_> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        facteur(&folder, &["check", "--live"], &variables).output().unwrap()
    });
    let output = asked.await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_production_needs_no_key_and_shows_its_metrics_on_a_port_of_its_own() {
    let t = TestOutbox::new().await;
    let server = SmtpServer::start(Script::new()).await.unwrap();
    let (port, none, smtp) = (free_port(), free_port(), server.addr().port().to_string());
    let folder = Folder::new();
    let production = [
        ("APP_ENV", "production"),
        ("DATABASE_URL", t.url()),
        ("SMTP_HOST", "127.0.0.1"),
        ("SMTP_PORT", &smtp),
        ("METRICS_PORT", &port),
        ("HTTP_PORT", &none),
    ];
    assert!(!live(&production).await.0, "nobody is there yet");
    let mut worker = Running::start(facteur(&folder, &["worker"], &production));
    t.enqueue(email_to("ada@x.test")).await;
    server.wait_for(1).await;

    let (client, base) = (client(), format!("http://127.0.0.1:{port}"));
    let (status, ready) = json(client.get(format!("{base}/readyz"))).await;
    assert_eq!((status, ready["status"].as_str()), (200, Some("ok")));
    let sent = async {
        loop {
            let text = client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
            let found = |line: &str| {
                line.starts_with("facteur_attempts_total")
                    && line.contains("\"sent\"")
                    && line.ends_with(" 1")
            };
            if text.lines().any(found) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), sent).await.expect("counted by the worker");
    assert_eq!(json(client.post(format!("{base}/api/test-email?to=a@x.test"))).await.0, 404, "it is no door");
    assert_eq!(live(&production).await, (true, String::new()));
    // A secret that is missing, a database that is away: none of a probe's business.
    let probe = [
        ("METRICS_PORT", port.as_str()),
        ("HTTP_PORT", &none),
        ("JWT_SECRET", "short"),
        ("DATABASE_URL", "nowhere"),
    ];
    assert!(live(&probe).await.0);
    worker.interrupt();
    assert!(worker.wait().0.success());
    let (alive, said) = live(&production).await;
    assert!(!alive && said.contains(&port) && said.contains("METRICS_PORT"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_on_the_port_is_not_life() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        let router = axum::Router::new();
        axum::serve(listener, router).await
    });
    let (alive, said) = live(&[("HTTP_PORT", &port)]).await;
    assert!(!alive && said.contains("HTTP/1.1 404"), "{said}");
}
