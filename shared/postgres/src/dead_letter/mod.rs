//! Dead letters: looking at them. Writing is part of settling; `handle` and `replay` are what
//! people do.

mod count;
mod handle;
pub(crate) mod log;
mod mirror;
mod replay;
mod store;
pub(crate) mod write;

use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, ErrorClass, MasterId, OrganizationId, Result, TaskId, Timestamp,
};
use sluice_store::dead_letter::{
    DeadLetter, DeadLetterDetail, DeadLetterFilter, DeadLetterPage, DeadLetterState, PayloadEdit,
};
use sqlx::PgConnection;

use crate::{
    convert::{class, count, word},
    error::{Failure, transaction},
    pool::Pool,
    task::attempts,
};

/// Dead letters read at once at most.
const PAGE: u32 = 1_000;

struct Row {
    id: i64,
    organization_id: i64,
    connection_id: i64,
    target: String,
    task_id: i64,
    master_data_id: i64,
    entity_type: String,
    entity_id: String,
    version: i32,
    state: String,
    error_class: String,
    error_code: String,
    error_message: String,
    http_status: Option<i32>,
    attempts: i32,
    first_date: Timestamp,
    last_date: Timestamp,
    actor: Option<String>,
    note: Option<String>,
    fingerprint: String,
    trace_id: Option<String>,
}

impl Row {
    fn into_letter(self) -> Result<DeadLetter> {
        Ok(DeadLetter {
            id: self.id,
            organization_id: OrganizationId(self.organization_id),
            connection_id: ConnectionId(self.connection_id),
            target: self.target,
            task_id: TaskId(self.task_id),
            master_id: MasterId(self.master_data_id),
            entity_type: self.entity_type.into(),
            entity_id: self.entity_id,
            version: self.version,
            state: word(DeadLetterState::parse(&self.state))?,
            class: class(&self.error_class)?,
            code: self.error_code,
            message: self.error_message,
            http_status: self.http_status.map(count).transpose()?,
            attempts: count(self.attempts)?,
            first_at: self.first_date,
            last_at: self.last_date,
            fingerprint: self.fingerprint,
            actor: self.actor,
            note: self.note,
            trace_id: self.trace_id,
        })
    }
}

/// The one place that knows what a filter means: ids of what matches, newest first, below
/// `filter.after`, at most `limit`.
async fn select(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
    limit: u32,
) -> Result<Vec<i64>, Failure> {
    Ok(sqlx::query_scalar!(
        "select d.id from dead_letters d
        where d.organization_id = $1
            and (cardinality($2::bigint[]) = 0 or d.id = any($2::bigint[]))
            and ($3::bigint is null or d.connection_id = $3)
            and ($4::text is null or d.entity_type = $4)
            and ($5::text is null or d.error_class = $5)
            and ($6::text is null or d.error_code = $6)
            and ($7::text is null or d.state = $7)
            and ($8::timestamptz is null or d.last_date < $8)
            and ($9::timestamptz is null or d.last_date >= $9)
            and ($10::bigint is null or d.id < $10)
            and ($11::text is null or d.entity_id = $11)
            and ($12::text is null or d.fingerprint = $12)
        order by d.id desc limit $13",
        filter.organization_id.0,
        &filter.ids,
        filter.connection_id.map(|id| id.0),
        filter.entity_type.as_ref().map(EntityType::as_str),
        filter.class.map(ErrorClass::as_str),
        filter.code,
        filter.state.map(DeadLetterState::as_str),
        filter.before,
        filter.since,
        filter.after,
        filter.entity_id,
        filter.fingerprint,
        i64::from(limit),
    )
    .fetch_all(connection)
    .await?)
}

/// Newest first.
async fn load(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<DeadLetter>, Failure> {
    let rows = sqlx::query_as!(
        Row,
        "select id, organization_id, connection_id, target, task_id, master_data_id, entity_type,
            entity_id, version, state, error_class, error_code, error_message, http_status,
            attempts, first_date, last_date, actor, note, fingerprint, trace_id
        from dead_letters where id = any($1::bigint[]) order by id desc",
        ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(Row::into_letter)
        .collect::<Result<_>>()?)
}

pub(crate) async fn list(pool: &Pool, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
    let limit = filter.limit.clamp(1, PAGE);
    let mut items = transaction!(pool, connection => {
        // One more than asked for tells whether there is a next page.
        let ids = select(&mut *connection, filter, limit + 1).await?;
        load(connection, &ids).await
    })?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(|letter| letter.id).filter(|_| more);
    Ok(DeadLetterPage { items, next })
}

pub(crate) async fn detail(
    pool: &Pool,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<DeadLetterDetail>> {
    transaction!(pool, connection => detail_once(connection, organization, id).await)
}

async fn detail_once(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<DeadLetterDetail>, Failure> {
    let filter = DeadLetterFilter {
        ids: vec![id],
        ..DeadLetterFilter::all(organization)
    };
    let ids = select(&mut *connection, &filter, 1).await?;
    let Some(letter) = load(&mut *connection, &ids).await?.pop() else {
        return Ok(None);
    };
    let data = sqlx::query_scalar!(
        r#"select data_snapshot as "data: Value" from data_versions
        where master_data_id = $1 and version_number = $2"#,
        letter.master_id.0,
        letter.version,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let task = letter.task_id.0;
    let mut attempts = attempts::of_tasks(&mut *connection, &[task]).await?;
    Ok(Some(DeadLetterDetail {
        edits: edits(connection, letter.id).await?,
        letter,
        data: data.unwrap_or_default(),
        attempts: attempts.remove(&task).unwrap_or_default(),
    }))
}

/// Newest first.
async fn edits(connection: &mut PgConnection, letter: i64) -> Result<Vec<PayloadEdit>, Failure> {
    let rows = sqlx::query!(
        r#"select id, version, data as "data: Value", actor, note, created_date
        from payload_edits where dead_letter_id = $1 order by id desc limit $2"#,
        letter,
        i64::from(PAGE),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| PayloadEdit {
            id: row.id,
            version: row.version,
            data: row.data,
            actor: row.actor,
            note: row.note,
            at: row.created_date,
        })
        .collect())
}
