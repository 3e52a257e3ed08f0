use std::time::Duration;

use uuid::Uuid;

use super::{DeliveryId, LeaseToken, Outbox, OutboxError};

/// One start of one worker process. Never reused: a host name or a process id would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A fresh one.
    #[expect(clippy::new_without_default, reason = "each is different; a default would not be")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(super) fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl Outbox {
    /// Says that this process is alive, for as long as `expiry`, and renews by `lease` what it is
    /// still sending: a large mail over a slow line may take longer than one lease.
    ///
    /// # Errors
    /// The database cannot be reached: the leases of this process are at risk.
    pub async fn heartbeat(
        &self,
        session: SessionId,
        host: &str,
        expiry: Duration,
        lease: Duration,
        sending: &[(DeliveryId, LeaseToken)],
    ) -> Result<(), OutboxError> {
        let emails: Vec<Uuid> = sending.iter().map(|(id, _)| id.email.as_uuid()).collect();
        let positions: Vec<i16> = sending.iter().map(|(id, _)| id.position).collect();
        let tokens: Vec<i64> = sending.iter().map(|(_, token)| token.get()).collect();
        sqlx::query!(
            "WITH renewed AS (
               UPDATE facteur.deliveries d SET lease_until = now() + make_interval(secs => $5)
               FROM (
                 -- In order, as every statement locks several: none waits for one that waits for it.
                 SELECT d.email_id, d.position FROM facteur.deliveries d
                 JOIN unnest($6::uuid[], $7::smallint[], $8::bigint[]) AS s (email_id, position, token)
                   ON d.email_id = s.email_id AND d.position = s.position AND d.lease_token = s.token
                 WHERE d.state = 'sending'
                 ORDER BY d.email_id, d.position
                 FOR UPDATE OF d
               ) s
               WHERE d.email_id = s.email_id AND d.position = s.position
             )
             INSERT INTO facteur.worker_sessions (id, host, version, expires_at)
             VALUES ($1, left($2, 255), $3, now() + make_interval(secs => $4))
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
            session.as_uuid(),
            host,
            env!("CARGO_PKG_VERSION"),
            expiry.as_secs_f64(),
            lease.as_secs_f64(),
            &emails,
            &positions,
            &tokens,
        )
        .execute(&self.line)
        .await?;
        Ok(())
    }

    /// Says that this process is going: it takes nothing more. Its leases hold until it is gone.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn drain_session(&self, session: SessionId) -> Result<(), OutboxError> {
        sqlx::query!("UPDATE facteur.worker_sessions SET draining = true WHERE id = $1", session.as_uuid())
            .execute(&self.line)
            .await?;
        Ok(())
    }

    /// Says that this process is gone: whatever it still leased is free at once.
    ///
    /// # Errors
    /// The database cannot be reached; the session then expires by itself.
    pub async fn end_session(&self, session: SessionId) -> Result<(), OutboxError> {
        sqlx::query!("DELETE FROM facteur.worker_sessions WHERE id = $1", session.as_uuid())
            .execute(&self.line)
            .await?;
        Ok(())
    }
}
