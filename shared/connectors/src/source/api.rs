//! What callers of a source see: streams, slice requests, pages.

use bytes::Bytes;
use serde_json::Value;
use sluice_core::{EntityType, Error, Timestamp, run::RunKind};

/// A stream a connection can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    pub name: String,
    /// What its records become; `None` when the manifest does not say (streams read only as
    /// parents of others).
    pub entity_type: Option<EntityType>,
    /// Names of the fields that identify a record, in order; empty when the manifest has none.
    pub primary_key: Vec<String>,
    /// Whether an incremental run reads less than a full one.
    pub incremental: bool,
}

/// What to find slices for.
#[derive(Debug, Clone)]
pub struct SliceRequest {
    pub stream: String,
    /// `Full` ignores the states; `Incremental` starts at them; `Single` wants the narrowest
    /// slices that can hold `record`. `Reprocess` reads nothing and is refused.
    pub kind: RunKind,
    /// Stored states as (partition, state), as pages handed them out.
    pub states: Vec<(String, Value)>,
    /// Start here instead of at the stored state.
    pub since: Option<Timestamp>,
    /// The source id wanted by a `Single` run.
    pub record: Option<String>,
    /// The time of the run; windows end here unless the manifest sets another end.
    pub now: Timestamp,
}

/// One answer of the source, kept before anything else happens to it (promise I1).
#[derive(Debug, Clone)]
pub struct Page {
    /// The body as received, after transfer decoding (gzip) and before anything else. Empty when
    /// the answer was an error that the manifest ignores.
    pub body: Bytes,
    /// The `Content-Type` of the answer.
    pub content_type: Option<String>,
    pub received_at: Timestamp,
    /// The records in it, filtered and transformed. Empty when `error` is set.
    pub records: Vec<Value>,
    /// Hand this to the next `read` of the slice to go on behind this page.
    pub progress: Value,
    /// (partition, state) to be kept for the next incremental run, once this page is processed.
    pub state: Option<(String, Value)>,
    /// HTTP calls made for this page, retries included.
    pub calls: u32,
    /// Why no records could be taken from the body. It is the slice's last page: store the bytes,
    /// then settle the slice with this error.
    pub error: Option<Error>,
}
