//! Master data: records, versions, links, conflicts, and the tasks a change makes necessary.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, Hash, MasterId, OrganizationId, Priority, Result, RunId, Timestamp,
    catalogue::{Catalogue, CatalogueSpec},
    change::Change,
    record::{CanonicalRecord, RecordRef},
    task::TaskState,
};

/// A page of canonical records from one source connection.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyBatch {
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    /// Name of the source connection; part of each record's `entity_id`.
    pub connection: String,
    /// The connector's name.
    pub source_system: String,
    pub run_id: Option<RunId>,
    pub traceparent: Option<String>,
    /// Unique by (entity type, source id); at most 1,000.
    pub records: Vec<ApplyRecord>,
    pub routes: Vec<Route>,
    /// Decide, but write nothing (promise C3).
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApplyRecord {
    pub record: CanonicalRecord,
    /// [`CanonicalRecord::hash`], computed once by the caller.
    pub hash: Hash,
}

/// Which connection receives an entity type, and how urgently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub entity_type: EntityType,
    pub connection_id: ConnectionId,
    /// Name of the target connection; stored as `target_system`.
    pub target: String,
    pub priority: Priority,
    pub max_retries: u32,
}

/// What happened to one record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub change: Change,
    /// `None` for a dry-run creation and an ignored deletion.
    pub master_id: Option<MasterId>,
    /// The newest version number now.
    pub version: i32,
    /// Push tasks wanted because of it (new, revived or raised).
    pub pushes: u32,
}

/// `sync_master_data.sync_status`: derived from the record's push tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    Pending,
    Synced,
    Failed,
    Retry,
}

/// A master record with its newest version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MasterRecord {
    pub id: MasterId,
    pub organization_id: OrganizationId,
    pub entity_type: EntityType,
    pub entity_id: String,
    pub source_connection_id: ConnectionId,
    pub source_system: String,
    pub source_id: String,
    pub version: i32,
    pub data_hash: Hash,
    pub data: Value,
    pub parents: Vec<RecordRef>,
    pub deleted: bool,
    pub sync_status: SyncStatus,
    pub error_message: Option<String>,
    pub created_at: Timestamp,
    pub modified_at: Timestamp,
}

/// Selects master records, ordered by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MasterQuery {
    pub organization_id: Option<OrganizationId>,
    pub source_connection_id: Option<ConnectionId>,
    pub entity_type: Option<EntityType>,
    pub source_id: Option<String>,
    /// Continue after this id.
    pub after: Option<MasterId>,
    /// At most this many, 1 to 1,000.
    pub limit: usize,
}

/// One row of `data_versions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    pub number: i32,
    pub change: Change,
    pub data: Value,
    pub hash: Hash,
    pub run_id: Option<RunId>,
    pub created_at: Timestamp,
}

/// A master record's counterpart at one connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    pub connection_id: ConnectionId,
    pub connection: String,
    pub external_id: Option<String>,
    pub last_seen_hash: Option<Hash>,
    pub last_seen_at: Option<Timestamp>,
    /// The version both sides last agreed on.
    pub base_version: Option<i32>,
    pub pushed_version: Option<i32>,
    pub pushed_hash: Option<Hash>,
    pub pushed_at: Option<Timestamp>,
}

/// One push task of a record, for its life story.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PushStatus {
    pub connection: String,
    pub state: TaskState,
    pub wanted_version: i32,
    pub retry_count: u32,
    pub next_retry_time: Option<Timestamp>,
    pub blocked_on: Option<String>,
    pub error_class: Option<String>,
    pub error_message: Option<String>,
    pub attempts: Vec<crate::task::AttemptRow>,
}

/// Everything known about one record: the answer to "what happened to it?".
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordHistory {
    pub record: MasterRecord,
    pub versions: Vec<Version>,
    pub links: Vec<Link>,
    pub pushes: Vec<PushStatus>,
}

/// Migrations known and applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationStatus {
    pub version: i64,
    pub description: String,
    pub applied: bool,
}

/// Open connections of this process to a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    pub idle: usize,
    pub used: usize,
}

impl Connections {
    /// Of one pool. Its two numbers are not read at one moment.
    pub fn of(open: usize, idle: usize) -> Self {
        Self {
            idle: idle.min(open),
            used: open.saturating_sub(idle),
        }
    }
}

impl std::iter::Sum for Connections {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            idle: sum.idle + one.idle,
            used: sum.used + one.used,
        })
    }
}

/// Keeps master data.
#[async_trait]
pub trait MasterStore: Send + Sync + 'static {
    /// Applies missing migrations; returns how many. Safe when several replicas start at once.
    async fn migrate(&self) -> Result<usize>;

    async fn migrations(&self) -> Result<Vec<MigrationStatus>>;

    async fn ping(&self) -> Result<()>;

    /// The connections that are open now.
    fn connections(&self) -> Connections;

    /// Writes what is configured and gives it ids. What is no longer configured stays, disabled,
    /// because rows refer to it.
    async fn register(&self, spec: &CatalogueSpec) -> Result<Catalogue>;

    /// What is registered and enabled.
    async fn catalogue(&self) -> Result<Catalogue>;

    /// Decides each record with [`sluice_core::change::decide`] and writes master rows, versions,
    /// links, conflicts and push tasks in one transaction and a handful of statements, whatever
    /// the size of the batch (promises M1, I2). Rows are locked in the order of
    /// (entity type, source id), so that concurrent batches do not deadlock.
    async fn apply(&self, batch: &ApplyBatch) -> Result<Vec<Applied>>;

    async fn records(&self, query: &MasterQuery) -> Result<Vec<MasterRecord>>;

    async fn history(
        &self,
        organization: OrganizationId,
        entity_type: &EntityType,
        entity_id: &str,
    ) -> Result<Option<RecordHistory>>;
}
