//! The bell between processes. A hint only: polling goes on whatever happens here.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio_util::sync::CancellationToken;

use super::Outbox;

const CHANNEL: &str = "facteur_due";
/// At most one notification in this time: each takes a lock that serialises commits.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long to leave a database alone that just hung up.
const PAUSE: Duration = Duration::from_secs(5);

impl Outbox {
    /// Passes this process's [`wake`](Self::wake) on to the other processes, until `stop`.
    ///
    /// For a process without a worker. `NOTIFY` goes in a statement of its own, never in the
    /// enqueueing one, where its lock would be held over the commit.
    pub async fn announce(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.woken()).await.is_some() {
            let sent = sqlx::query!("SELECT pg_notify($1, '')", CHANNEL).execute(&self.line).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "could not wake the other processes; they will see it at their next poll");
            }
            if stop.run_until_cancelled(tokio::time::sleep(DEBOUNCE)).await.is_none() {
                return;
            }
        }
    }

    /// Wakes this process's worker when another process announces mail, until `stop`.
    pub async fn listen(&self, stop: CancellationToken) {
        let Some(ear) = &self.ear else {
            tracing::warn!(
                "no bell between processes: mail of other processes waits for the next look at the queue; \
                 DATABASE_DIRECT_URL would give one"
            );
            return;
        };
        let mut warned = false;
        while !stop.is_cancelled() {
            match self.listen_once(ear, &stop).await {
                Ok(()) => return,
                Err(error) if !warned => {
                    warned = true;
                    tracing::warn!(%error, "cannot listen for mail from other processes; polling goes on");
                }
                Err(error) => tracing::debug!(%error, "still cannot listen"),
            }
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    async fn listen_once(&self, ear: &PgConnectOptions, stop: &CancellationToken) -> Result<(), sqlx::Error> {
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(ear.clone());
        let Some(pool) = stop.run_until_cancelled(pool).await.transpose()? else { return Ok(()) };
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await?;
        // What was announced before LISTEN took effect is seen by this sweep.
        self.wake();
        loop {
            let Some(heard) = stop.run_until_cancelled(listener.try_recv()).await else { return Ok(()) };
            // None: the connection was lost and is back; something may have been missed.
            let _notification = heard?;
            self.wake();
        }
    }
}
