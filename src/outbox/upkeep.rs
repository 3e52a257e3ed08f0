use std::time::Duration;

use super::{Outbox, OutboxError};

impl Outbox {
    /// Whether this process is to run a task now, because nobody has for as long as `every`. Of all
    /// processes that ask, one is told so.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub(super) async fn take_turn(&self, task: &str, every: Duration) -> Result<bool, OutboxError> {
        let turn = sqlx::query!(
            "INSERT INTO facteur.upkeep AS u (task) VALUES ($1)
             ON CONFLICT (task) DO UPDATE SET last_run = now()
             WHERE u.last_run <= now() - make_interval(secs => $2)
             RETURNING task",
            task,
            every.as_secs_f64(),
        )
        .fetch_optional(&self.line)
        .await?;
        Ok(turn.is_some())
    }

    /// Lets the next process that asks have the turn: something was left to do.
    ///
    /// # Errors
    /// The database cannot be reached; the turn then comes at its time.
    pub(super) async fn give_turn_back(&self, task: &str) -> Result<(), OutboxError> {
        sqlx::query!("DELETE FROM facteur.upkeep WHERE task = $1", task).execute(&self.line).await?;
        Ok(())
    }
}
