//! The reckoning: what was accepted, what arrived, and what Facteur says of the difference.

use std::collections::{HashMap, HashSet};

use facteur::testing::AcceptedMail;
use sqlx::Row;

use crate::case::Figures;
use crate::database::Database;

/// Ground truth against the books. One delivery is one Message-ID to one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// Deliveries that were accepted.
    pub(crate) accepted: usize,
    /// Deliveries that arrived, once or more often.
    pub(crate) arrived: usize,
    /// Accepted, and neither arrived nor ended otherwise nor still in the queue.
    pub(crate) lost: usize,
    /// Said to be sent, and never arrived.
    pub(crate) false_sent: usize,
    /// Arrived once more than once: each copy counts.
    pub(crate) duplicates: usize,
    /// Copies of deliveries for which Facteur wrote down no reason to expect one.
    pub(crate) uncounted: usize,
    /// Deliveries that Facteur says may have been sent twice.
    pub(crate) counted: usize,
    /// Still queued, being sent or parked.
    pub(crate) live: usize,
}

impl Account {
    /// Compares the database with what servers took.
    pub(crate) async fn of(database: &Database, taken: &[AcceptedMail]) -> Self {
        let mut arrivals: HashMap<(String, String), usize> = HashMap::new();
        for mail in taken {
            for recipient in &mail.to {
                let key = (mail.message_id().unwrap_or_default(), recipient.clone());
                *arrivals.entry(key).or_default() += 1;
            }
        }
        // An attempt that may have left: its lease was lost, its answer was lost, or it came too late.
        let rows = sqlx::query(
            "SELECT e.message_id, d.recipient, d.final, d.live,
                    EXISTS (SELECT FROM facteur.events v WHERE v.email_id = d.email_id AND v.position = d.position
                            AND v.kind IN ('unknown', 'held', 'lease_lost', 'sent_after_lease_lost')) AS counted
             FROM (SELECT email_id, position, recipient, final::text, false AS live FROM facteur.outcomes
                   UNION ALL
                   SELECT email_id, position, recipient, NULL, true FROM facteur.deliveries) d
             JOIN facteur.emails e ON e.id = d.email_id",
        )
        .fetch_all(&database.pool)
        .await
        .unwrap();
        let mut account = Self {
            accepted: 0,
            arrived: 0,
            lost: 0,
            false_sent: 0,
            duplicates: 0,
            uncounted: 0,
            counted: 0,
            live: 0,
        };
        let mut known = HashSet::new();
        for row in rows {
            let key = (row.get::<String, _>("message_id"), row.get::<String, _>("recipient"));
            let copies = arrivals.get(&key).copied().unwrap_or(0);
            let (live, counted): (bool, bool) = (row.get("live"), row.get("counted"));
            let sent = row.get::<Option<String>, _>("final").as_deref() == Some("sent");
            account.accepted += 1;
            account.arrived += usize::from(copies > 0);
            account.live += usize::from(live);
            account.counted += usize::from(counted);
            account.false_sent += usize::from(sent && copies == 0);
            account.duplicates += copies.saturating_sub(1);
            account.uncounted += if counted { 0 } else { copies.saturating_sub(1) };
            known.insert(key);
        }
        // A row that is gone altogether would be lost without a trace: the caller knows what it handed over.
        let missing = database
            .number(
                "SELECT count(*) FROM facteur.emails e
                 WHERE NOT EXISTS (SELECT FROM facteur.outcomes o WHERE o.email_id = e.id)
                   AND NOT EXISTS (SELECT FROM facteur.deliveries d WHERE d.email_id = e.id)",
            )
            .await;
        account.lost = account.false_sent + usize::try_from(missing).unwrap();
        account
    }

    /// The figures that every case about whole runs ends in: nothing lost, and no copy that Facteur did not count.
    pub(crate) fn into_figures(self, accepted: usize, figures: &mut Figures) {
        figures
            .exactly("accepted", self.accepted, accepted)
            .show("arrived", self.arrived)
            .exactly("lost", self.lost, 0)
            .show("duplicates", self.duplicates)
            .exactly("uncounted", self.uncounted, 0)
            .show("counted", self.counted);
    }
}
