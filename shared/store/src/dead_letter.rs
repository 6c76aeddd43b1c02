//! Dead letters: push tasks that used up their attempts or can never succeed (promise O6).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, ErrorClass, MasterId, OrganizationId, TaskId, Timestamp,
};

use crate::task::AttemptRow;

/// Life of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterState {
    Open,
    /// Its task is on its way again.
    Replaying,
    /// The task was delivered after all.
    Resolved,
    Discarded,
}

impl DeadLetterState {
    pub const ALL: [Self; 4] = [Self::Open, Self::Replaying, Self::Resolved, Self::Discarded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Resolved => "resolved",
            Self::Discarded => "discarded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    pub id: i64,
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    /// Name of the target connection.
    pub target: String,
    pub task_id: TaskId,
    pub master_id: MasterId,
    pub entity_type: EntityType,
    pub entity_id: String,
    pub version: i32,
    pub state: DeadLetterState,
    pub class: ErrorClass,
    pub code: String,
    pub message: String,
    pub http_status: Option<u16>,
    pub attempts: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Who replayed or discarded it, and why.
    pub actor: Option<String>,
    pub note: Option<String>,
    pub trace_id: Option<String>,
}

/// A dead letter with the payload as it would be mapped now, and its history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterDetail {
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The version's data that could not be delivered.
    pub data: Value,
    pub attempts: Vec<AttemptRow>,
}

/// Selects dead letters; conditions are combined with "and". Ordered by id, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterFilter {
    pub organization_id: OrganizationId,
    /// Only these ids; empty means any.
    pub ids: Vec<i64>,
    pub connection_id: Option<ConnectionId>,
    pub entity_type: Option<EntityType>,
    pub class: Option<ErrorClass>,
    pub code: Option<String>,
    /// `None` means any state for looking, and `Open` for replay and discard.
    pub state: Option<DeadLetterState>,
    /// Last failure before this time.
    pub before: Option<Timestamp>,
    /// Last failure at or after this time.
    pub since: Option<Timestamp>,
    /// Continue below this id.
    pub after: Option<i64>,
    /// At most this many; 1 to 1,000 for looking, any number for replay and discard.
    pub limit: u32,
}

impl DeadLetterFilter {
    /// Every dead letter of one organization.
    pub fn all(organization_id: OrganizationId) -> Self {
        Self {
            organization_id,
            ids: Vec::new(),
            connection_id: None,
            entity_type: None,
            class: None,
            code: None,
            state: None,
            before: None,
            since: None,
            after: None,
            limit: 1_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterPage {
    pub items: Vec<DeadLetter>,
    /// Continue below this id; `None` at the end.
    pub next: Option<i64>,
}

/// What a replay did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Dead letters that matched.
    pub matched: u64,
    /// Tasks made pending again.
    pub replayed: u64,
    /// Matched, but the task is open or newer-delivered already.
    pub skipped: u64,
}

/// What the reference message of a dead letter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct UnmirroredDeadLetter {
    pub id: i64,
    pub reference: sluice_core::message::TaskRef,
}
