//! Names of all metrics, so that no service misspells one. See `docs/metrics.md`.

/// Records sync-in dealt with. Labels: source, entity_type, outcome.
pub const SYNC_IN_RECORDS: &str = "sluice_sync_in_records_total";
/// Seconds from reading a page to its commit. Labels: source.
pub const SYNC_IN_DURATION: &str = "sluice_sync_in_duration_seconds";
/// Push attempts. Labels: target, entity_type, outcome, error_class.
pub const PUSH_ATTEMPTS: &str = "sluice_push_attempts_total";
/// Seconds from claiming a batch of pushes to settling it. Labels: target.
pub const PUSH_DURATION: &str = "sluice_push_duration_seconds";
/// Seconds between the source's own modification time and the confirmation by the target.
/// Labels: target, entity_type.
pub const SYNC_LAG: &str = "sluice_sync_lag_seconds";
/// Tasks now, by queue and state. Labels: queue, state.
pub const QUEUE_TASKS: &str = "sluice_queue_tasks";
/// Age in seconds of the oldest task that is due. Labels: queue.
pub const QUEUE_OLDEST: &str = "sluice_queue_oldest_seconds";
/// Attempts that ended in another try. Labels: queue, error_class.
pub const RETRIES: &str = "sluice_retries_total";
/// Dead letters that wait for a person. Labels: target.
pub const DEAD_LETTERS: &str = "sluice_dead_letters";
/// Open connections to a store. Labels: queue is unused; `state` is idle or used.
pub const DATABASE_CONNECTIONS: &str = "sluice_database_connections";
/// Seconds of one call to an external system. Labels: system.
pub const TARGET_CALL_DURATION: &str = "sluice_target_call_duration_seconds";
/// Calls to external systems. Labels: system, outcome.
pub const CALLS: &str = "sluice_calls_total";
/// Calls that batching, coalescing and skipping made unnecessary. Labels: target.
pub const CALLS_SAVED: &str = "sluice_calls_saved_total";
/// Webhooks that came in. Labels: source, outcome.
pub const WEBHOOKS: &str = "sluice_webhooks_total";
