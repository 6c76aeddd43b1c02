//! Names of all metrics, so that no service misspells one; `docs/metrics.md` lists them.
//!
//! Labels are bounded: connections (`source`, `target`), `entity_type`, `outcome`, `error_class`,
//! `queue`, `state`, `organization`. Never ids, addresses or values.

/// What a metric counts or measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($(#[doc = $text:literal])+ $name:ident: $kind:ident = $value:literal;)+) => {
        $($(#[doc = $text])+ pub const $name: &str = $value;)+

        /// Every metric with its kind and meaning.
        pub const DESCRIPTIONS: &[(&str, Kind, &str)] =
            &[$(($name, Kind::$kind, concat!($($text),+))),+];

        #[cfg(test)]
        const CONSTANTS: &[&str] = &[$(stringify!($name)),+];
    };
}

metrics! {
    /// Canonical records sync-in dealt with, by what became of them. Labels: source, entity_type,
    /// outcome (the change, `rejected` or `skipped`).
    SYNC_IN_RECORDS: Counter = "sluice_sync_in_records_total";
    /// Payloads that nobody could read: kept, and listed by `sluice raw failed`. Labels: source.
    PAYLOADS_FAILED: Counter = "sluice_payloads_failed_total";
    /// Seconds from asking for a page to its commit. Labels: source.
    SYNC_IN_DURATION: Histogram = "sluice_sync_in_duration_seconds";
    /// Attempts to push. Labels: target, entity_type, outcome, error_class.
    PUSH_ATTEMPTS: Counter = "sluice_push_attempts_total";
    /// Seconds from claiming pushes to settling them. Labels: target, entity_type.
    PUSH_DURATION: Histogram = "sluice_push_duration_seconds";
    /// Seconds from the source's own modification time to the target's confirmation. Labels:
    /// target, entity_type.
    SYNC_LAG: Histogram = "sluice_sync_lag_seconds";
    /// Tasks by state. Labels: queue, state.
    QUEUE_TASKS: Gauge = "sluice_queue_tasks";
    /// Age in seconds of the oldest task that is due. Labels: queue.
    QUEUE_OLDEST: Gauge = "sluice_queue_oldest_seconds";
    /// Pushes that wait for another record. Labels: target.
    BLOCKED: Gauge = "sluice_blocked_tasks";
    /// Seconds since when the first of them waits. Labels: target.
    BLOCKED_OLDEST: Gauge = "sluice_blocked_oldest_seconds";
    /// Claims whose lease ran out before they were settled: their worker died, or was too slow.
    /// Labels: outcome (`again`, `given_up`).
    LEASES_LOST: Counter = "sluice_leases_lost_total";
    /// Attempts that ended in another try. Labels: queue, error_class.
    RETRIES: Counter = "sluice_retries_total";
    /// Dead letters that wait for a person. Labels: target, error_class.
    DEAD_LETTERS: Gauge = "sluice_dead_letters";
    /// Pushes given up: new dead letters, and replayed ones that died again. Labels: target,
    /// error_class.
    DEAD_LETTERED: Counter = "sluice_dead_lettered_total";
    /// Open connections of the process to the SQL store. Labels: state (`idle`, `used`).
    DATABASE_CONNECTIONS: Gauge = "sluice_database_connections";
    /// Seconds of one call to an external system. Labels: target.
    TARGET_CALL_DURATION: Histogram = "sluice_target_call_duration_seconds";
    /// Calls to external systems. Labels: target, outcome.
    CALLS: Counter = "sluice_calls_total";
    /// Calls that batching, coalescing and skipping made unnecessary. Labels: target.
    CALLS_SAVED: Counter = "sluice_calls_saved_total";
    /// Seconds a call waited for its turn under the connection's limits. Labels: target.
    LIMITER_WAIT: Histogram = "sluice_limiter_wait_seconds";
    /// State of a connection's breaker: 0 closed, 1 letting some calls through again, 2 open.
    /// Labels: target.
    BREAKER_STATE: Gauge = "sluice_breaker_state";
    /// Webhooks that came in. Labels: source, outcome.
    WEBHOOKS: Counter = "sluice_webhooks_total";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_are_documented() {
        let page = include_str!("../../../docs/metrics.md");
        for (name, kind, text) in DESCRIPTIONS {
            assert!(name.starts_with("sluice_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(
                *kind != Kind::Histogram || name.ends_with("_seconds"),
                "{name}"
            );
            assert!(text.contains("Labels:"), "{name}");
            assert!(
                page.contains(&format!("`{name}`")),
                "{name} is not in docs/metrics.md"
            );
        }
    }

    /// A metric that nobody sets would stand in the documentation and in people's alarms, and
    /// never be there.
    #[test]
    fn every_metric_is_set_somewhere() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut code = String::new();
        let mut folders = vec![root.join("services"), root.join("shared")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "rs") {
                    code.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        for name in CONSTANTS {
            let used = ["names", "metrics"].map(|module| format!("{module}::{name}"));
            assert!(used.iter().any(|used| code.contains(used)), "{name}");
        }
    }
}
