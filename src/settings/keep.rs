//! How long mail is kept once it has ended.

use std::time::Duration;

use super::reader::Reader;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an e-mail and its history are kept after its delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// What was sent or cancelled.
    pub sent: Duration,
    /// What failed. It may be shorter than the other, or longer.
    pub failed: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { sent: 30 * DAY, failed: 90 * DAY }
    }
}

impl Keep {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let (bounds, default) = (DAY..=3650 * DAY, Self::default());
        Self {
            sent: reader.duration("KEEP_SENT", default.sent, bounds.clone()),
            failed: reader.duration("KEEP_FAILED", default.failed, bounds),
        }
    }
}
