use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{is_loopback, is_public};

/// Where hosts are, and which addresses may be connected to.
///
/// [`Internet`] is the one that is meant; a test brings its own.
pub trait Reach: fmt::Debug + Send + Sync {
    /// The addresses of a host name. Asked once for each connection, and the connection goes to what
    /// was answered then: there is no moment in between in which a name could move. Port 0 is the URL's.
    fn find(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

    /// Whether this address may be connected to.
    fn admits(&self, address: IpAddr) -> bool;
}

/// The system's name service, and public addresses only.
#[derive(Debug, Clone, Copy)]
pub struct Internet {
    /// Whether this machine's own addresses are let through too: for development.
    pub loopback: bool,
}

impl Reach for Internet {
    fn find(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }

    fn admits(&self, address: IpAddr) -> bool {
        is_public(address) || self.loopback && is_loopback(address)
    }
}

/// None of a host's addresses may be connected to, or it has none.
#[derive(Debug, thiserror::Error)]
#[error("no address that may be connected to")]
pub(super) struct Closed;

/// Gives a connection the addresses that it may have, and no others.
pub(super) struct Gatekeeper(pub(super) Arc<dyn Reach>);

impl Resolve for Gatekeeper {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let found = reach.find(name.as_str().to_owned()).await.map_err(|_| Closed)?;
            let open: Vec<SocketAddr> = found.into_iter().filter(|at| reach.admits(at.ip())).collect();
            if open.is_empty() {
                return Err(Closed.into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}
