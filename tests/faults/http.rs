//! The HTTP door of the real program, and a client that hides nothing: one connection a request.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Process;

/// What came back, and how long it took from the first byte of the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) body: serde_json::Value,
    pub(crate) took: Duration,
}

impl Answer {
    /// The name of the e-mail that was accepted.
    pub(crate) fn id(&self) -> Option<String> {
        let id = self.body["id"].as_str().filter(|_| self.status == 202);
        id.map(str::to_owned)
    }
}

/// `facteur serve …` on a free port, and its address once it is ready.
pub(crate) async fn serve(
    arguments: &[&str],
    environment: &[(&'static str, String)],
) -> (Process, SocketAddr) {
    serve_of(Path::new(env!("CARGO_BIN_EXE_facteur")), arguments, environment).await
}

/// The same of another build.
pub(crate) async fn serve_of(
    program: &Path,
    arguments: &[&str],
    environment: &[(&'static str, String)],
) -> (Process, SocketAddr) {
    let mut environment = environment.to_vec();
    environment.push(("HTTP_PORT", "0".to_owned()));
    let process = Process::start_of(program, &[&["serve"], arguments].concat(), &environment);
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let log = process.log();
        let address = lines(&log, "ready").find_map(|line| line["address"].as_str()?.parse().ok());
        if let Some(address) = address {
            return (process, address);
        }
        assert!(Instant::now() < end, "facteur serve is not ready:\n{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The lines of a JSON log with this message.
pub(crate) fn lines<'a>(log: &'a str, message: &'a str) -> impl Iterator<Item = serde_json::Value> + 'a {
    let all = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    all.filter(move |line| line["message"] == message)
}

/// What `POST /api/test-email?to=…` is on the wire.
pub(crate) fn request(to: &str) -> String {
    format!(
        "POST /api/test-email?to={to} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// What `POST /emails` is on the wire, with an attachment of 3 kB.
pub(crate) fn request_with_file(to: &str) -> String {
    let content = "QUJD".repeat(1_000);
    let body = serde_json::json!({
        "from": "shop@x.test", "to": to, "subject": "With a file", "html": "<p>See the file.</p>",
        "attachments": [{"filename": "abc.txt", "content": content}],
    });
    let body = body.to_string();
    format!(
        "POST /emails HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// `POST /api/test-email?to=…`, with a whole answer or an error.
pub(crate) async fn post(address: SocketAddr, to: &str) -> io::Result<Answer> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request(to).as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let retry_after = head.to_ascii_lowercase().contains("\r\nretry-after:");
    let body = serde_json::from_str(body).unwrap_or_default();
    Ok(Answer { status, retry_after, body, took: begun.elapsed() })
}

/// So many requests one after the other; how many were not answered with 202.
pub(crate) async fn refused_of(address: SocketAddr, n: usize) -> usize {
    let mut refused = 0;
    for i in 0..n {
        let answer = post(address, &format!("after{i}@x.test")).await;
        refused += usize::from(!answer.is_ok_and(|answer| answer.status == 202));
    }
    refused
}

/// The value below which `percent` of the others are.
pub(crate) fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get(last * percent / 100).copied().unwrap_or_default()
}
