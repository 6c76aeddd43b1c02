//! References of dead letters for the broker's own screens.

use sluice_core::{ConnectionId, OrganizationId, Result, TaskId, message::TaskRef, task::TaskKind};
use sluice_store::dead_letter::UnmirroredDeadLetter;
use sqlx::PgPool;

use crate::{convert::priority, error::failed};

/// A dead letter that is no longer open needs no reference.
pub(crate) async fn unmirrored(pool: &PgPool, limit: u32) -> Result<Vec<UnmirroredDeadLetter>> {
    let rows = sqlx::query!(
        "select d.id, q.id as task_id, q.organization_id, q.connection_id, q.priority,
            q.traceparent
        from dead_letters d join sync_queue q on q.id = d.task_id
        where not d.mirrored and d.state = 'open' order by d.id limit $1",
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(UnmirroredDeadLetter {
                id: row.id,
                reference: TaskRef {
                    task_id: TaskId(row.task_id),
                    kind: TaskKind::Push,
                    organization_id: OrganizationId(row.organization_id),
                    connection_id: ConnectionId(row.connection_id),
                    priority: priority(row.priority)?,
                    traceparent: row.traceparent,
                },
            })
        })
        .collect()
}

pub(crate) async fn mark(pool: &PgPool, ids: &[i64]) -> Result<()> {
    sqlx::query!(
        "update dead_letters set mirrored = true where id = any($1::bigint[])",
        ids,
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(())
}
