//! Which files are fetched for callers.

use super::{development, only_fault, production, staging};

#[test]
fn https_from_the_internet_and_more_in_development_only() {
    for settings in [production(&[]), staging(&[]), production(&[("ATTACHMENTS_FROM_LOCALHOST", "false")])] {
        let fetching = settings.expect("no fault").limits.fetching;
        assert!(!fetching.plain && !fetching.loopback);
    }
    let fetching = development(&[]).expect("no fault").limits.fetching;
    assert!(fetching.plain && !fetching.loopback);
    let fetching = development(&[("ATTACHMENTS_FROM_LOCALHOST", "True")]).expect("no fault").limits.fetching;
    assert!(fetching.plain && fetching.loopback);
}

#[test]
fn this_machines_files_are_refused_elsewhere() {
    for settings in [production, staging] {
        let (name, fault) = only_fault(settings(&[("ATTACHMENTS_FROM_LOCALHOST", "true")]));
        assert_eq!(name, "ATTACHMENTS_FROM_LOCALHOST");
        assert!(fault.starts_with("is for development"), "{fault}");
    }
}
