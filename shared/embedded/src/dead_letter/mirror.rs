//! References of dead letters for the broker's own screens.

use sluice_core::{
    ConnectionId, OrganizationId, Result, TaskId,
    message::{DeadLetterRef, TaskRef},
    task::TaskKind,
};
use sluice_store::dead_letter::{Mirrored, UnmirroredDeadLetter};

use crate::sql::{
    EmbeddedSql,
    convert::{number, priority, time, to_json},
    failed,
};

/// A dead letter that is no longer open needs no reference.
pub(crate) async fn unmirrored(sql: &EmbeddedSql, limit: u32) -> Result<Vec<UnmirroredDeadLetter>> {
    sqlx::query!(
        r#"select d.id as "id!: i64", q.id as "task_id!: i64",
            q.organization_id as "organization_id!: i64", q.connection_id as "connection_id!: i64",
            q.priority as "priority!: i64", q.traceparent as "traceparent?: String",
            d.last_date as "died!: i64"
        from dead_letters d join sync_queue q on q.id = d.task_id
        where d.mirrored = 0 and d.state = 'open' order by d.id limit ?1"#,
        limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
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
                    died_at: time(row.died)?,
                }),
            },
        })
    })
    .collect()
}

pub(crate) async fn mark(sql: &EmbeddedSql, ids: &[i64]) -> Result<()> {
    let ids = to_json(ids)?;
    let mut tx = sql.begin().await?;
    sqlx::query!(
        "update dead_letters set mirrored = 1 where id in (select value from json_each(?1))",
        ids,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)
}

pub(crate) async fn mirrored(sql: &EmbeddedSql) -> Result<Vec<Mirrored>> {
    sqlx::query!(
        r#"select connection_id as "connection_id!: i64", sum(state = 'open') as "open!: i64",
            sum(state <> 'open') as "closed!: i64"
        from dead_letters where mirrored = 1 group by connection_id"#,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Mirrored {
            connection_id: ConnectionId(row.connection_id),
            open: number(row.open)?,
            closed: number(row.closed)?,
        })
    })
    .collect()
}

pub(crate) async fn forget(sql: &EmbeddedSql, connection: ConnectionId) -> Result<()> {
    let mut tx = sql.begin().await?;
    sqlx::query!(
        "update dead_letters set mirrored = 0 where mirrored = 1 and connection_id = ?1",
        connection.0,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)
}
