use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::AppError;
use crate::delivery::Shutdown;

/// Connections that are kept open without a request do not hold the end up for longer.
const LONGEST_GOODBYE: Duration = Duration::from_secs(10);

/// The addresses that one door listens on.
pub(super) struct Door {
    listeners: Vec<TcpListener>,
    pub(super) address: SocketAddr,
}

impl Door {
    /// Listens on `address`; for 127.0.0.1 on ::1 too where there is one, because `localhost`
    /// means that first on some systems, Windows among them.
    pub(super) async fn open(address: SocketAddr, variable: &'static str) -> Result<Self, AppError> {
        let first = TcpListener::bind(address).await;
        let first = first.map_err(|source| AppError::Listen { address, variable, source })?;
        let address = first.local_addr().map_err(|source| AppError::Listen { address, variable, source })?;
        let mut listeners = vec![first];
        if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let twin = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
            listeners.extend(TcpListener::bind(twin).await.ok());
        }
        Ok(Self { listeners, address })
    }

    /// The same for a door that need not be.
    pub(super) async fn open_if(
        address: Option<SocketAddr>,
        variable: &'static str,
    ) -> Result<Option<Self>, AppError> {
        match address {
            Some(address) => Self::open(address, variable).await.map(Some),
            None => Ok(None),
        }
    }

    /// Answers until the shutdown begins, then lets requests in flight end, for as long as `grace`.
    pub(super) async fn serve(
        self,
        router: Router,
        shutdown: &Shutdown,
        grace: Duration,
    ) -> Result<(), AppError> {
        let stop = shutdown.begin.clone();
        let open = TaskTracker::new();
        let mut serving = tokio::task::JoinSet::new();
        for listener in self.listeners {
            let listener = listener.tap_io(no_delay);
            // With the peer's address: who has no token is counted by it.
            let service = router.clone().into_make_service_with_connect_info::<SocketAddr>();
            let server =
                axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
            serving.spawn(open.track_future(async move { server.await }));
        }
        let ended = async {
            while let Some(ended) = serving.join_next().await {
                match ended {
                    Ok(result) => result.map_err(AppError::Http)?,
                    Err(panic) => return Err(AppError::Http(std::io::Error::other(panic))),
                }
            }
            Ok(())
        };
        let patience = async {
            stop.cancelled().await;
            shutdown.now.run_until_cancelled(tokio::time::sleep(grace.min(LONGEST_GOODBYE))).await;
        };
        tokio::select! {
            result = ended => result,
            () = patience => Ok(()),
        }
    }
}

/// Whether the process behind the first of `addresses` that somebody listens on answers `GET /healthz` with 200.
///
/// Blocking, and within `patience` for each: it is all that its process does.
pub(super) fn lives(addresses: &[SocketAddr], patience: Duration) -> std::io::Result<()> {
    let mut refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    for address in addresses {
        match std::net::TcpStream::connect_timeout(address, patience) {
            Ok(stream) => return answers(stream, patience),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn answers(mut stream: std::net::TcpStream, patience: Duration) -> std::io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    if &status == b"HTTP/1.1 200" {
        return Ok(());
    }
    Err(std::io::Error::other(format!("it answered {}", String::from_utf8_lossy(&status).escape_debug())))
}

fn no_delay(stream: &mut TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
}
