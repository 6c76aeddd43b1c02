//! The audit of what people change, in `sync_activity_log`.

use sluice_core::{OrganizationId, Result};
use sluice_store::dead_letter::Change;
use sqlx::PgConnection;

use crate::{
    error::{Failure, failed},
    pool::Pool,
};

/// Adds an entry, in the transaction of the change itself.
pub(crate) async fn write(
    connection: &mut PgConnection,
    organization: i64,
    actor: &str,
    event: &str,
    detail: &str,
) -> Result<(), Failure> {
    sqlx::query!(
        "insert into sync_activity_log (organization_id, actor, event, detail, created_date)
        values ($1, $2, $3, $4, clock_timestamp())",
        organization,
        actor,
        event,
        detail,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn read(
    pool: &Pool,
    organization: OrganizationId,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<Change>> {
    let rows = sqlx::query!(
        r#"select id, created_date, actor as "actor!", event, detail from sync_activity_log
        where organization_id = $1 and actor is not null and ($2::bigint is null or id < $2)
        order by id desc limit $3"#,
        organization.0,
        after,
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(rows
        .into_iter()
        .map(|row| Change {
            id: row.id,
            at: row.created_date,
            actor: row.actor,
            event: row.event,
            detail: row.detail,
        })
        .collect())
}
