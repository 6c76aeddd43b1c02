//! [`FleetStore`] on SQLite: the processes of one machine.

use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{ConnectionId, Result, traffic::StoreClock};
use sluice_store::{
    FleetStore,
    fleet::{By, Change, Noted},
};
use sqlx::SqliteConnection;

use crate::dead_letter::log;
use crate::sql::{
    EmbeddedSql,
    convert::{from_json, now, to_json},
    failed,
};

/// The machine's own clock, and therefore always the same one.
fn clock() -> StoreClock {
    StoreClock {
        now: now().saturating_mul(1_000),
        server: 0,
    }
}

#[async_trait]
impl FleetStore for EmbeddedSql {
    async fn change(
        &self,
        connection: ConnectionId,
        name: &str,
        change: &mut Change<'_>,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let stored = sqlx::query_scalar!(
            r#"select document as "document!: String" from fleet_state
            where connection_id = ?1 and name = ?2"#,
            connection.0,
            name,
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
        let stored: Option<Value> = stored.as_deref().map(from_json).transpose()?;
        let Some(document) = change(stored, clock())? else {
            return Ok(());
        };
        write(&mut tx, connection, name, &document).await?;
        tx.commit().await.map_err(failed)
    }

    async fn change_by(
        &self,
        connection: ConnectionId,
        name: &str,
        by: By<'_>,
        change: &mut Noted<'_>,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let row = sqlx::query!(
            r#"select c.organization_id as "organization_id!: i64",
                s.document as "document?: String"
            from connections c
            left join fleet_state s on s.connection_id = c.id and s.name = ?2
            where c.id = ?1"#,
            connection.0,
            name,
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        let stored: Option<Value> = row.document.as_deref().map(from_json).transpose()?;
        let (document, detail) = change(stored, clock())?;
        write(&mut tx, connection, name, &document).await?;
        log::write(&mut tx, row.organization_id, by.actor, by.event, &detail).await?;
        tx.commit().await.map_err(failed)
    }

    async fn documents(&self, name: &str) -> Result<(Vec<(ConnectionId, Value)>, StoreClock)> {
        let rows = sqlx::query!(
            r#"select connection_id as "connection_id!: i64", document as "document!: String"
            from fleet_state where name = ?1"#,
            name,
        )
        .fetch_all(self.read())
        .await
        .map_err(failed)?;
        let documents = rows
            .into_iter()
            .map(|row| Ok((ConnectionId(row.connection_id), from_json(&row.document)?)))
            .collect::<Result<_>>()?;
        Ok((documents, clock()))
    }
}

async fn write(
    connection: &mut SqliteConnection,
    id: ConnectionId,
    name: &str,
    document: &Value,
) -> Result<()> {
    let document = to_json(document)?;
    sqlx::query!(
        "insert into fleet_state (connection_id, name, revision, document)
        values (?1, ?2, 1, ?3)
        on conflict (connection_id, name) do update
        set revision = revision + 1, document = excluded.document",
        id.0,
        name,
        document,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
