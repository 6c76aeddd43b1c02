//! Replays: ordering one, for the command line and the API, and working them off (promise O6).

use std::time::Duration;

use sluice_core::{Error, ErrorClass, Result};
use sluice_runtime::{
    Shutdown,
    pace::{Again, Pace},
};
use sluice_store::{
    TaskStore, dead_letter,
    replay::{NewReplay, ReplayPreview, StartedReplay},
};
use sluice_transform::Schemas;

use crate::Orchestrator;

/// Letters put back in one transaction.
const BATCH: u32 = 500;
/// Pause between two looks; short, because it blurs the rate of a slow replay.
const IDLE: Duration = Duration::from_millis(100);
/// Longest note, in bytes.
const MAX_NOTE: usize = 1_000;

/// Orders a replay, which goes on by itself from there.
///
/// # Errors
/// Those of `check` and of [`sluice_store::dead_letter::DeadLetterStore::start_replay`].
pub async fn order(
    tasks: &dyn TaskStore,
    schemas: &Schemas,
    new: &NewReplay,
) -> Result<StartedReplay> {
    check(tasks, schemas, new).await?;
    tasks.start_replay(new).await
}

/// What the order would do now; nothing is written.
///
/// # Errors
/// Those of `check`.
pub async fn rehearse(
    tasks: &dyn TaskStore,
    schemas: &Schemas,
    new: &NewReplay,
) -> Result<ReplayPreview> {
    check(tasks, schemas, new).await?;
    tasks.preview_replay(&new.filter).await
}

/// Checks an order. Edited data must pass the schema of its entity type, as data from a source does.
///
/// # Errors
/// `dead_letter_unknown`, `replay_rate_invalid`, `note_too_long`, `edit_needs_one`, `edit_invalid` with the broken rules.
async fn check(tasks: &dyn TaskStore, schemas: &Schemas, new: &NewReplay) -> Result<()> {
    if new.rate == Some(0) {
        return Err(Error::validation(
            "replay_rate_invalid",
            "a rate of 0 letters per second replays nothing",
        )
        .hint("leave it out for no cap"));
    }
    if new.note.len() > MAX_NOTE {
        return Err(Error::validation(
            "note_too_long",
            format!("a note has at most {MAX_NOTE} bytes"),
        ));
    }
    dead_letter::known(tasks, &new.filter).await?;
    let Some(data) = &new.edit else {
        return Ok(());
    };
    // Without a named letter nothing tells which schema counts.
    let [id] = new.filter.ids[..] else {
        return Err(Error::validation(
            "edit_needs_one",
            "edited data is for exactly one open dead letter",
        )
        .hint("name it by its id"));
    };
    let Some(found) = tasks.dead_letter(new.filter.organization_id, id).await? else {
        return Err(Error::new(
            ErrorClass::NotFound,
            "dead_letter_unknown",
            format!("there is no dead letter {id}"),
        ));
    };
    let entity = &found.letter.entity_type;
    schemas.check(entity, data).map_err(|violations| {
        let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
        Error::validation(
            "edit_invalid",
            format!("the edited data is no {entity}: {}", told.join("; ")),
        )
    })
}

/// Works off replays until shutdown. A crash costs the batch in hand, which is a transaction.
pub(crate) async fn run(context: &Orchestrator, shutdown: &Shutdown) {
    let mut pace = Pace::new("replays", shutdown, IDLE);
    loop {
        let outcome = context.backends.tasks.work_replay(BATCH).await;
        let again = outcome.map(|worked| match worked {
            Some(_) => Again::Now,
            None => Again::Later,
        });
        if !pace.next(again).await {
            return;
        }
    }
}
