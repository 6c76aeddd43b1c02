//! Writing to a system, as its `operations.yaml` describes it.

use serde_json::Value;
use sluice_core::{
    EntityType, Error, Result, connector::ConnectorFiles, secret::SecretConfig, task::PushAction,
};

use crate::http::HttpClient;

/// What to do with a record at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushOperation {
    Create,
    Update,
    Delete,
}

impl PushOperation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One record to write.
#[derive(Debug, Clone)]
pub struct PushItem {
    /// Our reference, planted at the target: `{source connection}:{source_id}`.
    pub entity_id: String,
    /// The record's id at the target; needed for update and delete.
    pub external_id: Option<String>,
    /// What the mapping made of the record.
    pub body: Value,
    /// Sent where the target understands one.
    pub idempotency_key: String,
    /// The master record's version that `body` shows.
    pub version: i64,
}

/// What the target made of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The record's id at the target.
    pub external_id: String,
    pub action: PushAction,
}

/// The results of one push, in the order of its items.
#[derive(Debug)]
pub struct PushBatch {
    pub results: Vec<Result<Receipt, Error>>,
    /// HTTP calls made, token refreshes and look-ups included.
    pub calls: u32,
}

/// A record found at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub external_id: String,
}

/// One connection's target, ready to be written to.
#[derive(Debug)]
pub struct Target {
    http: HttpClient,
}

impl Target {
    /// Reads and checks `operations.yaml`.
    ///
    /// # Errors
    /// Class Config; the text names the file and the path inside it.
    pub fn load(
        _files: &ConnectorFiles,
        _connection: &str,
        _config: SecretConfig,
        http: HttpClient,
    ) -> Result<Self> {
        Ok(Self { http })
    }

    /// The entity types that can be written, in the file's order.
    pub fn entities(&self) -> Vec<EntityType> {
        Vec::new()
    }

    /// How many items one push may carry; at least 1.
    pub fn batch_size(&self, _entity: &EntityType, _operation: PushOperation) -> usize {
        1
    }

    /// Whether the target answers and accepts the credentials.
    pub async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Writes records. Results come in the order of the items.
    pub async fn push(
        &self,
        _entity: &EntityType,
        _operation: PushOperation,
        _items: Vec<PushItem>,
    ) -> PushBatch {
        PushBatch {
            results: Vec::new(),
            calls: 0,
        }
    }

    /// Finds records by our planted reference, in the order asked for; also returns the calls made.
    pub async fn lookup(
        &self,
        _entity: &EntityType,
        _entity_ids: &[String],
    ) -> (Vec<Result<Option<Found>>>, u32) {
        let _ = &self.http;
        (Vec::new(), 0)
    }
}
