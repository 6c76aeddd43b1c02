//! Dead letters counted: by cause for people, by target and class for the metrics.

use sluice_core::{ConnectionId, ErrorClass, OrganizationId, Result};
use sluice_store::dead_letter::{
    DeadLetterFilter, DeadLetterGroup, GROUPS, LETTERS_GROUPED, OpenDeadLetters,
};

use super::select;
use crate::sql::{
    EmbeddedSql,
    convert::{number, time, to_json, word},
    failed,
};

pub(super) async fn groups(
    sql: &EmbeddedSql,
    filter: &DeadLetterFilter,
) -> Result<Vec<DeadLetterGroup>> {
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let all = DeadLetterFilter {
        after: None,
        ..filter.clone()
    };
    let ids = to_json(&select(&mut tx, &all, LETTERS_GROUPED).await?)?;
    sqlx::query!(
        r#"with grouped as (
            select d.fingerprint, d.target, d.error_class, d.error_code, count(*) as letters,
                min(d.first_date) as first_date, max(d.last_date) as last_date,
                max(d.id) as newest
            from dead_letters d where d.id in (select value from json_each(?1))
            group by d.fingerprint, d.target, d.error_class, d.error_code
        )
        select g.fingerprint as "fingerprint!: String", g.target as "target!: String",
            g.error_class as "class!: String", g.error_code as "code!: String",
            g.letters as "letters!: i64", g.first_date as "first!: i64",
            g.last_date as "last!: i64", d.error_message as "message!: String"
        from grouped g join dead_letters d on d.id = g.newest
        order by g.letters desc, g.newest desc limit ?2"#,
        ids,
        GROUPS,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(DeadLetterGroup {
            fingerprint: row.fingerprint,
            target: row.target,
            class: word(ErrorClass::parse(&row.class))?,
            code: row.code,
            message: row.message,
            count: number(row.letters)?,
            first_at: time(row.first)?,
            last_at: time(row.last)?,
        })
    })
    .collect()
}

pub(super) async fn open(sql: &EmbeddedSql) -> Result<Vec<OpenDeadLetters>> {
    sqlx::query!(
        r#"select organization_id as "organization_id!: i64",
            connection_id as "connection_id!: i64", error_class as "class!: String",
            count(*) as "letters!: i64"
        from dead_letters where state = 'open'
        group by organization_id, connection_id, error_class"#,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(OpenDeadLetters {
            organization_id: OrganizationId(row.organization_id),
            connection_id: ConnectionId(row.connection_id),
            class: word(ErrorClass::parse(&row.class))?,
            count: number(row.letters)?,
        })
    })
    .collect()
}
