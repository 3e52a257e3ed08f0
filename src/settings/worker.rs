//! The worker's pace.

use std::time::Duration;

use super::duration::shown;
use super::keep::Keep;
use super::reader::Reader;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_millis(10);

/// A lease shorter than this ends in the middle of an ordinary SMTP conversation.
const SHORTEST_LEASE: Duration = Duration::from_secs(30);

/// The worker's pace. The defaults are those of the design.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Mails being sent at once by this process.
    pub concurrency: usize,
    /// How often the queue is looked at when nothing woke the worker.
    pub poll: Duration,
    /// How long a claimed mail is this worker's alone.
    pub lease: Duration,
    /// How often this process says that it lives.
    pub heartbeat: Duration,
    /// A process that has not been heard of for so long is taken for dead.
    pub session_expiry: Duration,
    /// How long mail in flight may finish after the first signal.
    pub grace: Duration,
    /// How long what ended is kept.
    pub keep: Keep,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            concurrency: 16,
            poll: SECOND,
            lease: 120 * SECOND,
            heartbeat: 5 * SECOND,
            session_expiry: 30 * SECOND,
            grace: 30 * SECOND,
            keep: Keep::default(),
        }
    }
}

impl Worker {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let worker = Self {
            concurrency: reader.number("WORKER_CONCURRENCY", default.concurrency, 1..=1000),
            poll: reader.duration("WORKER_POLL", default.poll, SHORTEST..=HOUR),
            lease: reader.duration("WORKER_LEASE", default.lease, SHORTEST_LEASE..=HOUR),
            heartbeat: reader.duration("WORKER_HEARTBEAT", default.heartbeat, SHORTEST..=HOUR),
            session_expiry: reader.duration("WORKER_SESSION_EXPIRY", default.session_expiry, SHORTEST..=HOUR),
            grace: reader.duration("SHUTDOWN_GRACE", default.grace, Duration::ZERO..=HOUR),
            keep: Keep::read(reader),
        };
        worker.check(reader);
        worker
    }

    /// Settings that fight: each is sound, and together they lose or repeat work.
    fn check(&self, reader: &mut Reader<'_>) {
        if self.heartbeat >= self.session_expiry / 2 {
            let text = format!(
                "a heartbeat every {} must fit more than twice into a session expiry of {}, or \
                 one late heartbeat makes a living process look dead",
                shown(self.heartbeat),
                shown(self.session_expiry),
            );
            reader.fault_unless_known(&["WORKER_HEARTBEAT", "WORKER_SESSION_EXPIRY"], text);
        }
        if self.lease < 2 * self.poll {
            let text = format!(
                "a lease of {} must be at least twice a poll of {}",
                shown(self.lease),
                shown(self.poll),
            );
            reader.fault_unless_known(&["WORKER_LEASE", "WORKER_POLL"], text);
        }
        if self.lease < 2 * self.heartbeat {
            let text = format!(
                "a lease of {} must be at least twice a heartbeat of {}, or it ends before its \
                 holder is next heard of",
                shown(self.lease),
                shown(self.heartbeat),
            );
            reader.fault_unless_known(&["WORKER_LEASE", "WORKER_HEARTBEAT"], text);
        }
    }
}
