//! Dead letters: push tasks that used up their attempts or can never succeed (promise O6).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, Error, ErrorClass, Hash, MasterId, OrganizationId, Result, TaskId,
    Timestamp, message::DeadLetterRef, record::RecordRef,
};

use crate::{
    outcome::{Held, NO_ERROR, Outcome},
    replay::{
        NewReplay, Replay, ReplayDetail, ReplayPreview, ReplayQuery, ReplayState, StartedReplay,
    },
    task::{AttemptRow, PushSettlement},
};

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
    /// Letters of one cause share it; see [`fingerprint`].
    pub fingerprint: String,
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
    /// The version's data that could not be delivered, as it is in the master data.
    pub data: Value,
    /// What people sent instead, newest first.
    pub edits: Vec<PayloadEdit>,
    pub attempts: Vec<AttemptRow>,
}

/// Data that somebody sends instead of a version's own, at one target. The version's own data
/// stays as it is, and a newer version supersedes the edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PayloadEdit {
    pub id: i64,
    pub version: i32,
    pub data: Value,
    pub actor: String,
    pub note: String,
    pub at: Timestamp,
}

/// Dead letters of one cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterGroup {
    pub fingerprint: String,
    pub target: String,
    pub class: ErrorClass,
    pub code: String,
    /// Of the newest one.
    pub message: String,
    pub count: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// The newest letters that are grouped, and the most groups told.
pub const LETTERS_GROUPED: u32 = 100_000;
pub const GROUPS: u32 = 200;

/// How many dead letters of one class wait for a person at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDeadLetters {
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    pub class: ErrorClass,
    pub count: u64,
}

/// What one connection's dead-letter queue at the broker should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirrored {
    pub connection_id: ConnectionId,
    /// Open letters whose reference was published.
    pub open: u64,
    /// Letters that are no longer open and whose reference may still be there.
    pub closed: u64,
}

/// Selects dead letters; conditions are combined with "and". Ordered by id, newest first.
///
/// Serialized, it is what a person asked for, in the words of the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterFilter {
    #[serde(skip)]
    pub organization_id: OrganizationId,
    /// Only these ids; empty means any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<i64>,
    #[serde(skip)]
    pub connection_id: Option<ConnectionId>,
    /// The connection's name, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_type: Option<EntityType>,
    /// Our reference, such as `yardi:51877`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// `None` means any state for looking, and `Open` for replay and discard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeadLetterState>,
    /// Last failure before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Last failure at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Continue below this id.
    #[serde(skip)]
    pub after: Option<i64>,
    /// At most this many; 1 to 1,000 for looking, any number for replay and discard, where
    /// `u32::MAX` means all.
    #[serde(skip_serializing_if = "is_all")]
    pub limit: u32,
}

fn is_all(limit: &u32) -> bool {
    *limit == u32::MAX
}

impl DeadLetterFilter {
    /// Every dead letter of one organization.
    pub fn all(organization_id: OrganizationId) -> Self {
        Self {
            organization_id,
            ids: Vec::new(),
            connection_id: None,
            target: None,
            entity_type: None,
            entity_id: None,
            class: None,
            code: None,
            fingerprint: None,
            state: None,
            before: None,
            since: None,
            after: None,
            limit: 1_000,
        }
    }

    /// The same for acting, which concerns open letters only; `None` when it asks for others.
    pub fn open(&self) -> Option<Self> {
        let wanted = self.state.unwrap_or(DeadLetterState::Open);
        (wanted == DeadLetterState::Open).then(|| Self {
            state: Some(wanted),
            ..self.clone()
        })
    }
}

/// What letters of one cause have in common: target, entity, class, code, and the message without
/// what differs from record to record (its name, numbers, ids, quoted parts). 16 hex digits.
pub fn fingerprint(
    target: ConnectionId,
    record: &RecordRef,
    source: &str,
    class: ErrorClass,
    code: &str,
    message: &str,
) -> String {
    // The record's own name may have blanks, so it goes before the words are looked at.
    let message = message.replace(&format!("{source}:{}", record.source_id), "#");
    let mut common = String::with_capacity(message.len());
    for (place, part) in message.split(['"', '\'', '`']).enumerate() {
        // Every second part stands between quotes.
        if place % 2 == 1 {
            common.push_str("\"\" ");
            continue;
        }
        for word in part.split_whitespace() {
            let differs = word.starts_with("record=") || word.bytes().any(|b| b.is_ascii_digit());
            let word = if differs { "#" } else { word };
            common.push_str(word);
            common.push(' ');
        }
    }
    let target = target.to_string();
    let entity = record.entity_type.as_str();
    let cause = [&target, entity, class.as_str(), code, &common].join("\n");
    let mut hash = Hash::of_bytes(cause.as_bytes()).to_hex();
    hash.truncate(16);
    hash
}

/// What is written when a task has become dead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Buried<'a> {
    pub task_id: TaskId,
    /// The version that could not be delivered.
    pub version: i32,
    pub attempts: u32,
    pub class: ErrorClass,
    pub code: &'a str,
    pub message: &'a str,
    pub http_status: Option<u16>,
    pub trace_id: Option<&'a str>,
    pub fingerprint: String,
}

impl<'a> Buried<'a> {
    /// `None` when the task is not dead.
    pub fn new(held: &Held, settlement: &'a PushSettlement, outcome: &Outcome<'_>) -> Option<Self> {
        let error = settlement.attempt.error.as_ref();
        let (class, code) = error.map_or(NO_ERROR, |error| (error.class, &error.code));
        let message = error.map_or("", |error| &error.message);
        Some(Self {
            task_id: held.id,
            version: held.intent_version.unwrap_or(held.wanted_version),
            attempts: outcome.dead_letter?,
            class,
            code,
            message,
            http_status: error.and_then(|error| error.http_status),
            trace_id: settlement.attempt.trace_id.as_deref(),
            fingerprint: fingerprint(
                held.connection_id,
                &RecordRef {
                    entity_type: held.entity_type.clone(),
                    source_id: held.source_id.clone(),
                },
                &held.source,
                class,
                code,
                message,
            ),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterPage {
    pub items: Vec<DeadLetter>,
    /// Continue below this id; `None` at the end.
    pub next: Option<i64>,
}

/// What the reference message of a dead letter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct UnmirroredDeadLetter {
    pub id: i64,
    pub reference: sluice_core::message::TaskRef,
}

/// One entry of `sync_activity_log` that somebody's change left (the audit).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub id: i64,
    pub at: Timestamp,
    /// Who: `cli:` and a user, `api:` and a token's name, or `broker`.
    pub actor: String,
    /// What, such as `dead_letters.discarded`.
    pub event: String,
    /// How many of what, and why.
    pub detail: String,
}

/// Acting on named letters wants all of them to be there.
///
/// # Errors
/// `dead_letter_unknown` with the first id that is not.
pub async fn known(
    letters: &(impl DeadLetterStore + ?Sized),
    filter: &DeadLetterFilter,
) -> Result<()> {
    for ids in filter.ids.chunks(1_000) {
        let named = DeadLetterFilter {
            ids: ids.to_vec(),
            ..DeadLetterFilter::all(filter.organization_id)
        };
        let found = letters.dead_letters(&named).await?.items;
        let missing = |id: &&i64| !found.iter().any(|letter| letter.id == **id);
        if let Some(id) = ids.iter().find(missing) {
            let told = format!("there is no dead letter {id}");
            return Err(
                Error::new(ErrorClass::NotFound, "dead_letter_unknown", told)
                    .hint("`sluice dlq list --all` shows which there are"),
            );
        }
    }
    Ok(())
}

/// The dead-letter part of [`crate::TaskStore`]. Every change of a person leaves a [`Change`] in
/// the same transaction.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage>;

    async fn dead_letter(
        &self,
        organization: OrganizationId,
        id: i64,
    ) -> Result<Option<DeadLetterDetail>>;

    /// Causes of those of the newest 100,000 letters that match, most letters first; at most 200.
    /// The filter's paging does not count.
    async fn dead_letter_groups(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterGroup>>;

    /// Open letters of all organizations, counted.
    async fn open_dead_letters(&self) -> Result<Vec<OpenDeadLetters>>;

    /// Closes matching open dead letters for good; the task becomes cancelled.
    async fn discard_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        actor: &str,
        reason: &str,
    ) -> Result<u64>;

    // Replays

    /// Orders a replay of the open letters that match now, and freezes this set.
    /// [`Self::work_replay`] carries it out. The same idempotency key gives the replay it gave
    /// before.
    ///
    /// # Errors
    /// With an edit: `edit_needs_one` unless exactly one letter matches, `edit_outdated` when the
    /// letter is not about the newest version, `edit_of_deletion`.
    async fn start_replay(&self, new: &NewReplay) -> Result<StartedReplay>;

    /// What a replay of this filter would do now.
    async fn preview_replay(&self, filter: &DeadLetterFilter) -> Result<ReplayPreview>;

    /// Works off one batch of at most `most` letters of the running replay whose turn it is: tasks
    /// that are dead and still owe the newest version are pending again, with no attempts used, at
    /// the lowest priority, and take the ordinary way from there. `None` when no replay is due;
    /// else how many letters were dealt with. One batch of a replay is worked on at a time.
    async fn work_replay(&self, most: u32) -> Result<Option<u64>>;

    async fn replays(&self, query: &ReplayQuery) -> Result<Vec<Replay>>;

    async fn replay(&self, organization: OrganizationId, id: i64) -> Result<Option<ReplayDetail>>;

    /// A legal step of [`ReplayState`] or an error; repeating the current state is a success.
    ///
    /// # Errors
    /// `replay_unknown` (also another organization's), `replay_transition_refused`.
    async fn change_replay(
        &self,
        organization: OrganizationId,
        id: i64,
        to: ReplayState,
        actor: &str,
        note: &str,
    ) -> Result<Replay>;

    /// Replays, at once, the letters of one connection whose references somebody moved to a work
    /// queue: those that are open and died at the time that the reference tells. An older reference
    /// revives nothing. Returns how many.
    async fn replay_moved(
        &self,
        connection: ConnectionId,
        moved: &[DeadLetterRef],
        actor: &str,
    ) -> Result<u64>;

    // The mirror at the broker

    /// Open dead letters that have no reference message in the broker yet, oldest first.
    async fn unmirrored_dead_letters(&self, limit: u32) -> Result<Vec<UnmirroredDeadLetter>>;

    async fn mark_dead_letters_mirrored(&self, ids: &[i64]) -> Result<()>;

    /// What the dead-letter queues should hold; connections without any are left out.
    async fn mirrored_dead_letters(&self) -> Result<Vec<Mirrored>>;

    /// Forgets which letters of a connection have a reference, so that the open ones get a new one.
    async fn forget_mirrored(&self, connection: ConnectionId) -> Result<()>;

    /// Changes made by people, newest first, below `after`.
    async fn changes(
        &self,
        organization: OrganizationId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_one_cause_share_a_fingerprint() {
        let of = |target, entity: &str, id: &str, message: &str| {
            let record = RecordRef {
                entity_type: entity.into(),
                source_id: id.to_owned(),
            };
            let (class, code) = (ErrorClass::Validation, "refused");
            fingerprint(ConnectionId(target), &record, "yardi", class, code, message)
        };
        let print = |message| of(1, "Location", "FILEL", message);
        let first = print("field `unit` of 4711 is 'A-1' and too long");
        assert_eq!(first, print("field `building` of 12 is 'B' and too long"));
        assert_eq!(first.len(), 16);
        assert_ne!(first, print("field is too short"));
        assert_ne!(of(2, "Location", "FILEL", "x"), print("x"));
        assert_ne!(of(1, "Resident", "FILEL", "x"), print("x"));
        // The record's name is no part of the cause, with blanks and without digits.
        let named = |id: &str| {
            let message = format!("city is missing [refused] record=yardi:{id}; look at it");
            of(1, "Location", id, &message)
        };
        assert_eq!(named("FILEL"), named("Oak Run East"));
        assert_eq!(named("FILEL"), named("4711"));
    }
}
