use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a request's head.
const MOST_HEAD: usize = 65_536;

/// One request.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    pub(super) method: String,
    /// Without what follows a question mark.
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The head of the next request, with what came of its body; none at the end of the connection.
    pub(super) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        rest: &mut Vec<u8>,
    ) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if rest.len() > MOST_HEAD || stream.read_buf(rest).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Ok(Some(Self {
            method: method.to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            headers: headers.collect(),
            body: vec![],
        }))
    }

    /// The body, by its `Content-Length`.
    pub(super) async fn read_body(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        rest: &mut Vec<u8>,
    ) -> io::Result<()> {
        let length: usize = self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while rest.len() < length {
            if stream.read_buf(rest).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.body = rest.drain(..length).collect();
        Ok(())
    }
}

impl Said {
    pub(super) fn new(status: u16, body: String) -> Self {
        Self { status, headers: vec![], body }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, body.to_string())
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let head = self.head();
        stream.write_all(format!("{head}{}", self.body).as_bytes()).await?;
        stream.flush().await
    }

    /// Half of it.
    pub(super) async fn write_half(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let half = &self.body.as_bytes()[..self.body.len() / 2];
        stream.write_all(self.head().as_bytes()).await?;
        stream.write_all(half).await?;
        stream.flush().await
    }

    fn head(&self) -> String {
        let kind = if self.body.starts_with(['{', '[']) { "application/json" } else { "text/plain" };
        let mut head = format!("HTTP/1.1 {} Said\r\nContent-Type: {kind}\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        head
    }
}
