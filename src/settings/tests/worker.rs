//! The worker's pace, and settings that fight.

use std::time::Duration;

use super::{Pair, only_fault, production};
use crate::settings::Keep;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_defaults_are_those_of_the_design() {
    let worker = production(&[]).expect("no fault").worker;
    assert_eq!(worker.concurrency, 16);
    let seconds = [worker.poll, worker.lease, worker.heartbeat, worker.session_expiry, worker.grace];
    assert_eq!(seconds, [1, 120, 5, 30, 30].map(Duration::from_secs));
    assert_eq!(worker.keep, Keep { sent: 30 * 24 * HOUR, failed: 90 * 24 * HOUR });
}

#[test]
fn takes_what_is_set() {
    let settings = production(&[
        ("WORKER_CONCURRENCY", "4"),
        ("WORKER_POLL", "500ms"),
        ("WORKER_LEASE", "2m"),
        ("WORKER_HEARTBEAT", "2s"),
        ("WORKER_SESSION_EXPIRY", "10s"),
        ("SHUTDOWN_GRACE", "0s"),
        ("KEEP_SENT", "1d"),
        ("KEEP_FAILED", "36h"),
    ]);
    let worker = settings.expect("no fault").worker;
    assert_eq!((worker.concurrency, worker.grace), (4, Duration::ZERO));
    assert_eq!(worker.poll, Duration::from_millis(500));
    assert_eq!(worker.keep, Keep { sent: 24 * HOUR, failed: 36 * HOUR });
    assert_eq!(worker.lease, Duration::from_secs(120));
}

#[test]
fn what_is_out_of_bounds_is_named() {
    let cases = [
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "-1"),
        ("WORKER_POLL", "0s"),
        ("WORKER_POLL", "5"),
        ("WORKER_LEASE", "29s"),
        ("WORKER_HEARTBEAT", "0s"),
        ("WORKER_SESSION_EXPIRY", "2d"),
        ("SHUTDOWN_GRACE", "soon"),
        ("WORKER_DATABASE_CONNECTIONS", "0"),
        ("KEEP_SENT", "23h"),
        ("KEEP_SENT", "30"),
        ("KEEP_FAILED", "0d"),
        ("KEEP_FAILED", "3651d"),
    ];
    for (name, value) in cases {
        let (names, text) = only_fault(production(&[(name, value)]));
        assert_eq!(names, name);
        assert!(text.contains(" from ") && text.contains(value), "{text}");
    }
}

#[test]
fn settings_that_fight_are_both_named() {
    let cases: [(&[Pair<'_>], &str); 4] = [
        (&[("WORKER_HEARTBEAT", "15s")], "WORKER_HEARTBEAT, WORKER_SESSION_EXPIRY"),
        (&[("WORKER_SESSION_EXPIRY", "10s")], "WORKER_HEARTBEAT, WORKER_SESSION_EXPIRY"),
        (&[("WORKER_POLL", "61s")], "WORKER_LEASE, WORKER_POLL"),
        (&[("WORKER_HEARTBEAT", "61s"), ("WORKER_SESSION_EXPIRY", "10m")], "WORKER_LEASE, WORKER_HEARTBEAT"),
    ];
    for (changes, expected) in cases {
        assert_eq!(only_fault(production(changes)).0, expected);
    }
    let at_the_limit = [("WORKER_POLL", "60s"), ("WORKER_HEARTBEAT", "14999ms")];
    assert!(production(&at_the_limit).is_ok());
}
