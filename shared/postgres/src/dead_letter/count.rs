//! Dead letters counted: by cause for people, by target and class for the metrics.

use sluice_core::{ConnectionId, OrganizationId, Result};
use sluice_store::dead_letter::{
    DeadLetterFilter, DeadLetterGroup, GROUPS, LETTERS_GROUPED, OpenDeadLetters,
};

use super::select;
use crate::{
    convert::{class, count},
    error::{failed, transaction},
    pool::Pool,
};

pub(super) async fn groups(pool: &Pool, filter: &DeadLetterFilter) -> Result<Vec<DeadLetterGroup>> {
    let all = DeadLetterFilter {
        after: None,
        ..filter.clone()
    };
    let ids = transaction!(pool, connection => select(connection, &all, LETTERS_GROUPED).await)?;
    let rows = sqlx::query!(
        r#"with grouped as (
            select d.fingerprint, d.target, d.error_class, d.error_code, count(*) as letters,
                min(d.first_date) as first_date, max(d.last_date) as last_date,
                max(d.id) as newest
            from dead_letters d where d.id = any($1::bigint[])
            group by d.fingerprint, d.target, d.error_class, d.error_code
        )
        select g.fingerprint as "fingerprint!", g.target as "target!",
            g.error_class as "class!", g.error_code as "code!", g.letters as "letters!",
            g.first_date as "first!", g.last_date as "last!", d.error_message
        from grouped g join dead_letters d on d.id = g.newest
        order by g.letters desc, g.newest desc limit $2"#,
        &ids,
        i64::from(GROUPS),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(DeadLetterGroup {
                fingerprint: row.fingerprint,
                target: row.target,
                class: class(&row.class)?,
                code: row.code,
                message: row.error_message,
                count: count(row.letters)?,
                first_at: row.first,
                last_at: row.last,
            })
        })
        .collect()
}

pub(super) async fn open(pool: &Pool) -> Result<Vec<OpenDeadLetters>> {
    let rows = sqlx::query!(
        r#"select organization_id, connection_id, error_class, count(*) as "letters!"
        from dead_letters where state = 'open'
        group by organization_id, connection_id, error_class"#,
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(OpenDeadLetters {
                organization_id: OrganizationId(row.organization_id),
                connection_id: ConnectionId(row.connection_id),
                class: class(&row.error_class)?,
                count: count(row.letters)?,
            })
        })
        .collect()
}
