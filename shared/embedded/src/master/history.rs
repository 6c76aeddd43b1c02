//! Reading master records and the life story of one.

use std::collections::BTreeMap;

use sluice_core::{
    ConnectionId, EntityType, MasterId, OrganizationId, Result, RunId, change::Change,
    task::TaskState,
};
use sluice_store::master::{
    Link, MasterQuery, MasterRecord, PushStatus, RecordHistory, SyncStatus, Version,
};
use sqlx::SqliteConnection;

use crate::{
    sql::{
        EmbeddedSql,
        convert::{from_json, hash, hash_option, number, time, time_option, unreadable},
        failed,
    },
    task::attempts,
};

struct MasterRow {
    id: i64,
    organization_id: i64,
    entity_type: String,
    entity_id: String,
    source_connection_id: i64,
    source_system: String,
    source_id: String,
    version: i64,
    data_hash: String,
    data: String,
    parents: String,
    deleted: bool,
    sync_status: String,
    error_message: Option<String>,
    created_date: i64,
    modified_date: i64,
}

impl MasterRow {
    fn into_record(self) -> Result<MasterRecord> {
        Ok(MasterRecord {
            id: MasterId(self.id),
            organization_id: OrganizationId(self.organization_id),
            entity_type: self.entity_type.into(),
            entity_id: self.entity_id,
            source_connection_id: ConnectionId(self.source_connection_id),
            source_system: self.source_system,
            source_id: self.source_id,
            version: number(self.version)?,
            data_hash: hash(&self.data_hash)?,
            data: from_json(&self.data)?,
            parents: from_json(&self.parents)?,
            deleted: self.deleted,
            sync_status: match &*self.sync_status {
                "pending" => SyncStatus::Pending,
                "synced" => SyncStatus::Synced,
                "failed" => SyncStatus::Failed,
                "retry" => SyncStatus::Retry,
                _ => return Err(unreadable("synchronization status")),
            },
            error_message: self.error_message,
            created_at: time(self.created_date)?,
            modified_at: time(self.modified_date)?,
        })
    }
}

pub(super) async fn records(sql: &EmbeddedSql, query: &MasterQuery) -> Result<Vec<MasterRecord>> {
    let organization = query.organization_id.map(|id| id.0);
    let source = query.source_connection_id.map(|id| id.0);
    let entity_type = query.entity_type.as_ref().map(EntityType::as_str);
    let after = query.after.map_or(0, |id| id.0);
    let limit = i64::try_from(query.limit.clamp(1, 1_000)).unwrap_or(1_000);
    sqlx::query_as!(
        MasterRow,
        r#"select m.id as "id!: i64", m.organization_id as "organization_id!: i64",
            m.entity_type as "entity_type!: String", m.entity_id as "entity_id!: String",
            m.source_connection_id as "source_connection_id!: i64",
            m.source_system as "source_system!: String", m.source_id as "source_id!: String",
            m.current_version as "version!: i64", m.data_hash as "data_hash!: String",
            v.data_snapshot as "data!: String", m.parents as "parents!: String",
            m.deleted as "deleted!: bool", m.sync_status as "sync_status!: String",
            m.error_message as "error_message?: String", m.created_date as "created_date!: i64",
            m.modified_date as "modified_date!: i64"
        from sync_master_data m
        join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version
        where (?1 is null or m.organization_id = ?1)
            and (?2 is null or m.source_connection_id = ?2)
            and (?3 is null or m.entity_type = ?3)
            and (?4 is null or m.source_id = ?4)
            and m.id > ?5
        order by m.id limit ?6"#,
        organization,
        source,
        entity_type,
        query.source_id,
        after,
        limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(MasterRow::into_record)
    .collect()
}

/// One read transaction, so that record, versions and pushes fit together.
pub(super) async fn history(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    entity_type: &EntityType,
    entity_id: &str,
) -> Result<Option<RecordHistory>> {
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let entity_type = entity_type.as_str();
    let row = sqlx::query_as!(
        MasterRow,
        r#"select m.id as "id!: i64", m.organization_id as "organization_id!: i64",
            m.entity_type as "entity_type!: String", m.entity_id as "entity_id!: String",
            m.source_connection_id as "source_connection_id!: i64",
            m.source_system as "source_system!: String", m.source_id as "source_id!: String",
            m.current_version as "version!: i64", m.data_hash as "data_hash!: String",
            v.data_snapshot as "data!: String", m.parents as "parents!: String",
            m.deleted as "deleted!: bool", m.sync_status as "sync_status!: String",
            m.error_message as "error_message?: String", m.created_date as "created_date!: i64",
            m.modified_date as "modified_date!: i64"
        from sync_master_data m
        join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version
        where m.organization_id = ?1 and m.entity_type = ?2 and m.entity_id = ?3"#,
        organization.0,
        entity_type,
        entity_id,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    let Some(row) = row else {
        return Ok(None);
    };
    let id = MasterId(row.id);
    Ok(Some(RecordHistory {
        record: row.into_record()?,
        versions: versions(&mut tx, id).await?,
        links: links(&mut tx, id).await?,
        pushes: pushes(&mut tx, id).await?,
    }))
}

async fn versions(connection: &mut SqliteConnection, id: MasterId) -> Result<Vec<Version>> {
    sqlx::query!(
        r#"select version_number as "number!: i64", change_type as "change!: String",
            data_snapshot as "data!: String", data_hash as "hash!: String",
            run_id as "run_id?: i64", created_date as "created!: i64"
        from data_versions where master_data_id = ?1 order by version_number"#,
        id.0,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Version {
            number: number(row.number)?,
            change: match &*row.change {
                "create" => Change::Create,
                "update" => Change::Update,
                "delete" => Change::Delete,
                "restore" => Change::Restore,
                _ => return Err(unreadable("kind of change")),
            },
            data: from_json(&row.data)?,
            hash: hash(&row.hash)?,
            run_id: row.run_id.map(RunId),
            created_at: time(row.created)?,
        })
    })
    .collect()
}

async fn links(connection: &mut SqliteConnection, id: MasterId) -> Result<Vec<Link>> {
    sqlx::query!(
        r#"select l.connection_id as "connection_id!: i64", c.name as "connection!: String",
            l.external_id as "external_id?: String", l.last_seen_hash as "seen_hash?: String",
            l.last_seen_date as "seen_date?: i64", l.base_version as "base_version?: i64",
            l.pushed_version as "pushed_version?: i64", l.pushed_hash as "pushed_hash?: String",
            l.pushed_date as "pushed_date?: i64"
        from links l join connections c on c.id = l.connection_id
        where l.master_data_id = ?1 order by l.connection_id"#,
        id.0,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Link {
            connection_id: ConnectionId(row.connection_id),
            connection: row.connection,
            external_id: row.external_id,
            last_seen_hash: hash_option(row.seen_hash)?,
            last_seen_at: time_option(row.seen_date)?,
            base_version: row.base_version.map(number).transpose()?,
            pushed_version: row.pushed_version.map(number).transpose()?,
            pushed_hash: hash_option(row.pushed_hash)?,
            pushed_at: time_option(row.pushed_date)?,
        })
    })
    .collect()
}

async fn pushes(connection: &mut SqliteConnection, id: MasterId) -> Result<Vec<PushStatus>> {
    let rows = sqlx::query!(
        r#"select q.id as "id!: i64", c.name as "connection!: String", q.state as "state!: String",
            q.wanted_version as "wanted!: i64", q.retry_count as "retries!: i64",
            q.next_retry_time as "next_retry?: i64", q.blocked_on as "blocked_on?: String",
            q.error_class as "error_class?: String", q.error_message as "error_message?: String"
        from sync_queue q join connections c on c.id = q.connection_id
        where q.kind = 'push' and q.master_data_id = ?1 order by q.connection_id"#,
        id.0,
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut attempts: BTreeMap<i64, _> = attempts::of_tasks(connection, &ids).await?;
    rows.into_iter()
        .map(|row| {
            Ok(PushStatus {
                connection: row.connection,
                state: TaskState::parse(&row.state).ok_or_else(|| unreadable("task state"))?,
                wanted_version: number(row.wanted)?,
                retry_count: number(row.retries)?,
                next_retry_time: time_option(row.next_retry)?,
                blocked_on: row.blocked_on,
                error_class: row.error_class,
                error_message: row.error_message,
                attempts: attempts.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect()
}
