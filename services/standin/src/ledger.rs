//! What was called: a bounded list of calls and unbounded counters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::limit::SlidingMeter;

/// Locks, also after a panic elsewhere: counters stay usable for the report.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call as it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Position in the order of arrival at the ledger, from 1, without gaps.
    pub seq: u64,
    /// When it arrived, RFC 3339 UTC with microseconds.
    pub arrived: String,
    /// When it was answered, in the same form.
    pub at: String,
    /// Operation, such as `GetUnitInformation`, `createLocation` or `POST /v1/work-orders`.
    pub operation: String,
    /// HTTP status; 0 when the caller got no answer.
    pub status: u16,
    /// The records written (their business keys), or the property that was read.
    pub keys: Vec<String>,
    /// What a write said about each of the first `keys`: a short hash.
    pub contents: Vec<String>,
    /// `Idempotency-Key`, where the caller sent one.
    pub idempotency_key: Option<String>,
    /// Whether records changed because of it.
    pub applied: bool,
    /// The fault that was played, if any.
    pub fault: Option<&'static str>,
}

/// A short hash of what a write says about a record: 16 hex digits.
pub(crate) fn content(record: &Value) -> String {
    let mut hash = hex::encode(Sha256::digest(record.to_string()));
    hash.truncate(16);
    hash
}

/// Counters of one operation.
#[derive(Debug, Default, Clone, Serialize)]
pub struct OperationStats {
    /// Calls that arrived.
    pub calls: u64,
    /// Calls that changed records.
    pub applied: u64,
    /// Answers by HTTP status; `0` counts the unanswered.
    pub statuses: BTreeMap<u16, u64>,
}

/// What `GET /_control/stats` says.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Stats {
    /// All calls.
    pub calls: u64,
    /// The most calls that arrived within any 60 seconds, refused ones included.
    pub max_calls_per_minute: usize,
    /// The limit in force.
    pub limit_per_minute: Option<u32>,
    /// Calls refused because of the limit.
    pub limit_violations: u64,
    /// Records created although one with the same business key and content was there.
    pub duplicates_created: u64,
    /// Records created.
    pub created: u64,
    /// Records updated.
    pub updated: u64,
    /// Records deleted.
    pub deleted: u64,
    /// Creates refused because the record was there already.
    pub duplicates_refused: u64,
    /// Creates answered from the idempotency memory instead of being carried out again.
    pub replays: u64,
    /// Times two writes for one record were in flight together.
    pub overlapping_writes: u64,
    /// Records with a write in flight now, one that is held back from its caller included.
    pub in_flight: usize,
    /// Faults played, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// By operation.
    pub operations: BTreeMap<String, OperationStats>,
}

/// What a call did to the records, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub struct Effect {
    /// Records created.
    pub created: u32,
    /// Records updated.
    pub updated: u32,
    /// Records deleted.
    pub deleted: u32,
    /// Second copies created.
    pub duplicates_created: u32,
    /// Creates refused as duplicates.
    pub duplicates_refused: u32,
    /// Creates answered from memory.
    pub replays: u32,
}

impl Effect {
    /// Whether any record changed.
    pub fn applied(&self) -> bool {
        self.created + self.updated + self.deleted > 0
    }
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    entries: VecDeque<Entry>,
    stats: Stats,
    meter: SlidingMeter,
    in_flight: BTreeMap<String, u32>,
}

/// The book of all calls at one stand-in.
#[derive(Debug)]
pub struct Ledger {
    keep: usize,
    inner: Mutex<Inner>,
}

impl Ledger {
    /// Keeps the newest `keep` entries; 0 keeps counters only.
    pub fn new(keep: usize, limit_per_minute: Option<u32>) -> Self {
        let mut inner = Inner::default();
        inner.stats.limit_per_minute = limit_per_minute;
        Self {
            keep,
            inner: Mutex::new(inner),
        }
    }

    /// Whether entries are kept, so that callers can spare the work of naming keys.
    pub fn keeps_entries(&self) -> bool {
        self.keep > 0
    }

    /// Notes the arrival of a call at `now` (microseconds since start).
    pub fn arrived(&self, now: u64) {
        let mut inner = lock(&self.inner);
        inner.stats.calls += 1;
        inner.meter.note(now);
    }

    /// Notes that the call with these records began; tells when another is under way.
    pub fn begin(&self, keys: &[String]) {
        let mut inner = lock(&self.inner);
        for key in keys {
            let running = inner.in_flight.entry(key.clone()).or_insert(0);
            *running += 1;
            if *running > 1 {
                inner.stats.overlapping_writes += 1;
            }
        }
    }

    /// The counterpart of [`Self::begin`].
    pub fn end(&self, keys: &[String]) {
        let mut inner = lock(&self.inner);
        for key in keys {
            if let Some(running) = inner.in_flight.get_mut(key) {
                *running -= 1;
                if *running == 0 {
                    inner.in_flight.remove(key);
                }
            }
        }
    }

    /// Notes a refusal because of the limit.
    pub fn over_limit(&self) {
        lock(&self.inner).stats.limit_violations += 1;
    }

    /// Writes the answer of a call.
    pub fn write(&self, mut entry: Entry, effect: Effect) {
        let mut inner = lock(&self.inner);
        let stats = &mut inner.stats;
        stats.created += u64::from(effect.created);
        stats.updated += u64::from(effect.updated);
        stats.deleted += u64::from(effect.deleted);
        stats.duplicates_created += u64::from(effect.duplicates_created);
        stats.duplicates_refused += u64::from(effect.duplicates_refused);
        stats.replays += u64::from(effect.replays);
        if let Some(fault) = entry.fault {
            *stats.faults.entry(fault).or_default() += 1;
        }
        if !stats.operations.contains_key(&entry.operation) {
            stats
                .operations
                .insert(entry.operation.clone(), OperationStats::default());
        }
        if let Some(operation) = stats.operations.get_mut(&entry.operation) {
            operation.calls += 1;
            operation.applied += u64::from(effect.applied());
            *operation.statuses.entry(entry.status).or_default() += 1;
        }
        inner.next += 1;
        if self.keep == 0 {
            return;
        }
        entry.seq = inner.next;
        if inner.entries.len() >= self.keep {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
    }

    /// Entries after sequence number `after`, oldest first, at most `limit`.
    pub fn after(&self, after: u64, limit: usize) -> Vec<Entry> {
        let inner = lock(&self.inner);
        inner
            .entries
            .iter()
            .filter(|entry| entry.seq > after)
            .take(limit)
            .cloned()
            .collect()
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        let inner = lock(&self.inner);
        let mut stats = inner.stats.clone();
        stats.max_calls_per_minute = inner.meter.most();
        stats.in_flight = inner.in_flight.len();
        stats
    }
}
