//! The SMTP server of the inbox: takes any mail from anybody on this machine, sends none on.

mod command;
mod session;
mod wire;

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::store::Store;
use super::{GRACE, off_the_runtime};
use session::{Limits, Mailbox, Session};

/// Connections at once; the next one is told to come back.
const CONNECTIONS: usize = 200;

/// Accepts until `stop`; each connection then says its 421 or finishes the mail it is storing.
pub(super) async fn serve(listener: TcpListener, store: Arc<Store>, stop: CancellationToken) {
    let mut sessions = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        while sessions.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let busy = sessions.len() >= CONNECTIONS;
                sessions.spawn(talk(stream, Arc::clone(&store), stop.clone(), busy));
            }
            Err(error) => {
                tracing::warn!(%error, "an SMTP connection could not be accepted");
                tokio::task::yield_now().await;
            }
        }
    }
    let all_ended = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_ended).await.is_err() {
        sessions.shutdown().await;
    }
}

async fn talk(stream: TcpStream, store: Arc<Store>, stop: CancellationToken, busy: bool) {
    // Replies are small and awaited: Nagle's algorithm would hold them back for 40 ms.
    let ended = match stream.set_nodelay(true) {
        Ok(()) => Session::new(stream, Folder(store), Limits::default(), stop).run(busy).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an SMTP connection ended early");
    }
}

struct Folder(Arc<Store>);

impl Mailbox for Folder {
    async fn keep(&self, envelope: super::archive::Envelope, raw: Vec<u8>) -> std::io::Result<uuid::Uuid> {
        let store = Arc::clone(&self.0);
        off_the_runtime(move || store.add(envelope, &raw)).await
    }
}
