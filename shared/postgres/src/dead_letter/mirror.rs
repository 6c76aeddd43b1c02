//! References of dead letters for the broker's own screens.

use sluice_core::{
    ConnectionId, OrganizationId, Result, TaskId,
    message::{DeadLetterRef, TaskRef},
    task::TaskKind,
};
use sluice_store::dead_letter::{Mirrored, UnmirroredDeadLetter};

use crate::{
    convert::{count, priority},
    error::failed,
    pool::Pool,
};

/// A dead letter that is no longer open needs no reference.
pub(crate) async fn unmirrored(pool: &Pool, limit: u32) -> Result<Vec<UnmirroredDeadLetter>> {
    let rows = sqlx::query!(
        "select d.id, q.id as task_id, q.organization_id, q.connection_id, q.priority,
            q.traceparent, d.last_date
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
                    dead_letter: Some(DeadLetterRef {
                        id: row.id,
                        died_at: row.last_date,
                    }),
                },
            })
        })
        .collect()
}

pub(crate) async fn mark(pool: &Pool, ids: &[i64]) -> Result<()> {
    sqlx::query!(
        "update dead_letters set mirrored = true where id = any($1::bigint[])",
        ids,
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(crate) async fn mirrored(pool: &Pool) -> Result<Vec<Mirrored>> {
    let rows = sqlx::query!(
        r#"select connection_id, count(*) filter (where state = 'open') as "open!",
            count(*) filter (where state <> 'open') as "closed!"
        from dead_letters where mirrored group by connection_id"#,
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(Mirrored {
                connection_id: ConnectionId(row.connection_id),
                open: count(row.open)?,
                closed: count(row.closed)?,
            })
        })
        .collect()
}

pub(crate) async fn forget(pool: &Pool, connection: ConnectionId) -> Result<()> {
    sqlx::query!(
        "update dead_letters set mirrored = false where mirrored and connection_id = $1",
        connection.0,
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(())
}
