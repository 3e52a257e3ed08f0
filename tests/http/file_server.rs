//! Servers of files on loopback, and a net in which some of loopback is public.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use facteur::http::{Fetcher, Internet, Reach};
use facteur::settings::{Fetching, Limits};
use facteur::testing::{Identity, TestAuthority};
use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a server does with a request.
pub(crate) enum Reply {
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing more.
    Stuck(Vec<u8>),
    /// A head, and then bytes for as long as somebody reads.
    Endless,
}

/// The request's head, and what is answered.
type Answering = dyn Fn(&str) -> Reply + Send + Sync;

pub(crate) struct FileServer {
    pub(crate) at: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// Over https where there is an identity.
    pub(crate) async fn start(
        ip: &str,
        identity: Option<&Identity>,
        answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, requests): (Arc<Answering>, _) = (Arc::new(answer), Arc::clone(&seen));
        let tls = identity.map(acceptor);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, requests, tls) = (Arc::clone(&answer), Arc::clone(&requests), tls.clone());
                tokio::spawn(async move {
                    let _ = match tls {
                        Some(tls) => serve(tls.accept(stream).await?, &requests, answer.as_ref()).await,
                        None => serve(stream, &requests, answer.as_ref()).await,
                    };
                    Ok::<_, io::Error>(())
                });
            }
        });
        Self { at, seen }
    }

    /// The heads of all requests.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(identity.pem().as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config).into()
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Mutex<Vec<String>>,
    answer: &Answering,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    seen.lock().unwrap().push(head.clone());
    match answer(&head) {
        Reply::Bytes(bytes) => stream.write_all(&bytes).await?,
        Reply::Stuck(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            // Until the other side has had enough.
            while stream.read_u8().await.is_ok() {}
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        }
    }
    stream.shutdown().await
}

/// A whole answer.
pub(crate) fn ok(head: &str, content: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", content.len());
    Reply::Bytes([head.as_bytes(), content].concat())
}

pub(crate) fn moved(to: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

/// A net in which the addresses from 127.0.0.2 on are public, and names are where the test says: at one place
/// after the other, each time that they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Net {
    hosts: Mutex<HashMap<String, Vec<SocketAddr>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Net {
    pub(crate) fn of(hosts: &[(&str, &[SocketAddr])]) -> Arc<Self> {
        let hosts = hosts.iter().map(|(name, places)| ((*name).to_owned(), places.to_vec())).collect();
        Arc::new(Self { hosts: Mutex::new(hosts), asked: Mutex::default() })
    }

    /// Production's rules in this net.
    pub(crate) fn fetcher(self: &Arc<Self>, authority: &TestAuthority) -> Fetcher {
        Fetcher::reaching(production(), Arc::clone(self) as Arc<dyn Reach>, authority.roots().unwrap())
    }
}

pub(crate) fn production() -> Fetching {
    Fetching { plain: false, ..Limits::open().fetching }
}

impl Reach for Net {
    fn find(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let found = self.hosts.lock().unwrap().get_mut(&host).map(|places| {
            places.rotate_left(1);
            vec![places[places.len() - 1]]
        });
        self.asked.lock().unwrap().push(host);
        Box::pin(async { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn admits(&self, address: IpAddr) -> bool {
        let ours = matches!(address, IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, 0] && v4.octets()[3] > 1);
        ours || Internet { loopback: false }.admits(address)
    }
}
