//! Organizations, connections and flows as configured.

use serde_json::{Value, json};
use sluice_core::{
    ConnectionId, Error, OrganizationId, Result,
    catalogue::{Catalogue, CatalogueSpec, Connection, Flow, OrganizationSpec},
};
use sqlx::SqliteConnection;

use crate::sql::{
    EmbeddedSql,
    convert::{from_json, now, to_json},
    failed,
};

/// Upserts everything and disables what is not named.
pub(super) async fn register(sql: &EmbeddedSql, spec: &CatalogueSpec) -> Result<Catalogue> {
    check(spec)?;
    let mut tx = sql.begin().await?;
    write_organizations(&mut tx, spec).await?;
    write_connections(&mut tx, spec).await?;
    write_flows(&mut tx, spec).await?;
    let catalogue = load(&mut tx).await?;
    tx.commit().await.map_err(failed)?;
    Ok(catalogue)
}

pub(super) async fn catalogue(sql: &EmbeddedSql) -> Result<Catalogue> {
    let mut connection = sql.read().acquire().await.map_err(failed)?;
    load(&mut connection).await
}

/// Names must lead somewhere within their own organization (promise C4).
fn check(spec: &CatalogueSpec) -> Result<()> {
    for connection in &spec.connections {
        if !spec
            .organizations
            .iter()
            .any(|organization| organization.slug == connection.organization)
        {
            return Err(Error::config(
                "organization_unknown",
                "a connection names an organization that is not configured",
            )
            .organization(&connection.organization)
            .connection(&connection.name));
        }
    }
    for flow in &spec.flows {
        let names = std::iter::once(&flow.source)
            .chain(flow.targets.iter().map(|target| &target.connection));
        for name in names {
            if !spec.connections.iter().any(|connection| {
                connection.organization == flow.organization && connection.name == *name
            }) {
                return Err(Error::config(
                    "connection_unknown",
                    format!(
                        "flow {} names a connection that is not configured",
                        flow.name
                    ),
                )
                .organization(&flow.organization)
                .connection(name));
            }
        }
    }
    Ok(())
}

async fn write_organizations(
    connection: &mut SqliteConnection,
    spec: &CatalogueSpec,
) -> Result<()> {
    let (rows, now) = (to_json(&spec.organizations)?, now());
    sqlx::query!(
        "insert into organizations (slug, name, created_date)
        select j.value ->> 'slug', j.value ->> 'name', ?2 from json_each(?1) j where true
        on conflict (slug) do update set name = excluded.name",
        rows,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn write_connections(connection: &mut SqliteConnection, spec: &CatalogueSpec) -> Result<()> {
    let rows = spec
        .connections
        .iter()
        .map(|one| {
            Ok(json!([
                one.organization,
                one.name,
                one.connector,
                to_json(one)?
            ]))
        })
        .collect::<Result<Vec<Value>>>()?;
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!("update connections set enabled = 0")
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query!(
        "insert into connections (organization_id, name, system, spec, enabled, created_date,
            modified_date)
        select o.id, j.value ->> 1, j.value ->> 2, j.value ->> 3, 1, ?2, ?2
        from json_each(?1) j cross join organizations o on o.slug = j.value ->> 0 where true
        on conflict (organization_id, name) do update set system = excluded.system,
            spec = excluded.spec, enabled = 1, modified_date = excluded.modified_date",
        rows,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn write_flows(connection: &mut SqliteConnection, spec: &CatalogueSpec) -> Result<()> {
    let rows = spec
        .flows
        .iter()
        .map(|one| {
            Ok(json!([
                one.organization,
                one.name,
                one.source,
                to_json(one)?
            ]))
        })
        .collect::<Result<Vec<Value>>>()?;
    let rows = to_json(&rows)?;
    sqlx::query!("update flows set enabled = 0")
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query!(
        "insert into flows (organization_id, name, source_connection_id, spec, enabled)
        select o.id, j.value ->> 1, c.id, j.value ->> 3, 1
        from json_each(?1) j cross join organizations o on o.slug = j.value ->> 0
        cross join connections c on c.organization_id = o.id and c.name = j.value ->> 2 where true
        on conflict (organization_id, name) do update set
            source_connection_id = excluded.source_connection_id, spec = excluded.spec,
            enabled = 1",
        rows,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn load(connection: &mut SqliteConnection) -> Result<Catalogue> {
    let organizations = sqlx::query!(
        r#"select id as "id!: i64", slug as "slug!: String", name as "name!: String"
        from organizations order by id"#
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        let spec = OrganizationSpec {
            slug: row.slug,
            name: row.name,
        };
        (OrganizationId(row.id), spec)
    })
    .collect();
    let connections = sqlx::query!(
        r#"select id as "id!: i64", organization_id as "organization_id!: i64",
            spec as "spec!: String"
        from connections where enabled = 1 order by id"#
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Connection {
            id: ConnectionId(row.id),
            organization_id: OrganizationId(row.organization_id),
            spec: from_json(&row.spec)?,
        })
    })
    .collect::<Result<_>>()?;
    let flows = sqlx::query!(
        r#"select organization_id as "organization_id!: i64",
            source_connection_id as "source!: i64", spec as "spec!: String"
        from flows where enabled = 1 order by id"#
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Flow {
            organization_id: OrganizationId(row.organization_id),
            source: ConnectionId(row.source),
            spec: from_json(&row.spec)?,
        })
    })
    .collect::<Result<_>>()?;
    Ok(Catalogue {
        organizations,
        connections,
        flows,
    })
}
