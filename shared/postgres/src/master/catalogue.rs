//! Organizations, connections and flows as configured.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::{
    ConnectionId, Error, OrganizationId, Result,
    catalogue::{Catalogue, CatalogueSpec, Connection, Flow, OrganizationSpec},
};
use sqlx::PgConnection;

use crate::{
    convert::{from_json, to_json},
    error::{Failure, failed, transaction},
    pool::Pool,
};

pub(crate) async fn register(pool: &Pool, spec: &CatalogueSpec) -> Result<Catalogue> {
    transaction!(pool, connection => register_once(connection, spec).await)?;
    load(pool).await
}

/// Replicas that start at once register one after the other; what they agree on is written once.
async fn register_once(connection: &mut PgConnection, spec: &CatalogueSpec) -> Result<(), Failure> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('sluice.catalogue'))")
        .execute(&mut *connection)
        .await?;
    let organizations = organizations(connection, &spec.organizations).await?;
    let organization = |slug: &str| {
        organizations.get(slug).copied().ok_or_else(|| {
            Error::config(
                "organization_unknown",
                format!(
                    "a connection or flow names the organization {slug}, which is not configured"
                ),
            )
        })
    };
    let connections = connections(connection, spec, organization).await?;
    flows(connection, spec, organization, &connections).await
}

async fn organizations(
    connection: &mut PgConnection,
    specs: &[OrganizationSpec],
) -> Result<BTreeMap<String, i64>, Failure> {
    let slugs: Vec<String> = specs.iter().map(|spec| spec.slug.clone()).collect();
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    sqlx::query!(
        "insert into organizations as o (slug, name)
        select * from unnest($1::text[], $2::text[])
        on conflict (slug) do update set name = excluded.name where o.name <> excluded.name",
        &slugs,
        &names,
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query!(
        "select id, slug from organizations where slug = any($1::text[])",
        &slugs
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.slug, row.id)).collect())
}

async fn connections(
    connection: &mut PgConnection,
    spec: &CatalogueSpec,
    organization: impl Fn(&str) -> Result<i64>,
) -> Result<BTreeMap<(i64, String), i64>, Failure> {
    let (mut organizations, mut names, mut systems, mut specs) = (vec![], vec![], vec![], vec![]);
    for one in &spec.connections {
        organizations.push(organization(&one.organization)?);
        names.push(one.name.clone());
        systems.push(one.connector.clone());
        specs.push(to_json(one)?);
    }
    sqlx::query!(
        "insert into connections as c (organization_id, name, system, spec)
        select organization_id, name, system, spec::json
        from unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
            k (organization_id, name, system, spec)
        on conflict (organization_id, name) do update
        set system = excluded.system, spec = excluded.spec, enabled = true,
            modified_date = clock_timestamp()
        where c.system <> excluded.system or c.spec::text <> excluded.spec::text or not c.enabled",
        &organizations,
        &names,
        &systems,
        &specs,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update connections c set enabled = false, modified_date = clock_timestamp()
        where enabled and not exists (
            select from unnest($1::bigint[], $2::text[]) k (organization_id, name)
            where k.organization_id = c.organization_id and k.name = c.name
        )",
        &organizations,
        &names,
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query!("select id, organization_id, name from connections where enabled")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.organization_id, row.name), row.id))
        .collect())
}

async fn flows(
    connection: &mut PgConnection,
    spec: &CatalogueSpec,
    organization: impl Fn(&str) -> Result<i64>,
    connections: &BTreeMap<(i64, String), i64>,
) -> Result<(), Failure> {
    let (mut organizations, mut names, mut sources, mut specs) = (vec![], vec![], vec![], vec![]);
    for one in &spec.flows {
        let id = organization(&one.organization)?;
        let find = |name: &str| {
            connections
                .get(&(id, name.to_owned()))
                .copied()
                .ok_or_else(|| {
                    Error::config(
                        "connection_unknown",
                        format!(
                            "flow {} names a connection that is not configured",
                            one.name
                        ),
                    )
                    .organization(&one.organization)
                    .connection(name)
                })
        };
        // Names lead somewhere within their own organization (promise C4).
        for target in &one.targets {
            find(&target.connection)?;
        }
        let source = find(&one.source)?;
        organizations.push(id);
        names.push(one.name.clone());
        sources.push(source);
        specs.push(to_json(one)?);
    }
    sqlx::query!(
        "insert into flows as f (organization_id, name, source_connection_id, spec)
        select organization_id, name, source, spec::json
        from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[])
            k (organization_id, name, source, spec)
        on conflict (organization_id, name) do update
        set source_connection_id = excluded.source_connection_id, spec = excluded.spec,
            enabled = true
        where f.source_connection_id <> excluded.source_connection_id
            or f.spec::text <> excluded.spec::text or not f.enabled",
        &organizations,
        &names,
        &sources,
        &specs,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update flows f set enabled = false
        where enabled and not exists (
            select from unnest($1::bigint[], $2::text[]) k (organization_id, name)
            where k.organization_id = f.organization_id and k.name = f.name
        )",
        &organizations,
        &names,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn load(pool: &Pool) -> Result<Catalogue> {
    let organizations = sqlx::query!("select id, slug, name from organizations order by id")
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    let connections = sqlx::query!(
        r#"select id, organization_id, spec as "spec: Value"
        from connections where enabled order by id"#
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let flows = sqlx::query!(
        r#"select f.organization_id, f.source_connection_id, f.spec as "spec: Value"
        from flows f join connections c on c.id = f.source_connection_id and c.enabled
        where f.enabled order by f.id"#
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(Catalogue {
        organizations: organizations
            .into_iter()
            .map(|row| {
                let spec = OrganizationSpec {
                    slug: row.slug,
                    name: row.name,
                };
                (OrganizationId(row.id), spec)
            })
            .collect(),
        connections: connections
            .into_iter()
            .map(|row| {
                Ok(Connection {
                    id: ConnectionId(row.id),
                    organization_id: OrganizationId(row.organization_id),
                    spec: from_json(row.spec)?,
                })
            })
            .collect::<Result<_>>()?,
        flows: flows
            .into_iter()
            .map(|row| {
                Ok(Flow {
                    organization_id: OrganizationId(row.organization_id),
                    source: ConnectionId(row.source_connection_id),
                    spec: from_json(row.spec)?,
                })
            })
            .collect::<Result<_>>()?,
    })
}
