//! What every place knows once a system is quiet: the material of the checker.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A master record.
#[derive(Debug, Clone, Default)]
pub struct Master {
    pub id: i64,
    pub entity_type: String,
    /// The reference planted at targets.
    pub entity_id: String,
    pub source_id: String,
    pub hash: String,
    pub version: i64,
    /// `entity_type/source_id` of each parent.
    pub parents: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Version {
    pub master: i64,
    pub number: i64,
    pub hash: String,
    pub change: String,
    /// Microseconds since 1970.
    pub created: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Link {
    pub master: i64,
    pub connection: String,
    pub external_id: Option<String>,
}

/// A row of `sync_queue`.
#[derive(Debug, Clone, Default)]
pub struct Task {
    pub id: i64,
    pub kind: String,
    /// Of pushes only.
    pub master: Option<i64>,
    pub target: Option<String>,
    pub state: String,
    pub wanted: Option<i64>,
    pub delivered: Option<i64>,
    pub intent: Option<i64>,
    pub unsettled: Option<i64>,
    pub leased: bool,
    pub error_code: Option<String>,
    pub run: Option<i64>,
    pub blocked_on: Option<String>,
}

#[derive(Debug, Clone, Default)]
#[expect(dead_code, reason = "shown with accusations")]
pub struct Attempt {
    pub task: i64,
    pub number: i64,
    pub version: Option<i64>,
    /// Microseconds since 1970, from the claim until its outcome was known.
    pub started: i64,
    pub ended: i64,
    pub outcome: String,
    pub error_code: Option<String>,
    pub worker: String,
}

#[derive(Debug, Clone, Default)]
pub struct DeadLetter {
    pub id: i64,
    pub task: i64,
    pub state: String,
    pub error_code: String,
    pub mirrored: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Run {
    pub id: i64,
    pub state: String,
    pub error: Option<String>,
}

/// An alarm of the broker.
#[derive(Debug, Clone)]
pub struct Alarm {
    pub name: &'static str,
    /// Whether a publisher was seen to wait for its end.
    pub blocked: bool,
}

/// A payload or a record in the raw store.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    pub id: String,
    pub entity_type: String,
    pub source_id: String,
    pub state: String,
    pub errors: usize,
    /// Source ids of the canonical records made of it.
    pub made: Vec<String>,
}

/// A call in a stand-in's ledger.
#[derive(Debug, Clone, Default)]
#[expect(dead_code, reason = "shown with accusations")]
pub struct Call {
    pub sequence: u64,
    /// Microseconds since 1970.
    pub arrived: i64,
    pub operation: String,
    pub status: u64,
    /// `kind:reference` of the records written.
    pub keys: Vec<String>,
    pub contents: Vec<String>,
    pub idempotency_key: Option<String>,
    pub applied: bool,
    pub fault: Option<String>,
}

/// A limit that a connection was told: calls in any window of so many seconds.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub calls: usize,
    pub seconds: i64,
}

impl Limit {
    /// As `limits` of a connection.
    pub fn setting(self) -> Value {
        json!([{ "calls": self.calls, "per_seconds": self.seconds }])
    }
}

/// What a stand-in knows.
#[derive(Debug, Clone, Default)]
pub struct Vendor {
    pub calls: Vec<Call>,
    pub limits: Vec<Limit>,
    pub duplicates_created: u64,
    pub overlapping_writes: u64,
    pub limit_violations: u64,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub masters: Vec<Master>,
    pub versions: Vec<Version>,
    pub links: Vec<Link>,
    pub tasks: Vec<Task>,
    pub attempts: Vec<Attempt>,
    pub letters: Vec<DeadLetter>,
    pub runs: Vec<Run>,
    pub payloads: Vec<Raw>,
    pub records: Vec<Raw>,
    /// By connection.
    pub vendors: BTreeMap<String, Vendor>,
    /// Messages by queue, those in consumers' hands included.
    pub queues: BTreeMap<String, i64>,
    /// Those that were raised.
    pub alarms: Vec<Alarm>,
    /// References of records that killed their workers.
    pub poisoned: Vec<String>,
    /// Codes of the properties that webhooks told of, whether or not they were answered.
    pub hooks: Vec<String>,
    /// Place and reference of records that a webhook told gone, and that are there.
    pub undeleted: Vec<(String, String)>,
    /// Place, reference and problem, from comparing contents.
    pub differences: Vec<(String, String, String)>,
}

impl History {
    /// What both sides noted about a record at a target: its row, versions, attempts and calls.
    pub fn about(&self, master: i64, target: &str) -> String {
        let mut lines = Vec::new();
        let of_master = self.masters.iter().find(|one| one.id == master);
        lines.extend(of_master.map(|one| format!("{one:?}")));
        for version in self.versions.iter().filter(|one| one.master == master) {
            lines.push(format!("{version:?}"));
        }
        let links = self.links.iter();
        for link in links.filter(|one| one.master == master && one.connection == target) {
            lines.push(format!("{link:?}"));
        }
        let tasks = self.tasks.iter();
        let about =
            |one: &&Task| one.master == Some(master) && one.target.as_deref() == Some(target);
        for task in tasks.filter(about) {
            lines.push(format!("{task:?}"));
            for attempt in self.attempts.iter().filter(|one| one.task == task.id) {
                lines.push(format!("{attempt:?}"));
            }
        }
        if let Some((reference, vendor)) = of_master
            .map(|one| &one.entity_id)
            .zip(self.vendors.get(target))
        {
            for call in vendor.calls.iter() {
                if call.keys.iter().any(|key| reference_of(key) == reference) {
                    lines.push(format!("{call:?}"));
                }
            }
        }
        lines.join("\n    ")
    }
}

/// The reference in a ledger's `kind:reference`.
pub fn reference_of(key: &str) -> &str {
    key.split_once(':').map_or(key, |(_, reference)| reference)
}
