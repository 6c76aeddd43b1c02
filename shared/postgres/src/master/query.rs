//! Looking at records.

use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, MasterId, OrganizationId, Result, RunId, Timestamp, change::Change,
    task::TaskState,
};
use sluice_store::master::{
    Link, MasterQuery, MasterRecord, PushStatus, RecordHistory, SyncStatus, Version,
};
use sqlx::PgConnection;

use crate::{
    convert::{count, from_json, hash, hash_option, unreadable, word},
    error::{Failure, failed, transaction},
    pool::Pool,
    task::attempts,
};

struct Row {
    id: i64,
    organization_id: i64,
    entity_type: String,
    entity_id: String,
    source_connection_id: i64,
    source_system: String,
    source_id: String,
    version: i32,
    data_hash: String,
    data: Value,
    parents: Value,
    deleted: bool,
    sync_status: String,
    error_message: Option<String>,
    created_date: Timestamp,
    modified_date: Timestamp,
}

impl Row {
    fn into_record(self) -> Result<MasterRecord> {
        Ok(MasterRecord {
            id: MasterId(self.id),
            organization_id: OrganizationId(self.organization_id),
            entity_type: self.entity_type.into(),
            entity_id: self.entity_id,
            source_connection_id: ConnectionId(self.source_connection_id),
            source_system: self.source_system,
            source_id: self.source_id,
            version: self.version,
            data_hash: hash(&self.data_hash)?,
            data: self.data,
            parents: from_json(self.parents)?,
            deleted: self.deleted,
            sync_status: match &*self.sync_status {
                "pending" => SyncStatus::Pending,
                "synced" => SyncStatus::Synced,
                "failed" => SyncStatus::Failed,
                "retry" => SyncStatus::Retry,
                _ => return Err(unreadable("status")),
            },
            error_message: self.error_message,
            created_at: self.created_date,
            modified_at: self.modified_date,
        })
    }
}

pub(crate) async fn records(pool: &Pool, query: &MasterQuery) -> Result<Vec<MasterRecord>> {
    let limit = query.limit.clamp(1, 1_000) as i64;
    let rows = sqlx::query_as!(
        Row,
        r#"select m.id, m.organization_id, m.entity_type, m.entity_id, m.source_connection_id,
            m.source_system, m.source_id, m.current_version as version, m.data_hash,
            v.data_snapshot as "data: Value", m.parents as "parents: Value", m.deleted,
            m.sync_status, m.error_message, m.created_date, m.modified_date
        from sync_master_data m
        join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version
        where ($1::bigint is null or m.organization_id = $1)
            and ($2::bigint is null or m.source_connection_id = $2)
            and ($3::text is null or m.entity_type = $3)
            and ($4::text is null or m.source_id = $4)
            and m.id > $5
        order by m.id limit $6"#,
        query.organization_id.map(|id| id.0),
        query.source_connection_id.map(|id| id.0),
        query.entity_type.as_ref().map(EntityType::as_str),
        query.source_id,
        query.after.map_or(0, |id| id.0),
        limit,
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter().map(Row::into_record).collect()
}

pub(crate) async fn history(
    pool: &Pool,
    organization: OrganizationId,
    entity_type: &EntityType,
    entity_id: &str,
) -> Result<Option<RecordHistory>> {
    transaction!(pool, connection =>
        history_once(connection, organization, entity_type, entity_id).await)
}

async fn history_once(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entity_type: &EntityType,
    entity_id: &str,
) -> Result<Option<RecordHistory>, Failure> {
    // One picture of the record, its versions and its pushes.
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query_as!(
        Row,
        r#"select m.id, m.organization_id, m.entity_type, m.entity_id, m.source_connection_id,
            m.source_system, m.source_id, m.current_version as version, m.data_hash,
            v.data_snapshot as "data: Value", m.parents as "parents: Value", m.deleted,
            m.sync_status, m.error_message, m.created_date, m.modified_date
        from sync_master_data m
        join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version
        where m.organization_id = $1 and m.entity_type = $2 and m.entity_id = $3"#,
        organization.0,
        entity_type.as_str(),
        entity_id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let id = row.id;
    Ok(Some(RecordHistory {
        record: row.into_record()?,
        versions: versions(connection, id).await?,
        links: links(connection, id).await?,
        pushes: pushes(connection, id).await?,
    }))
}

async fn versions(connection: &mut PgConnection, id: i64) -> Result<Vec<Version>, Failure> {
    let rows = sqlx::query!(
        r#"select version_number, change_type, data_snapshot as "data: Value", data_hash, run_id,
            created_date
        from data_versions where master_data_id = $1 order by version_number"#,
        id,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let change = [
                Change::Create,
                Change::Update,
                Change::Delete,
                Change::Restore,
            ]
            .into_iter()
            .find(|change| change.as_str() == row.change_type);
            Ok(Version {
                number: row.version_number,
                change: word(change)?,
                data: row.data,
                hash: hash(&row.data_hash)?,
                run_id: row.run_id.map(RunId),
                created_at: row.created_date,
            })
        })
        .collect()
}

async fn links(connection: &mut PgConnection, id: i64) -> Result<Vec<Link>, Failure> {
    let rows = sqlx::query!(
        "select l.connection_id, c.name, l.external_id, l.last_seen_hash, l.last_seen_date,
            l.base_version, l.pushed_version, l.pushed_hash, l.pushed_date
        from links l join connections c on c.id = l.connection_id
        where l.master_data_id = $1 order by l.connection_id",
        id,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Link {
                connection_id: ConnectionId(row.connection_id),
                connection: row.name,
                external_id: row.external_id,
                last_seen_hash: hash_option(row.last_seen_hash)?,
                last_seen_at: row.last_seen_date,
                base_version: row.base_version,
                pushed_version: row.pushed_version,
                pushed_hash: hash_option(row.pushed_hash)?,
                pushed_at: row.pushed_date,
            })
        })
        .collect()
}

async fn pushes(connection: &mut PgConnection, id: i64) -> Result<Vec<PushStatus>, Failure> {
    let rows = sqlx::query!(
        r#"select q.id, c.name, q.state, q.wanted_version as "wanted_version!", q.retry_count,
            q.next_retry_time, q.blocked_on, q.error_class, q.error_message
        from sync_queue q join connections c on c.id = q.connection_id
        where q.kind = 'push' and q.master_data_id = $1 order by q.connection_id"#,
        id,
    )
    .fetch_all(&mut *connection)
    .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut attempts = attempts::of_tasks(connection, &ids).await?;
    rows.into_iter()
        .map(|row| {
            Ok(PushStatus {
                connection: row.name,
                state: word(TaskState::parse(&row.state))?,
                wanted_version: row.wanted_version,
                retry_count: count(row.retry_count)?,
                next_retry_time: row.next_retry_time,
                blocked_on: row.blocked_on,
                error_class: row.error_class,
                error_message: row.error_message,
                attempts: attempts.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect()
}
