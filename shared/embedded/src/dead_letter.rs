//! Dead letters: looking at them. Writing is part of settling; `handle` and `replay` are what
//! people do.

mod count;
mod handle;
pub(crate) mod log;
mod mirror;
mod replay;
mod store;
pub(crate) mod write;

use sluice_core::{ConnectionId, EntityType, ErrorClass, MasterId, OrganizationId, Result, TaskId};
use sluice_store::dead_letter::{
    DeadLetter, DeadLetterDetail, DeadLetterFilter, DeadLetterPage, DeadLetterState, PayloadEdit,
};
use sqlx::SqliteConnection;

use crate::{
    sql::{
        EmbeddedSql,
        convert::{from_json, number, time, to_json, word},
        failed,
    },
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
    master_id: i64,
    entity_type: String,
    entity_id: String,
    version: i64,
    state: String,
    class: String,
    code: String,
    message: String,
    http_status: Option<i64>,
    attempts: i64,
    first_date: i64,
    last_date: i64,
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
            master_id: MasterId(self.master_id),
            entity_type: self.entity_type.into(),
            entity_id: self.entity_id,
            version: number(self.version)?,
            state: word(DeadLetterState::parse(&self.state))?,
            class: word(ErrorClass::parse(&self.class))?,
            code: self.code,
            message: self.message,
            http_status: self.http_status.map(number).transpose()?,
            attempts: number(self.attempts)?,
            first_at: time(self.first_date)?,
            last_at: time(self.last_date)?,
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
    connection: &mut SqliteConnection,
    filter: &DeadLetterFilter,
    limit: u32,
) -> Result<Vec<i64>> {
    let ids = (!filter.ids.is_empty())
        .then(|| to_json(&filter.ids))
        .transpose()?;
    let target = filter.connection_id.map(|id| id.0);
    let entity_type = filter.entity_type.as_ref().map(EntityType::as_str);
    let class = filter.class.map(ErrorClass::as_str);
    let state = filter.state.map(DeadLetterState::as_str);
    let before = filter.before.map(|at| at.timestamp_micros());
    let since = filter.since.map(|at| at.timestamp_micros());
    sqlx::query_scalar!(
        r#"select d.id as "id!: i64" from dead_letters d
        where d.organization_id = ?1 and (?2 is null or d.id in (select value from json_each(?2)))
            and (?3 is null or d.connection_id = ?3) and (?4 is null or d.entity_type = ?4)
            and (?5 is null or d.error_class = ?5) and (?6 is null or d.error_code = ?6)
            and (?7 is null or d.state = ?7) and (?8 is null or d.last_date < ?8)
            and (?9 is null or d.last_date >= ?9) and (?10 is null or d.id < ?10)
            and (?11 is null or d.entity_id = ?11) and (?12 is null or d.fingerprint = ?12)
        order by d.id desc limit ?13"#,
        filter.organization_id.0,
        ids,
        target,
        entity_type,
        class,
        filter.code,
        state,
        before,
        since,
        filter.after,
        filter.entity_id,
        filter.fingerprint,
        limit,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)
}

/// Newest first.
async fn load(connection: &mut SqliteConnection, ids: &[i64]) -> Result<Vec<DeadLetter>> {
    let ids = to_json(ids)?;
    sqlx::query_as!(
        Row,
        r#"select d.id as "id!: i64", d.organization_id as "organization_id!: i64",
            d.connection_id as "connection_id!: i64", d.target as "target!: String",
            d.task_id as "task_id!: i64", d.master_data_id as "master_id!: i64",
            d.entity_type as "entity_type!: String", d.entity_id as "entity_id!: String",
            d.version as "version!: i64", d.state as "state!: String",
            d.error_class as "class!: String", d.error_code as "code!: String",
            d.error_message as "message!: String", d.http_status as "http_status?: i64",
            d.attempts as "attempts!: i64", d.first_date as "first_date!: i64",
            d.last_date as "last_date!: i64", d.actor as "actor?: String",
            d.note as "note?: String", d.fingerprint as "fingerprint!: String",
            d.trace_id as "trace_id?: String"
        from dead_letters d where d.id in (select value from json_each(?1))
        order by d.id desc"#,
        ids,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(Row::into_letter)
    .collect()
}

pub(crate) async fn list(sql: &EmbeddedSql, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let limit = filter.limit.clamp(1, PAGE);
    // One more than asked for tells whether there is a next page.
    let ids = select(&mut tx, filter, limit + 1).await?;
    let mut items = load(&mut tx, &ids).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(|letter| letter.id).filter(|_| more);
    Ok(DeadLetterPage { items, next })
}

pub(crate) async fn detail(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<DeadLetterDetail>> {
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let filter = DeadLetterFilter {
        ids: vec![id],
        ..DeadLetterFilter::all(organization)
    };
    let ids = select(&mut tx, &filter, 1).await?;
    let Some(letter) = load(&mut tx, &ids).await?.pop() else {
        return Ok(None);
    };
    let data = sqlx::query!(
        r#"select data_snapshot as "data!: String" from data_versions
        where master_data_id = ?1 and version_number = ?2"#,
        letter.master_id.0,
        letter.version,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    let mut attempts = attempts::of_tasks(&mut tx, &[letter.task_id.0]).await?;
    Ok(Some(DeadLetterDetail {
        data: from_json(&data.data)?,
        edits: edits(&mut tx, letter.id).await?,
        attempts: attempts.remove(&letter.task_id.0).unwrap_or_default(),
        letter,
    }))
}

/// Newest first.
async fn edits(connection: &mut SqliteConnection, letter: i64) -> Result<Vec<PayloadEdit>> {
    sqlx::query!(
        r#"select id as "id!: i64", version as "version!: i64", data as "data!: String",
            actor as "actor!: String", note as "note!: String", created_date as "at!: i64"
        from payload_edits where dead_letter_id = ?1 order by id desc limit ?2"#,
        letter,
        PAGE,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(PayloadEdit {
            id: row.id,
            version: number(row.version)?,
            data: from_json(&row.data)?,
            actor: row.actor,
            note: row.note,
            at: time(row.at)?,
        })
    })
    .collect()
}
