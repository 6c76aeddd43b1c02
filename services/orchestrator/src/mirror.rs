//! The mirror of push states in the raw store: what SQL knows is shown where people look for it. It
//! may lag; it is never read as truth.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use sluice_core::{Result, task::TaskState};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    pace::{Again, Pace},
};
use sluice_store::{
    raw::{OutboundMark, OutboundState},
    task::OutboundChange,
};

use crate::Orchestrator;

/// The reader's name in the store of cursors.
const READER: &str = "raw-outbound";
const CHANGES_AT_ONCE: u32 = 1_000;
/// The reader goes over the changes of this time once more: sequence numbers are given before
/// their transactions commit, so a late commit can appear behind the cursor, and a raw record can
/// be stored after its push was settled.
const LOOK_BACK: Duration = Duration::from_secs(60);
const LOOK_BACK_EVERY: Duration = Duration::from_secs(30);

/// Mirrors push states into the raw store until shutdown.
pub(crate) async fn outbound(context: &Orchestrator, shutdown: &Shutdown) {
    let mut reader: Option<Reader> = None;
    let mut pace = Pace::new(
        "raw-mirror",
        shutdown,
        context.settings.idle.max(MIRROR_IDLE),
    );
    loop {
        let outcome = mirror_outbound(context, &mut reader).await;
        if !pace.next(outcome).await {
            return;
        }
    }
}

/// Nobody acts on a mirror, so it may look less often than the stager.
pub(crate) const MIRROR_IDLE: Duration = Duration::from_millis(500);

/// Where the reader stands, and where it stood.
#[derive(Debug)]
struct Reader {
    cursor: i64,
    trail: VecDeque<(Instant, i64)>,
    looked_back: Instant,
}

impl Reader {
    fn new(cursor: i64, now: Instant) -> Self {
        Self {
            cursor,
            trail: VecDeque::from([(now, cursor)]),
            looked_back: now,
        }
    }

    /// Notes the position; forgets those older than needed, but keeps one that is old enough.
    fn advance(&mut self, cursor: i64, now: Instant) {
        self.cursor = cursor;
        if self
            .trail
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= Duration::from_secs(1))
        {
            self.trail.push_back((now, cursor));
        }
        while self
            .trail
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= LOOK_BACK)
        {
            self.trail.pop_front();
        }
    }

    /// The position behind which nothing can appear any more; a restart continues from it.
    fn settled(&self) -> i64 {
        self.trail
            .front()
            .map_or(self.cursor, |(_, cursor)| *cursor)
    }

    /// Goes back when it is time to.
    fn look_back(&mut self, now: Instant) {
        if now.duration_since(self.looked_back) >= LOOK_BACK_EVERY {
            self.looked_back = now;
            self.cursor = self.settled();
        }
    }
}

async fn mirror_outbound(context: &Orchestrator, reader: &mut Option<Reader>) -> Result<Again> {
    let tasks = &context.backends.tasks;
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(Reader::new(
            tasks.reader_cursor(READER).await?,
            Instant::now(),
        )),
    };
    reader.look_back(Instant::now());
    let changes = tasks
        .outbound_changes(reader.cursor, CHANGES_AT_ONCE)
        .await?;
    let full = changes.len() >= CHANGES_AT_ONCE as usize;
    let Some(last) = changes.last().map(|change| change.cursor) else {
        return Ok(Again::Later);
    };
    context.backends.raw.mark_outbound(&marks(changes)).await?;
    failpoint::reach(Point::OrchestratorMarked).await;
    let before = reader.settled();
    reader.advance(last, Instant::now());
    if reader.settled() != before {
        tasks.save_reader_cursor(READER, reader.settled()).await?;
    }
    Ok(if full { Again::Now } else { Again::Later })
}

/// The newest state of each record and target.
fn marks(changes: Vec<OutboundChange>) -> Vec<OutboundMark> {
    let mut newest = HashMap::new();
    for change in changes {
        let mark = OutboundMark {
            organization_id: change.organization_id,
            connection_id: change.source_connection_id,
            entity_type: change.entity_type,
            source_id: change.source_id,
            target: change.target,
            state: outbound_state(change.state),
        };
        let key = (
            mark.connection_id,
            mark.entity_type.clone(),
            mark.source_id.clone(),
            mark.target.clone(),
        );
        newest.insert(key, mark);
    }
    newest.into_values().collect()
}

fn outbound_state(state: TaskState) -> OutboundState {
    match state {
        TaskState::Completed => OutboundState::Synced,
        TaskState::Dead | TaskState::Cancelled | TaskState::Unknown => OutboundState::Failed,
        TaskState::Pending | TaskState::Staged | TaskState::Running | TaskState::Waiting => {
            OutboundState::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::{ConnectionId, OrganizationId};

    use super::*;

    #[test]
    fn the_saved_position_lags_and_the_reader_goes_over_the_tail_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reader = Reader::new(10, start);
        reader.advance(20, at(5));
        assert_eq!((reader.cursor, reader.settled()), (20, 10));
        reader.look_back(at(6));
        assert_eq!(reader.cursor, 20, "not yet time to look back");
        reader.look_back(at(31));
        assert_eq!(reader.cursor, 10);
        reader.advance(30, at(66));
        assert_eq!(reader.settled(), 20, "what is a minute old is settled");
    }

    #[test]
    fn the_newest_state_of_each_record_and_target_is_marked() {
        let change = |cursor, target: &str, state| OutboundChange {
            cursor,
            organization_id: OrganizationId(1),
            source_connection_id: ConnectionId(1),
            entity_type: "Location".into(),
            source_id: "a".into(),
            target: target.into(),
            state,
        };
        let mut marks = marks(vec![
            change(1, "one", TaskState::Pending),
            change(2, "two", TaskState::Dead),
            change(3, "one", TaskState::Completed),
        ]);
        marks.sort_by(|a, b| a.target.cmp(&b.target));
        let states: Vec<_> = marks.iter().map(|m| (m.target.as_str(), m.state)).collect();
        assert_eq!(
            states,
            [
                ("one", OutboundState::Synced),
                ("two", OutboundState::Failed)
            ]
        );
    }
}
