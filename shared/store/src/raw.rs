//! The raw store: exactly what came in, before anything is understood (promise I1).
//!
//! Two kinds of document. A **payload** is what arrived: a page's body, a webhook's body, a file
//! or a part of one; its bytes are kept as received. A **raw record** is one record found in a
//! payload, with the field names of requirement 002 section 4.2, its mapping result, its errors
//! and its state per target.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, Error, ErrorClass, Hash, OrganizationId, Result, RunId, Timestamp,
};

/// Most entries kept in a payload's `errorLog`; the oldest go first.
pub const MAX_ERRORS: usize = 20;

/// Most source ids that one query names.
pub const MAX_SOURCE_IDS: usize = 1_000;

/// Identity of a stored payload; opaque.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PayloadId(pub String);

/// How a payload came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadKind {
    Page,
    Webhook,
    File,
}

impl PayloadKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Webhook => "webhook",
            Self::File => "file",
        }
    }
}

/// A payload to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPayload {
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    /// The connector's name, such as `yardi`.
    pub source_system: String,
    pub kind: PayloadKind,
    /// The stream whose extraction and mapping rules apply.
    pub stream: String,
    /// What else is needed to read the records out again: the slice of a page, `{}` for others.
    pub slice: Value,
    pub content_type: Option<String>,
    pub body: Bytes,
    /// The sender's own delivery id (webhooks); a second payload with the same one is refused
    /// as a duplicate.
    pub delivery_id: Option<String>,
    pub run_id: Option<RunId>,
    pub traceparent: Option<String>,
    pub received_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl NewPayload {
    /// The identity every backend gives this payload. Webhooks with a delivery id are told apart
    /// by it alone; all others by stream, slice and bytes. Always within one connection.
    pub fn id(&self) -> PayloadId {
        let owner = (self.organization_id, self.connection_id);
        let key = match &self.delivery_id {
            Some(delivery) => serde_json::json!([owner, "delivery", delivery]),
            None => {
                let bytes = Hash::of_bytes(&self.body);
                serde_json::json!([owner, "content", self.stream, self.slice, bytes])
            }
        };
        PayloadId(Hash::of_json(&key).to_hex())
    }
}

/// What [`RawStore::put_payload`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutPayload {
    /// Durable, pending, leased to the caller.
    Stored(PayloadId),
    /// The same bytes of the same stream and slice were there already. They were not stored
    /// again: last-seen, received-at, run, trace and expiry moved to the newest, and the payload
    /// is pending and leased to the caller once more (the same bytes can mean news: A, B, A).
    SeenAgain(PayloadId),
    /// A webhook delivered before; nothing to do.
    Duplicate(PayloadId),
}

/// A stored payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload {
    pub id: PayloadId,
    pub new: NewPayload,
    pub inbound: InboundState,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// How often it was claimed as abandoned since it was last received.
    pub claims: u32,
    pub errors: Vec<RawError>,
}

/// `syncStatus.inbound`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundState {
    Pending,
    Completed,
    Failed,
}

impl InboundState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// `syncStatus.outbound.{target}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboundState {
    Pending,
    Synced,
    Failed,
}

impl OutboundState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Synced => "synced",
            Self::Failed => "failed",
        }
    }
}

/// One entry of `errorLog`. The text names fields and types, never personal data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawError {
    pub timestamp: Timestamp,
    pub class: ErrorClass,
    pub code: String,
    pub error: String,
    #[serde(rename = "retryCount")]
    pub retry_count: u32,
}

/// One record found in a payload. Unique per organization, connection, entity type, source id and
/// hash.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRecord {
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    pub source_system: String,
    pub stream: String,
    /// The entity type the stream feeds.
    pub entity_type: EntityType,
    /// The id at the source; a record without a usable id gets `unidentified:` and its hash.
    pub source_id: String,
    /// Hash of the raw record's canonical JSON.
    pub hash: Hash,
    /// `rawData`: the record as the decoder gave it.
    pub raw: Value,
    /// The slice it came from; mapping rules may need it.
    pub slice: Value,
    /// `processedData`: canonical form; `None` when mapping or validation failed.
    pub processed: Option<Value>,
    pub payload_id: PayloadId,
    /// `metadata.batchNumber`: the run, 0 without one.
    pub batch_number: i64,
    /// `metadata.syncDate`.
    pub sync_date: Timestamp,
    /// `metadata.version`: version of the master record it led to, 0 when it led to none.
    pub version: i32,
    pub inbound: InboundState,
    /// Connections it is on its way to.
    pub outbound: Vec<(String, OutboundState)>,
    pub errors: Vec<RawError>,
    pub expires_at: Option<Timestamp>,
}

impl RawRecord {
    /// What processing made of the record: state, processed data, version and errors (without
    /// their times). Two puts of one record with the same outcome differ in nothing but when.
    pub fn outcome(&self) -> Hash {
        let errors: Vec<_> = self
            .errors
            .iter()
            .map(|error| (error.class, &error.code, &error.error, error.retry_count))
            .collect();
        Hash::of_text(&(self.inbound, &self.processed, self.version, errors))
    }
}

/// For each record of a batch, its place in the order in which the source's copies were seen: the
/// sync date in microseconds, then how many records of the same source id came before it in the
/// batch (at most 1,023). The document with the greatest value is a source id's newest.
pub fn seen_order(records: &[RawRecord]) -> Vec<i64> {
    let mut before = std::collections::HashMap::new();
    records
        .iter()
        .map(|record| {
            let count = before
                .entry((&record.entity_type, &record.source_id))
                .or_insert(0_i64);
            let order = record
                .sync_date
                .timestamp_micros()
                .saturating_mul(1024)
                .saturating_add((*count).min(1023));
            *count += 1;
            order
        })
        .collect()
}

/// Counts of [`RawStore::put_records`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutRecords {
    /// Not known before.
    pub new: u64,
    /// Known with the same outcome: only last-seen and a later expiry moved.
    pub seen_again: u64,
    /// Known with another outcome: status, processed data, version, outbound states and errors
    /// replaced.
    pub changed: u64,
}

/// Selects raw records, ordered by an internal id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawRecordQuery {
    pub organization_id: Option<OrganizationId>,
    pub connection_id: Option<ConnectionId>,
    pub stream: Option<String>,
    pub entity_type: Option<EntityType>,
    /// Any of these, at most [`MAX_SOURCE_IDS`]; none means all.
    pub source_ids: Vec<String>,
    pub inbound: Option<InboundState>,
    /// Only each source id's newest document.
    pub newest_only: bool,
    /// Continue after this cursor.
    pub after: Option<String>,
    /// At most this many, 1 to 1,000.
    pub limit: usize,
}

impl RawRecordQuery {
    /// Every backend refuses the same queries.
    ///
    /// # Errors
    /// `too_many_source_ids`.
    pub fn check(&self) -> Result<()> {
        if self.source_ids.len() <= MAX_SOURCE_IDS {
            return Ok(());
        }
        Err(Error::validation(
            "too_many_source_ids",
            format!("a query may name at most {MAX_SOURCE_IDS} source ids"),
        ))
    }
}

/// One page of raw records.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRecordPage {
    pub records: Vec<RawRecord>,
    /// `None` at the end.
    pub next: Option<String>,
}

/// A state change at a target, mirrored into `syncStatus.outbound`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboundMark {
    pub organization_id: OrganizationId,
    /// The source connection.
    pub connection_id: ConnectionId,
    pub entity_type: EntityType,
    pub source_id: String,
    /// Name of the target connection.
    pub target: String,
    pub state: OutboundState,
}

/// Asks for pending payloads whose worker is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimPending {
    pub owner: String,
    pub lease: Duration,
    pub limit: usize,
}

/// Selects payloads that nobody could read, ordered by id.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedPayloadQuery {
    pub organization_id: OrganizationId,
    pub connection_id: Option<ConnectionId>,
    pub stream: Option<String>,
    /// Continue after this one.
    pub after: Option<PayloadId>,
    /// At most this many, 1 to 1,000.
    pub limit: usize,
}

/// A payload that nobody could read, without its bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedPayload {
    pub id: PayloadId,
    pub connection_id: ConnectionId,
    pub kind: PayloadKind,
    pub stream: String,
    pub content_type: Option<String>,
    pub bytes: u64,
    pub received_at: Timestamp,
    /// Why, the latest last.
    pub errors: Vec<RawError>,
}

/// Keeps raw payloads and raw records. All methods are safe to repeat.
///
/// Times are kept to the millisecond. JSON values come back equal to what was put, whatever the
/// backend's own types can hold; they may be nested 127 levels deep, the limit of the JSON reader,
/// and deeper ones are refused as `raw_too_deep`.
#[async_trait]
pub trait RawStore: Send + Sync + 'static {
    /// Creates collections or tables, indexes and expiry. Safe from several replicas at once.
    async fn prepare(&self) -> Result<()>;

    async fn ping(&self) -> Result<()>;

    /// Makes a payload durable before it returns: journaled, acknowledged by a majority.
    /// `lease` keeps other workers from claiming it as abandoned.
    async fn put_payload(&self, payload: NewPayload, lease: Duration) -> Result<PutPayload>;

    async fn payload(
        &self,
        organization: OrganizationId,
        id: &PayloadId,
    ) -> Result<Option<Payload>>;

    /// Leases payloads that are pending and whose lease has run out, oldest first, and counts that.
    async fn claim_pending(&self, claim: &ClaimPending) -> Result<Vec<Payload>>;

    /// Ends a payload's processing: `Completed`, or `Failed` with what was wrong.
    async fn finish_payload(&self, id: &PayloadId, failed: Option<RawError>) -> Result<()>;

    /// Payloads whose processing ended as failed and that did not come again since.
    async fn failed_payloads(&self, query: &FailedPayloadQuery) -> Result<Vec<FailedPayload>>;

    /// Stores records of one connection (a page of them, at most 1,000) in a handful of calls.
    /// They are durable once their payload is finished; until then a crash may undo them, and the
    /// pending payload makes them again.
    /// Within one batch (entity type, source id, hash) is unique.
    async fn put_records(&self, records: &[RawRecord]) -> Result<PutRecords>;

    async fn records(&self, query: &RawRecordQuery) -> Result<RawRecordPage>;

    /// Mirrors outbound states onto each record's newest document, in one batch.
    async fn mark_outbound(&self, marks: &[OutboundMark]) -> Result<()>;

    /// Removes what has expired and returns how many documents. Payloads that are still pending
    /// stay, whatever their date.
    async fn expire(&self, now: Timestamp) -> Result<u64>;
}
