//! What the scripted server does as it is told, seen from the other end of a socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::time::{Duration, Instant};

use facteur::testing::{Fault, Script, SmtpServer, Stage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(server: &SmtpServer) -> Self {
        Self(BufReader::new(TcpStream::connect(server.addr()).await.unwrap()))
    }

    /// The code of the last line of the next reply; none at the end of the connection.
    async fn reply(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = timeout(Duration::from_secs(10), self.0.read_line(&mut line)).await;
            if read.expect("within ten seconds").unwrap() == 0 {
                return None;
            }
            if line.as_bytes()[3] == b' ' {
                return Some(line[..3].to_owned());
            }
        }
    }

    async fn say(&mut self, command: &str) -> Option<String> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        self.reply().await
    }

    async fn greeted(server: &SmtpServer) -> Self {
        let mut client = Self::connect(server).await;
        assert_eq!(client.reply().await.as_deref(), Some("220"));
        client
    }

    /// A whole mail; the code of its first reply and of its last.
    async fn mail(&mut self) -> Option<String> {
        let first = self.say("MAIL FROM:<a@x.test>").await;
        if first.as_deref() != Some("250") {
            return first;
        }
        self.say("RCPT TO:<b@x.test>").await;
        self.say("DATA").await;
        self.say("Subject: hello\r\n\r\nGood day.\r\n.").await
    }
}

#[tokio::test]
async fn who_is_one_too_many_hears_421() {
    let server = SmtpServer::start(Script::new().most_connections(2)).await.unwrap();
    let (first, _second) = (Client::greeted(&server).await, Client::greeted(&server).await);
    let mut third = Client::connect(&server).await;
    assert_eq!(third.reply().await.as_deref(), Some("421"));
    assert_eq!(third.reply().await, None);
    let counters = server.counters();
    assert_eq!((counters.opened, counters.most_open, counters.turned_away), (3, 2, 1), "{counters:?}");
    drop(first);
    server.wait_until(|server| server.counters().open == 1).await;
    Client::greeted(&server).await;
}

#[tokio::test]
async fn who_is_silent_for_too_long_hears_421_unasked() {
    let server = SmtpServer::start(Script::new().idle_limit(Duration::from_millis(100))).await.unwrap();
    let mut client = Client::greeted(&server).await;
    assert_eq!(client.mail().await.as_deref(), Some("250"));
    let begun = Instant::now();
    assert_eq!(client.reply().await.as_deref(), Some("421"));
    assert!(begun.elapsed() >= Duration::from_millis(50), "not before its time");
    assert_eq!(client.reply().await, None);
    server.wait_until(|server| server.counters().open == 0).await;
}

#[tokio::test]
async fn a_connection_that_is_too_old_hears_421_at_its_next_mail() {
    let server = SmtpServer::start(Script::new().lifetime(Duration::from_millis(50))).await.unwrap();
    let mut client = Client::greeted(&server).await;
    assert_eq!(client.mail().await.as_deref(), Some("250"));
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(client.say("NOOP").await.as_deref(), Some("250"));
    assert_eq!(client.mail().await.as_deref(), Some("421"));
    assert_eq!(client.reply().await, None);
    assert_eq!(server.accepted().len(), 1);
}

#[tokio::test]
async fn a_fault_may_be_for_the_nth_mail_of_each_connection() {
    let script = Script::new().at(Stage::Mail, Fault::reply(451, "4.3.0 later")).on_mail_of_connection(2);
    let server = SmtpServer::start(script).await.unwrap();
    for _ in 0..2 {
        let mut client = Client::greeted(&server).await;
        for code in ["250", "451", "250"] {
            assert_eq!(client.mail().await.as_deref(), Some(code));
        }
    }
    assert_eq!((server.accepted().len(), server.counters().faults), (4, 2));
}

#[tokio::test]
async fn content_may_be_read_a_byte_at_a_time() {
    let drip = Fault::drip(Duration::from_millis(50));
    let server = SmtpServer::start(Script::new().at(Stage::Body, drip).receive_buffer(65_536)).await.unwrap();
    let mut client = Client::greeted(&server).await;
    client.say("MAIL FROM:<a@x.test>").await;
    client.say("RCPT TO:<b@x.test>").await;
    client.say("DATA").await;
    let much = vec![b'x'; 20_000_000];
    let writing = client.0.get_mut().write_all(&much);
    assert!(timeout(Duration::from_millis(500), writing).await.is_err(), "it cannot take as much");
    let mut rest = Vec::new();
    assert!(timeout(Duration::from_millis(50), client.0.read_to_end(&mut rest)).await.is_err());
}
