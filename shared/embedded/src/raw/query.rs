//! Pages of raw records.

use sluice_core::{ConnectionId, EntityType, Error, Hash, OrganizationId, Result};
use sluice_store::{
    raw::{PayloadId, RawRecord, RawRecordPage, RawRecordQuery},
    raw_codec,
};
use sqlx::{QueryBuilder, Row, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{damaged, failed, from_json, from_word, time};

pub(super) async fn page(pool: &SqlitePool, query: &RawRecordQuery) -> Result<RawRecordPage> {
    query.check()?;
    let limit = query.limit.clamp(1, 1000);
    let rows = build(query, limit)?
        .build()
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    let mut next = None;
    if rows.len() > limit
        && let Some(last) = rows.get(limit - 1)
    {
        next = Some(last.try_get::<i64, _>("id").map_err(failed)?.to_string());
    }
    let records = rows.into_iter().take(limit).map(read);
    Ok(RawRecordPage {
        records: records.collect::<Result<_>>()?,
        next,
    })
}

/// One row more than asked for shows whether there is a next page. Filters that are not set are
/// left out of the text: with `? IS NULL OR ..` SQLite would use no index.
fn build(query: &RawRecordQuery, limit: usize) -> Result<QueryBuilder<Sqlite>> {
    let after = match &query.after {
        Some(cursor) => cursor.parse::<i64>().map_err(|_| {
            Error::validation("cursor_invalid", "the cursor is not one of this store")
        })?,
        None => 0,
    };
    // The few copies of named records are found by their names. Left to itself, SQLite would look at
    // all records of the organization instead, to have them in order; `+` keeps it from that.
    let by_name = query.organization_id.is_some()
        && query.connection_id.is_some()
        && query.entity_type.is_some()
        && !query.source_ids.is_empty();
    let id = if by_name { "+r.id" } else { "r.id" };
    let mut sql = QueryBuilder::new("SELECT r.* FROM raw_record AS r WHERE ");
    sql.push(id).push(" > ").push_bind(after);
    if let Some(organization) = query.organization_id {
        sql.push(" AND r.organization_id = ")
            .push_bind(organization.0);
    }
    if let Some(connection) = query.connection_id {
        sql.push(" AND r.connection_id = ").push_bind(connection.0);
    }
    if let Some(stream) = &query.stream {
        sql.push(" AND r.stream = ").push_bind(stream.clone());
    }
    if let Some(entity_type) = &query.entity_type {
        sql.push(" AND r.entity_type = ")
            .push_bind(entity_type.as_str().to_owned());
    }
    if !query.source_ids.is_empty() {
        sql.push(" AND r.source_id IN (");
        let mut ids = sql.separated(", ");
        for source_id in &query.source_ids {
            ids.push_bind(source_id.clone());
        }
        sql.push(")");
    }
    if let Some(inbound) = query.inbound {
        sql.push(" AND r.inbound = ").push_bind(inbound.as_str());
    }
    if query.newest_only {
        sql.push(
            " AND NOT EXISTS (SELECT 1 FROM raw_record AS n
                WHERE n.organization_id = r.organization_id
                  AND n.connection_id = r.connection_id AND n.entity_type = r.entity_type
                  AND n.source_id = r.source_id
                  AND (n.seen_order, n.id) > (r.seen_order, r.id))",
        );
    }
    sql.push(" ORDER BY ")
        .push(id)
        .push(" LIMIT ")
        .push_bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
    Ok(sql)
}

fn read(row: SqliteRow) -> Result<RawRecord> {
    let text = |name: &str| row.try_get::<String, _>(name).map_err(failed);
    let optional = |name: &str| row.try_get::<Option<String>, _>(name).map_err(failed);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
    let optional_number = |name: &str| row.try_get::<Option<i64>, _>(name).map_err(failed);
    let processed = optional("processed")?;
    Ok(RawRecord {
        organization_id: OrganizationId(number("organization_id")?),
        connection_id: ConnectionId(number("connection_id")?),
        source_system: text("source_system")?,
        stream: text("stream")?,
        entity_type: EntityType::new(text("entity_type")?),
        source_id: text("source_id")?,
        hash: Hash::from_hex(&text("hash")?).ok_or_else(|| damaged("hash"))?,
        raw: raw_codec::from_text(&text("raw")?)?,
        slice: raw_codec::from_text(&text("slice")?)?,
        processed: processed.as_deref().map(raw_codec::from_text).transpose()?,
        payload_id: PayloadId(text("payload_id")?),
        batch_number: number("batch_number")?,
        sync_date: time(number("sync_date")?)?,
        version: i32::try_from(number("version")?).map_err(|_| damaged("version"))?,
        inbound: from_word(&text("inbound")?, "state")?,
        outbound: from_json(&text("outbound")?, "outbound state")?,
        errors: from_json(&text("errors")?, "error log")?,
        expires_at: optional_number("expires_at")?.map(time).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn named_records_are_found_by_name() {
        let (store, _folder) = super::super::tests::open().await;
        for (count, newest_only) in [(1, false), (1, true), (500, true)] {
            let query = RawRecordQuery {
                organization_id: Some(OrganizationId(1)),
                connection_id: Some(ConnectionId(7)),
                entity_type: Some(EntityType::new("Location")),
                source_ids: (0..count).map(|id| format!("u{id}")).collect(),
                newest_only,
                limit: count,
                ..RawRecordQuery::default()
            };
            let mut sql = QueryBuilder::new("EXPLAIN QUERY PLAN ");
            sql.push(build(&query, count).unwrap().sql().as_str());
            let plan = sql.build().fetch_all(&store.read).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            assert!(
                plan[0].contains("raw_record_newest") && plan[0].contains("source_id=?"),
                "{plan:?}"
            );
        }
    }
}
