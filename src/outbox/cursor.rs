use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use super::claim::ClaimedDelivery;

/// Where a claimer has come to, in each priority, while there is more due than it can take.
///
/// What was claimed leaves its index entries behind until a vacuum may remove them, and a snapshot
/// that anybody holds open keeps it from doing so: each claim from the beginning would then walk
/// over all of them. A claim that goes on where the last one ended does not. It is begun anew
/// when a claim finds less than it asked for, and every second: retries and transactions that
/// committed late are due behind it.
#[derive(Debug, Default)]
pub struct Cursor {
    last: [Option<Position>; 4],
    begun: Option<Instant>,
}

type Position = (OffsetDateTime, Uuid, i16);

/// What is due behind the cursor waits for so long at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Cursor {
    /// Where each priority's scan begins: none is at the beginning.
    pub(super) fn start(&mut self, now: Instant) -> [Option<Position>; 4] {
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= SWEEP_EVERY) {
            *self = Self { begun: Some(now), ..Self::default() };
        }
        self.last
    }

    /// After a claim that asked for `limit`.
    pub(super) fn advance(&mut self, claimed: &[ClaimedDelivery], limit: i64) {
        if i64::try_from(claimed.len()).is_ok_and(|n| n < limit) {
            *self = Self::default();
            return;
        }
        for delivery in claimed {
            let position = (delivery.run_at, delivery.id.email.as_uuid(), delivery.id.position);
            let Some(last) = self.last.get_mut(usize::from(delivery.priority)) else { continue };
            *last = (*last).max(Some(position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::DeliveryId;

    fn claimed(priority: u8, second: i64) -> ClaimedDelivery {
        let id = DeliveryId { email: Uuid::now_v7().into(), position: 0 };
        let run_at = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second);
        ClaimedDelivery { priority, run_at, ..ClaimedDelivery::for_tests(id, Instant::now()) }
    }

    fn seconds(start: [Option<Position>; 4]) -> [Option<i64>; 4] {
        start.map(|at| at.map(|(run_at, ..)| run_at.unix_timestamp()))
    }

    #[test]
    fn it_goes_on_where_a_full_claim_ended_in_each_priority() {
        let (mut cursor, now) = (Cursor::default(), Instant::now());
        assert_eq!(seconds(cursor.start(now)), [None; 4]);
        cursor.advance(&[claimed(0, 5), claimed(0, 9), claimed(2, 7)], 3);
        assert_eq!(seconds(cursor.start(now)), [Some(9), None, Some(7), None]);
    }

    #[test]
    fn it_begins_anew_when_there_was_no_more_and_every_second() {
        let (mut cursor, now) = (Cursor::default(), Instant::now());
        cursor.start(now);
        cursor.advance(&[claimed(0, 5)], 1);
        cursor.advance(&[claimed(0, 6)], 2);
        assert_eq!(seconds(cursor.start(now)), [None; 4]);
        cursor.advance(&[claimed(0, 7)], 1);
        assert_eq!(seconds(cursor.start(now)), [Some(7), None, None, None]);
        assert_eq!(seconds(cursor.start(now + SWEEP_EVERY)), [None; 4]);
    }
}
