//! `GET /api/events`: tells an open page that the inbox has changed, and how full it is now.
//!
//! What changed is not said: the page fetches its list again. So a page that was asleep, or one
//! from before a restart, needs nothing special to catch up.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{StreamExt, stream};

use super::Desk;

/// One event at once, then one with each change; quick changes may share one.
pub(super) async fn stream(State(desk): State<Desk>) -> impl IntoResponse {
    let mut revisions = desk.store.revisions();
    revisions.mark_changed();
    let stop = desk.stop.clone().cancelled_owned();
    let events = stream::unfold((desk, revisions), async |(desk, mut revisions)| {
        revisions.changed().await.ok()?;
        let revision = *revisions.borrow_and_update();
        let counts = desk.store.counts();
        let data = serde_json::json!({"revision": revision, "total": counts.total, "unread": counts.unread});
        Some((Ok::<_, Infallible>(Event::default().data(data.to_string())), (desk, revisions)))
    });
    Sse::new(Box::pin(events).take_until(stop)).keep_alive(KeepAlive::default())
}
