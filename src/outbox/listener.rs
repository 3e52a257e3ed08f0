//! The bell between processes. A hint only: polling goes on whatever happens here.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Outbox;

const CHANNEL: &str = "facteur_due";
/// At most one notification in this time: each takes a lock that serialises commits.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long an answer may take, unless every statement has less; how long a database that hung up is
/// left alone. Twice as long is a silence that is not believed.
const PATIENCE: Duration = Duration::from_secs(5);

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
        while let Some(error) = stop.run_until_cancelled(self.hear(ear)).await {
            if warned {
                tracing::debug!(%error, "still cannot listen");
            } else {
                warned = true;
                tracing::warn!(%error, "cannot listen for mail from other processes; polling goes on");
            }
            stop.run_until_cancelled(tokio::time::sleep(self.patience())).await;
        }
    }

    /// Passes on what is heard, until the connection is lost or does not answer any more.
    async fn hear(&self, ear: &PgConnectOptions) -> sqlx::Error {
        let mut listener = match self.within(connect(ear)).await {
            Ok(listener) => listener,
            Err(error) => return error,
        };
        loop {
            // At the beginning and after each silence: something may have been missed.
            self.wake();
            let heard = timeout(self.patience() * 2, listener.try_recv()).await;
            let alive = match heard {
                Ok(Ok(Some(_notification))) => Ok(()),
                Ok(Ok(None)) => Err(lost("the connection was closed")),
                Ok(Err(error)) => Err(error),
                // A path that went silent says nothing either: only an answer tells them apart.
                Err(_) => self.within(sqlx::query("SELECT 1").execute(&mut listener)).await.map(drop),
            };
            if let Err(error) = alive {
                return error;
            }
        }
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        timeout(self.patience(), answer).await.unwrap_or_else(|_| Err(lost("no answer")))
    }

    fn patience(&self) -> Duration {
        PATIENCE.min(self.line.deadline)
    }
}

async fn connect(ear: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(ear.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn lost(text: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, text))
}
