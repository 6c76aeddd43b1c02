//! Replays: dead letters sent again, as things of their own that survive a crash (promise O6).
//!
//! The letters that matched when a replay was ordered are frozen in `replay_items`. The
//! orchestrator works them off in batches; each task takes the ordinary way from there, so a replay
//! can neither overtake nor repeat what the target holds, nor exceed its limit.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{Error, ErrorClass, OrganizationId, Result, Timestamp, task::TaskState};

use crate::dead_letter::{DeadLetterFilter, DeadLetterState};

/// Priority of a replayed task: whatever happens today goes first. A newer version lifts it again.
pub const PRIORITY: u8 = 10;

/// Life of a replay. Stored in `replays.state`, which has a CHECK of the same words.
///
/// ```text
/// running <-> paused
///    |          |
///    |          +--> cancelled
///    +---> done | cancelled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    Running,
    Paused,
    /// Letters that were not dealt with stay open.
    Cancelled,
    /// Every letter was put back or skipped; whether it was delivered, the letter tells.
    Done,
}

impl ReplayState {
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Cancelled, Self::Done];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Checks a step that somebody asks for; the error names both states.
    pub fn step(self, next: Self) -> Result<Self> {
        use ReplayState::{Cancelled, Paused, Running};
        match (self, next) {
            (Running, Paused | Cancelled) | (Paused, Running | Cancelled) => Ok(next),
            _ => Err(Error::new(
                ErrorClass::Conflict,
                "replay_transition_refused",
                format!(
                    "a replay that is {} cannot become {}",
                    self.as_str(),
                    next.as_str()
                ),
            )),
        }
    }
}

/// A replay to be ordered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReplay {
    /// The open letters that match, at most its limit.
    pub filter: DeadLetterFilter,
    /// Letters put back per second at most; `None` as fast as it goes. At least 1.
    pub rate: Option<u32>,
    /// Sent instead of the version's own data. It must have passed the entity's schema.
    pub edit: Option<Value>,
    pub actor: String,
    pub note: String,
    pub idempotency_key: Option<String>,
}

/// Answer to [`crate::dead_letter::DeadLetterStore::start_replay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StartedReplay {
    pub id: i64,
    /// Letters in the frozen set.
    pub matched: u64,
    /// The idempotency key was known: no new replay.
    pub existed: bool,
}

/// What a replay would do now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReplayPreview {
    pub matched: u64,
    pub replayable: u64,
    pub skipped: SkipCounts,
}

impl ReplayPreview {
    /// Counts one more letter.
    pub fn count(&mut self, outcome: ItemOutcome) {
        self.matched += 1;
        match outcome {
            ItemOutcome::Replayed => self.replayable += 1,
            skipped => self.skipped.add(skipped, 1),
        }
    }
}

/// Letters that were left alone, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SkipCounts {
    /// The task is on its way already.
    pub on_its_way: u64,
    /// The target holds the newest version.
    pub delivered: u64,
    /// The letter was resolved, discarded or replayed by somebody else meanwhile.
    pub closed: u64,
    /// A newer version than the edited one is known.
    pub outdated: u64,
}

impl SkipCounts {
    pub fn add(&mut self, outcome: ItemOutcome, count: u64) {
        match outcome {
            ItemOutcome::Replayed => {}
            ItemOutcome::OnItsWay => self.on_its_way += count,
            ItemOutcome::Delivered => self.delivered += count,
            ItemOutcome::Closed => self.closed += count,
            ItemOutcome::Outdated => self.outdated += count,
        }
    }
}

/// One replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    pub id: i64,
    pub organization_id: OrganizationId,
    pub state: ReplayState,
    /// The filter as it was given, for people.
    pub filter: Value,
    pub rate: Option<u32>,
    /// Whether it sends edited data.
    pub edited: bool,
    pub matched: u64,
    pub replayed: u64,
    pub skipped: u64,
    pub actor: String,
    pub note: String,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// A replay, and what became of its letters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayDetail {
    #[serde(flatten)]
    pub replay: Replay,
    /// Not dealt with yet.
    pub waiting: u64,
    pub skipped_because: SkipCounts,
    /// Of the replayed ones: delivered, on their way, and dead again.
    pub resolved: u64,
    pub on_their_way: u64,
    pub dead_again: u64,
}

impl ReplayDetail {
    /// From the replay's letters, counted by what became of them and by their state now.
    pub fn new(
        replay: Replay,
        counts: impl IntoIterator<Item = (Option<ItemOutcome>, DeadLetterState, u64)>,
    ) -> Self {
        let mut detail = Self {
            replay,
            waiting: 0,
            skipped_because: SkipCounts::default(),
            resolved: 0,
            on_their_way: 0,
            dead_again: 0,
        };
        for (outcome, state, count) in counts {
            match (outcome, state) {
                (None, _) => detail.waiting += count,
                (Some(ItemOutcome::Replayed), DeadLetterState::Resolved) => {
                    detail.resolved += count;
                }
                (Some(ItemOutcome::Replayed), DeadLetterState::Replaying) => {
                    detail.on_their_way += count;
                }
                (Some(ItemOutcome::Replayed), _) => detail.dead_again += count,
                (Some(skipped), _) => detail.skipped_because.add(skipped, count),
            }
        }
        detail
    }
}

/// Selects replays, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayQuery {
    pub organization_id: OrganizationId,
    pub state: Option<ReplayState>,
    /// Continue below this id.
    pub after: Option<i64>,
    pub limit: u32,
}

/// What became of one letter of a replay. Stored in `replay_items.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemOutcome {
    Replayed,
    /// See [`SkipCounts`] for the others.
    OnItsWay,
    Delivered,
    Closed,
    Outdated,
}

impl ItemOutcome {
    pub const ALL: [Self; 5] = [
        Self::Replayed,
        Self::OnItsWay,
        Self::Delivered,
        Self::Closed,
        Self::Outdated,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::OnItsWay => "on_its_way",
            Self::Delivered => "delivered",
            Self::Closed => "closed",
            Self::Outdated => "outdated",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// A letter with its task and record, as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub letter: DeadLetterState,
    pub task: TaskState,
    pub delivered_version: Option<i32>,
    pub current_version: i32,
}

/// Whether a letter can be replayed now. `edited_version` is the version that edited data stands
/// for, if there is any.
pub fn decide(standing: &Standing, edited_version: Option<i32>) -> ItemOutcome {
    if standing.letter != DeadLetterState::Open {
        return ItemOutcome::Closed;
    }
    if standing.task != TaskState::Dead {
        return ItemOutcome::OnItsWay;
    }
    if standing.delivered_version >= Some(standing.current_version) {
        return ItemOutcome::Delivered;
    }
    match edited_version {
        Some(version) if version != standing.current_version => ItemOutcome::Outdated,
        _ => ItemOutcome::Replayed,
    }
}

/// Refuses an edit of a letter that does not allow one.
///
/// # Errors
/// As [`crate::dead_letter::DeadLetterStore::start_replay`].
pub fn check_edit(letters: &[EditedLetter]) -> Result<&EditedLetter> {
    let [letter] = letters else {
        return Err(Error::validation(
            "edit_needs_one",
            "edited data is for exactly one open dead letter",
        )
        .hint("name it by its id"));
    };
    if letter.deleted {
        return Err(Error::validation(
            "edit_of_deletion",
            "a deletion carries no data that could be edited",
        ));
    }
    if letter.version != letter.current_version {
        return Err(Error::new(
            ErrorClass::Conflict,
            "edit_outdated",
            format!(
                "the dead letter is about version {}, and the record has version {} by now",
                letter.version, letter.current_version
            ),
        )
        .hint("replay it without edited data"));
    }
    Ok(letter)
}

/// What [`check_edit`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditedLetter {
    pub id: i64,
    pub version: i32,
    pub current_version: i32,
    /// The current version is a deletion.
    pub deleted: bool,
}

/// Letters of one batch, at most `most`: a quarter of a second's worth.
pub fn batch(rate: Option<u32>, most: u32) -> u32 {
    rate.map_or(most, |rate| (rate / 4).min(most)).max(1)
}

/// Pause after a batch of this many, so that no second holds more letters than the rate.
pub fn pause(rate: Option<u32>, count: u32) -> Duration {
    rate.map_or(Duration::ZERO, |rate| {
        let batches_per_second = (rate / count.max(1)).max(1);
        Duration::from_micros(1_000_000_u64.div_ceil(u64::from(batches_per_second)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEAD: Standing = Standing {
        letter: DeadLetterState::Open,
        task: TaskState::Dead,
        delivered_version: Some(1),
        current_version: 2,
    };

    /// O6: only a dead task that still owes the newest version is put back.
    #[test]
    fn open_delivered_and_closed_ones_are_skipped() {
        for letter in DeadLetterState::ALL {
            for task in TaskState::ALL {
                let outcome = decide(
                    &Standing {
                        letter,
                        task,
                        ..DEAD
                    },
                    None,
                );
                let replayed = letter == DeadLetterState::Open && task == TaskState::Dead;
                assert_eq!(
                    outcome == ItemOutcome::Replayed,
                    replayed,
                    "{letter:?} {task:?}"
                );
            }
        }
        let delivered = Standing {
            delivered_version: Some(2),
            ..DEAD
        };
        assert_eq!(decide(&delivered, None), ItemOutcome::Delivered);
        assert_eq!(decide(&DEAD, Some(2)), ItemOutcome::Replayed);
        assert_eq!(decide(&DEAD, Some(1)), ItemOutcome::Outdated);
    }

    #[test]
    fn only_the_newest_version_of_one_record_can_be_edited() {
        let letter = EditedLetter {
            id: 1,
            version: 2,
            current_version: 2,
            deleted: false,
        };
        assert_eq!(check_edit(&[letter]).unwrap().id, 1);
        let code = |letters: &[EditedLetter]| check_edit(letters).unwrap_err().code();
        assert_eq!(code(&[]), "edit_needs_one");
        assert_eq!(code(&[letter, letter]), "edit_needs_one");
        let older = EditedLetter {
            version: 1,
            ..letter
        };
        assert_eq!(code(&[older]), "edit_outdated");
        let gone = EditedLetter {
            deleted: true,
            ..letter
        };
        assert_eq!(code(&[gone]), "edit_of_deletion");
    }

    #[test]
    fn a_replay_is_paused_resumed_and_cancelled_but_never_revived() {
        use ReplayState::{Cancelled, Done, Paused, Running};
        for (from, to) in [(Running, Paused), (Paused, Running), (Paused, Cancelled)] {
            assert_eq!(from.step(to).unwrap(), to);
        }
        for (from, to) in [(Done, Running), (Cancelled, Running), (Running, Done)] {
            let error = from.step(to).unwrap_err();
            assert_eq!(error.code(), "replay_transition_refused");
        }
    }

    proptest! {
        /// No second holds more letters than the rate, whatever the bound of a batch is.
        #[test]
        fn no_second_exceeds_the_rate(rate in 1_u32..5_000, most in 1_u32..2_000) {
            let (mut at, mut taken) = (Duration::ZERO, Vec::new());
            while at < Duration::from_secs(2) && taken.len() < 2_000 {
                let count = batch(Some(rate), most);
                prop_assert!(count >= 1 && count <= most);
                taken.push((at, count));
                at += pause(Some(rate), count);
            }
            for (start, _) in &taken {
                let end = *start + Duration::from_secs(1);
                let within: u32 = taken
                    .iter()
                    .filter(|(at, _)| at >= start && *at < end)
                    .map(|(_, count)| count)
                    .sum();
                prop_assert!(within <= rate, "{within} at {rate}");
            }
        }
    }
}
