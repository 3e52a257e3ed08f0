//! The page of the inbox and its JSON.

mod api;
mod assets;
mod events;
mod failure;
mod guard;
mod pages;
mod parts;
mod query;
mod wait;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use super::reading::Reading;
use super::store::{Entry, Store};
use super::{GRACE, off_the_runtime};
use failure::Failure;

/// What every handler works with.
#[derive(Clone)]
struct Desk {
    store: Arc<Store>,
    api: Arc<str>,
    stop: CancellationToken,
}

/// Serves until `stop`; who waits or listens is then sent home.
pub(super) async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    api: Arc<str>,
    stop: CancellationToken,
) -> io::Result<()> {
    // A refusal to switch Nagle's algorithm off costs 40 ms, not the request.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let server = axum::serve(listener, router(Desk { store, api, stop: stop.clone() }))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = deadline => Ok(()),
    }
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", get(pages::list))
        .route("/messages/{id}", get(pages::mail))
        .route("/messages/{id}/html", get(parts::html))
        .route("/messages/{id}/attachments/{number}", get(parts::attachment))
        .route("/clear", post(pages::clear))
        .route("/api/messages", get(api::list).delete(api::clear))
        .route("/api/messages/wait", get(wait::wait))
        .route("/api/messages/{id}", get(api::one))
        .route("/api/messages/{id}/raw", get(api::raw))
        .route("/api/events", get(events::stream))
        .route("/assets/{name}", get(assets::asset))
        .fallback(async || Failure::not_found("there is nothing here"))
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(CatchPanicLayer::custom(failure::after_panic))
        .layer(from_fn(guard::foreigners))
        .layer(from_fn_with_state(desk.clone(), failure::show))
        .layer(from_fn(guard::headers))
        .with_state(desk)
}

/// A mail with its bytes and what they say.
struct Opened {
    entry: Entry,
    raw: Vec<u8>,
    reading: Reading,
}

impl Desk {
    /// Opens a mail by the id in a path.
    async fn open(&self, id: &str) -> Result<Opened, Failure> {
        let gone = || Failure::not_found("there is no such mail in the inbox");
        let id: Uuid = id.parse().map_err(|_| gone())?;
        let entry = self.store.get(id).ok_or_else(gone)?;
        self.read(entry).await?.ok_or_else(gone)
    }

    /// None when the mail was cleared meanwhile.
    async fn read(&self, entry: Entry) -> Result<Option<Opened>, Failure> {
        let store = Arc::clone(&self.store);
        let read = move || {
            let raw = store.raw(entry.summary.id)?;
            Ok(raw.map(|raw| Opened { reading: Reading::of(&raw), entry, raw }))
        };
        off_the_runtime(read).await.map_err(Failure::internal)
    }

    async fn mark_read(&self, id: Uuid) -> Result<(), Failure> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.mark_read(id)).await.map_err(Failure::internal)
    }

    async fn clear(&self) -> Result<(), Failure> {
        let store = Arc::clone(&self.store);
        off_the_runtime(move || store.clear()).await.map_err(Failure::internal)
    }
}
