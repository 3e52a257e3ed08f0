//! Amazon SES as somebody else understood it: moto, an emulator that knows nothing of us.
//!
//! It runs in `target/moto`, a Python environment that `./test` prepares. moto checks no signatures (the
//! published vectors do, in src/transport/api/sigv4.rs), has no `GetAccount`, and counts the people
//! shown in To and Cc among the recipients, which SES does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "nothing is faked here")]
mod transport_api;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use facteur::settings::{Api, Ses};
use facteur::transport::api::ApiTransport;
use facteur::transport::{Outcome, Stage};
use rustls::RootCertStore;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use transport_api::{ADA, EMAIL, send, within};

/// Dropped with the test.
struct Moto {
    _child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Moto {
    async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/moto/bin/python");
        assert!(
            python.exists(),
            "moto is not there: run ./test, or python3 -m venv target/moto && target/moto/bin/pip install 'moto[server]'"
        );
        let mut child = Command::new(python)
            .arg(root.join("tests/ses_moto.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = answers.next_line().await.unwrap().expect("moto starts").parse().unwrap();
        Self { _child: child, commands, answers, port }
    }

    async fn tell(&mut self, command: &str) -> Value {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        serde_json::from_str(&self.answers.next_line().await.unwrap().unwrap()).unwrap()
    }

    fn way(&self) -> ApiTransport {
        let settings = Api::Ses(Ses {
            region: "eu-west-3".into(),
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            configuration_set: None,
            base_url: Some(format!("http://127.0.0.1:{}", self.port)),
        });
        ApiTransport::with_roots(&settings, RootCertStore::empty(), within(Duration::from_secs(30))).unwrap()
    }
}

#[tokio::test]
async fn moto_takes_the_mail_as_it_was_rendered_from_a_verified_sender_only() {
    let mut moto = Moto::start().await;
    let way = moto.way();
    let outcome = send(&way, &EMAIL, ADA).await;
    let Outcome::Unusable(report) = outcome else { panic!("{outcome:?}") };
    assert_eq!((report.stage, report.code), (Stage::Account, Some(400)), "{report}");
    assert!(report.text.starts_with("MessageRejected"), "{report}");
    assert_eq!(moto.tell("sent").await, serde_json::json!([]));

    moto.tell("verify shop@example.test").await;
    let outcome = send(&way, &EMAIL, ADA).await;
    let Outcome::Sent(report) = outcome else { panic!("{outcome:?}") };
    let sent = moto.tell("sent").await;
    let [mail] = sent.as_array().unwrap().as_slice() else { panic!("{sent}") };
    assert_eq!(mail["id"], report.text, "the id that SES knows it by");
    assert_eq!(mail["source"], "shop@example.test");
    assert_eq!(mail["to"][0], ADA);
    let raw = mail["raw"].as_str().unwrap();
    assert_eq!(raw.as_bytes(), EMAIL.render().unwrap(), "byte for byte");
    assert!(raw.contains("Message-ID: <019aa000@example.test>\r\n"), "{raw}");
}
