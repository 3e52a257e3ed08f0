use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::settings::{OAuth, SecretString};

/// A token endpoint (RFC 6749) on a free port of this machine, and with it the mailboxes that its
/// tokens open: see [`Script::xoauth2`](super::Script::xoauth2). Stops when it is dropped.
pub struct TokenEndpoint {
    addr: SocketAddr,
    book: Book,
    listening: JoinHandle<()>,
}

/// What was asked and given, shared with the servers that take the tokens.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Mutex<State>>);

struct State {
    requests: Vec<String>,
    good: Vec<String>,
    issued: usize,
    life: Option<u64>,
    delay: Duration,
    answer: Option<(u16, String)>,
}

impl Default for State {
    fn default() -> Self {
        let (requests, good) = (Vec::new(), Vec::new());
        Self { requests, good, issued: 0, life: Some(3_599), delay: Duration::ZERO, answer: None }
    }
}

/// What the client proves itself with.
pub(super) const CLIENT: (&str, &str) = ("facteur-client", "c!ient s3cret&+");

impl TokenEndpoint {
    /// Listens on 127.0.0.1, and gives tokens that live for an hour.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let book = Book::default();
        let listening = tokio::spawn(listen(listener, book.clone()));
        Ok(Self { addr, book, listening })
    }

    /// The settings of a client that it knows, for this mailbox.
    pub fn oauth(&self, mailbox: &str) -> OAuth {
        OAuth {
            mailbox: SecretString::from(mailbox.to_owned()),
            token_url: format!("http://{}/tenant/token", self.addr),
            client_id: CLIENT.0.to_owned(),
            client_secret: SecretString::from(CLIENT.1.to_owned()),
            scope: Some("https://mail.test/.default".to_owned()),
        }
    }

    /// Tokens live for so many seconds, or for as long as they do not say.
    pub fn tokens_live(&self, seconds: Option<u64>) {
        self.book.lock().life = seconds;
    }

    /// Each answer takes so long.
    pub fn delay(&self, by: Duration) {
        self.book.lock().delay = by;
    }

    /// This status and body, whoever asks, until told otherwise; none: tokens again.
    pub fn answer(&self, with: Option<(u16, &str)>) {
        self.book.lock().answer = with.map(|(status, body)| (status, body.to_owned()));
    }

    /// No mailbox opens to a token that was given so far.
    pub fn revoke(&self) {
        self.book.lock().good.clear();
    }

    /// The bodies of the requests, in order.
    pub fn requests(&self) -> Vec<String> {
        self.book.lock().requests.clone()
    }

    /// The tokens that open mailboxes now.
    pub fn good_tokens(&self) -> Vec<String> {
        self.book.lock().good.clone()
    }

    pub(super) fn book(&self) -> Book {
        self.book.clone()
    }
}

impl Book {
    pub(super) fn is_good(&self, token: &str) -> bool {
        self.lock().good.iter().any(|good| good == token)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole, whatever panics elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, body: String) -> (u16, String) {
        let mut state = self.lock();
        let known = body.contains("grant_type=client_credentials")
            && body.contains("client_id=facteur-client&")
            && body.contains("client_secret=c%21ient%20s3cret%26%2B");
        state.requests.push(body);
        if let Some(answer) = &state.answer {
            return answer.clone();
        }
        if !known {
            let why = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}"#;
            return (401, why.to_owned());
        }
        state.issued += 1;
        let token = format!("eyJtoken.{}.s1gnature", state.issued);
        let life = state.life.map(|seconds| format!(r#","expires_in":{seconds}"#)).unwrap_or_default();
        let answer = format!(r#"{{"token_type":"Bearer"{life},"access_token":"{token}"}}"#);
        state.good.push(token);
        (200, answer)
    }
}

async fn listen(listener: TcpListener, book: Book) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let book = book.clone();
        // A client that hangs up has what it wanted.
        sessions.spawn(async move { serve(stream, book).await.unwrap_or_default() });
    }
}

/// One request, one answer, and the end (HTTP/1.1, RFC 9112).
async fn serve(mut stream: TcpStream, book: Book) -> io::Result<()> {
    let mut received = Vec::new();
    let body = loop {
        if let Some(body) = body_of(&received) {
            break body;
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    };
    let delay = book.lock().delay;
    let (status, answer) = book.answer(body);
    tokio::time::sleep(delay).await;
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nlocation: http://127.0.0.1:1/\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + &answer).as_bytes()).await?;
    stream.shutdown().await
}

/// Once all of it is there.
fn body_of(received: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(received);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (body.len() >= length.unwrap_or(0)).then(|| body.to_owned())
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book")
    }
}
