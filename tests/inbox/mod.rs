//! An inbox on free ports, and plain sockets to talk to it.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use facteur::inbox::{Inbox, InboxError, InboxSettings};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) type Done<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// An inbox that runs until it is stopped or dropped.
pub(crate) struct Running {
    pub(crate) http: SocketAddr,
    pub(crate) smtp: SocketAddr,
    pub(crate) folder: PathBuf,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), InboxError>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
        // A test that failed may have taken it away already.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A folder that is not there yet.
pub(crate) fn new_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::now_v7().to_string())
}

pub(crate) fn client() -> Done<reqwest::Client> {
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?)
}

pub(crate) async fn start() -> Done<Running> {
    start_in(&new_folder()).await
}

pub(crate) async fn start_in(folder: &Path) -> Done<Running> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let inbox = Inbox::bind(InboxSettings {
        http: any,
        smtp: any,
        folder: folder.to_owned(),
        api: "http://localhost:8000".into(),
    })
    .await?;
    let (http, smtp, stop) = (inbox.http_addr(), inbox.smtp_addr(), CancellationToken::new());
    let task = tokio::spawn(inbox.run(stop.clone()));
    Ok(Running { http, smtp, folder: folder.to_owned(), stop, task })
}

impl Running {
    /// Delivers a mail whose lines end as given; dots are stuffed here.
    pub(crate) async fn deliver(&self, to: &[&str], mail: &str) -> Done {
        let mut smtp = Smtp::greeted(self.smtp).await?;
        assert_eq!(smtp.say("MAIL FROM:<sender@local.test>").await?, "250");
        for to in to {
            assert_eq!(smtp.say(&format!("RCPT TO:<{to}>")).await?, "250");
        }
        assert_eq!(smtp.say("DATA").await?, "354");
        let stuffed = mail.replace("\r\n.", "\r\n..");
        assert_eq!(smtp.say(&format!("{stuffed}\r\n.")).await?, "250");
        Ok(())
    }
}

/// An SMTP client that says what it is told to.
pub(crate) struct Smtp(pub(crate) BufReader<TcpStream>);

impl Smtp {
    pub(crate) async fn greeted(address: SocketAddr) -> Done<Self> {
        let mut smtp = Self(BufReader::new(TcpStream::connect(address).await?));
        assert_eq!(smtp.reply().await?, "220");
        assert_eq!(smtp.say("EHLO test").await?, "250");
        Ok(smtp)
    }

    /// One line, and the code that answers it.
    pub(crate) async fn say(&mut self, line: &str) -> Done<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// The code of the next reply, all its lines read.
    pub(crate) async fn reply(&mut self) -> Done<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Ok("closed".to_owned());
            }
            if line.get(3..4) != Some("-") {
                return Ok(line.get(..3).unwrap_or_default().to_owned());
            }
        }
    }
}
