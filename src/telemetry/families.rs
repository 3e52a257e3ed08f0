//! Every metric that there is. A new one is a line here, a row in `docs/metrics.md` and the call that counts.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// What a family's numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many fell below each bound.
    Histogram,
}

/// One metric with its labels.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// As Prometheus shows it.
    pub name: &'static str,
    /// What its numbers do.
    pub kind: Kind,
    /// Each label with its values, `a|b`; no values where the world chooses them.
    pub labels: &'static [(&'static str, &'static str)],
    /// One line.
    pub help: &'static str,
}

/// A constant for each name, and all families in one table.
macro_rules! families {
    ($(#[$doc:meta])* $table:ident:
     $($name:ident = $kind:ident $text:literal { $($label:literal = $values:literal),* } $help:literal;)+) => {
        $(#[doc = $help] pub const $name: &str = $text;)+
        $(#[$doc])*
        pub const $table: &[Family] = &[
            $(Family { name: $text, kind: Kind::$kind, labels: &[$(($label, $values)),*], help: $help }),+
        ];
    };
}

families! {
    /// Counted while working, for as long as the process lives.
    PROCESS:
    ACCEPTED = Counter "facteur_accepted_total" {} "E-mails that this process took through an Outbox";
    SETTLED = Counter "facteur_settled_total" { "state" = "sent|failed|cancelled|retry|released|unknown|held", "transport" = "" } "Deliveries whose attempt ended and was written down";
    LEASE_LOST = Counter "facteur_lease_lost_total" { "had_250" = "true|false" } "Outcomes that came too late: somebody else holds the delivery. had_250: the server had taken the mail";
    DUPLICATES_POSSIBLE = Counter "facteur_duplicates_possible_total" {} "Times a delivery may be tried again although a server may have taken it already, as this process knows";
    REAPED = Counter "facteur_reaped_total" { "result" = "requeued|parked|failed|cancelled" } "Deliveries that this process took back from lost workers";
    ATTEMPTS = Counter "facteur_attempts_total" { "transport" = "", "class" = "sent|retry|reject|unusable|unknown|interrupted", "code" = "2xx|3xx|4xx|5xx|none" } "Attempts that ended or went on to the next way, by what they came to and the reply code's family";
    FALLBACK = Counter "facteur_fallback_total" { "transport" = "" } "Mails that left by another way than the one they prefer, by the way they took";
    TRANSPORT_OPEN = Gauge "facteur_transport_open" { "transport" = "" } "1 while the way's breaker is open or half open, as this process last read, else 0";
    CROWDED_DOMAINS = Gauge "facteur_crowded_domains" {} "Recipients' domains that mail waits for because of MAIL_DOMAIN_LIMITS, as this process knows";
    UNWRITTEN = Gauge "facteur_unwritten_outcomes" {} "Outcomes that are known and not yet in the database";
    IN_FLIGHT = Gauge "facteur_in_flight" {} "Deliveries being attempted now";
    QUOTA_REMAINING = Gauge "facteur_quota_remaining" { "transport" = "" } "Mails that the way's quota still allows in its window, for the whole fleet, as this process last read";
    QUOTA_LIMIT = Gauge "facteur_quota_limit" { "transport" = "" } "Mails that the way's quota allows in a whole window, by this process's settings";
    CLAIM_SECONDS = Histogram "facteur_claim_seconds" {} "How long claims took, those that found nothing included";
    SEND_SECONDS = Histogram "facteur_send_seconds" { "transport" = "" } "How long attempts took";
    CONNECTIONS = Gauge "facteur_database_connections" { "pool" = "api|worker", "state" = "used|idle" } "Connections to the database that this process has open, by pool";
    CONNECTIONS_MAX = Gauge "facteur_database_connections_max" { "pool" = "api|worker" } "Connections that the pool may open";
    BUILD = Gauge "facteur_build_info" { "version" = "" } "1, with the version of this process";
}

families! {
    /// Read from the database at each scrape; absent while it is away, but for the first.
    DATABASE:
    DATABASE_UP = Gauge "facteur_database_up" {} "1 if the database answered this scrape within 2 s, else 0";
    QUEUE = Gauge "facteur_queue_deliveries" { "state" = "queued_due|scheduled|sending|unknown" } "Live deliveries; due and scheduled are counted up to 10000";
    OLDEST_DUE = Gauge "facteur_oldest_due_seconds" {} "How long the oldest due delivery has been waiting; 0 when none is due";
    OLDEST_SNAPSHOT = Gauge "facteur_oldest_snapshot_seconds" {} "Age of the oldest transaction in this database that holds vacuum back; other users' are visible only to a role with pg_monitor";
    OLDEST_SNAPSHOT_TRANSACTIONS = Gauge "facteur_oldest_snapshot_transactions" {} "How many transactions ago the oldest snapshot was taken that holds vacuum back here; replication slots and standbys included";
    WORKERS_ALIVE = Gauge "facteur_workers_alive" {} "Worker processes whose session has not expired";
}

/// Tells the recorder in force the help texts.
pub fn describe(families: &[Family]) {
    for family in families {
        match family.kind {
            Kind::Counter => describe_counter!(family.name, family.help),
            Kind::Gauge => describe_gauge!(family.name, family.help),
            Kind::Histogram => describe_histogram!(family.name, family.help),
        }
    }
}

/// Shows what is known beforehand as 0: the first time is seen as an increase, and absent is never taken for none.
#[cfg_attr(not(feature = "server"), expect(dead_code, reason = "the program's recorder calls it"))]
pub(super) fn zero(families: &[Family]) {
    for family in families {
        match (family.kind, family.labels) {
            (Kind::Counter, []) => counter!(family.name).increment(0),
            (Kind::Counter, [(label, values)]) if !values.is_empty() => {
                values.split('|').for_each(|value| counter!(family.name, *label => value).increment(0));
            }
            (Kind::Gauge, []) => gauge!(family.name).increment(0.0),
            _ => {}
        }
    }
}
