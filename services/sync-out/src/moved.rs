//! References of dead letters that somebody moved to a work queue in the broker's own screens, which
//! asks for a replay (promise O6).
//!
//! Such a reference names one death of its task, so one that is moved late, or comes twice, revives
//! nothing that died again since. A worker's own references never have that name.

use std::time::Duration;

use sluice_core::{ConnectionId, message::DeadLetterRef};
use sluice_runtime::{
    Shutdown,
    pace::{Again, Pace},
};
use sluice_store::TaskStore;

/// Shown as the actor: the broker does not tell who it was.
const ACTOR: &str = "broker";

/// Replays what was moved, waiting while SQL is away. `false` when shutdown has begun: the messages
/// are to be given back.
pub(crate) async fn replay(
    tasks: &dyn TaskStore,
    connection: ConnectionId,
    moved: &[DeadLetterRef],
    shutdown: &Shutdown,
) -> bool {
    let mut pace = Pace::new("replaying moved dead letters", shutdown, Duration::ZERO);
    loop {
        match tasks.replay_moved(connection, moved, ACTOR).await {
            Ok(replayed) => {
                tracing::info!(
                    connection.id = connection.0,
                    letters.moved = moved.len(),
                    letters.replayed = replayed,
                    "dead letters were moved to a work queue"
                );
                return true;
            }
            Err(error) => {
                if !pace.next(Err::<Again, _>(error)).await {
                    return false;
                }
            }
        }
    }
}
