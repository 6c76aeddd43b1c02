//! The audit of what people change, in `sync_activity_log`.

use sluice_core::{OrganizationId, Result};
use sluice_store::dead_letter::Change;
use sqlx::SqliteConnection;

use crate::sql::{
    EmbeddedSql,
    convert::{now, time},
    failed,
};

/// Adds an entry, in the transaction of the change itself.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    organization: i64,
    actor: &str,
    event: &str,
    detail: &str,
) -> Result<()> {
    let now = now();
    sqlx::query!(
        "insert into sync_activity_log (organization_id, actor, event, detail, created_date)
        values (?1, ?2, ?3, ?4, ?5)",
        organization,
        actor,
        event,
        detail,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn read(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<Change>> {
    sqlx::query!(
        r#"select id as "id!: i64", created_date as "at!: i64", actor as "actor!: String",
            event as "event!: String", detail as "detail!: String"
        from sync_activity_log
        where organization_id = ?1 and actor is not null and (?2 is null or id < ?2)
        order by id desc limit ?3"#,
        organization.0,
        after,
        limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Change {
            id: row.id,
            at: time(row.at)?,
            actor: row.actor,
            event: row.event,
            detail: row.detail,
        })
    })
    .collect()
}
