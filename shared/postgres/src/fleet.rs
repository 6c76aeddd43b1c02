//! [`FleetStore`]: small documents that every replica changes.
//!
//! A change reads, decides and writes if nobody else wrote meanwhile, else it starts again: two
//! round trips and no lock between them, so that a replica that stops in the middle stops nobody.

use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{ConnectionId, Error, Result, traffic::StoreClock};
use sluice_store::{
    FleetStore,
    fleet::{By, Change, Noted},
};

use sqlx::PgConnection;

use crate::{
    PostgresSql,
    dead_letter::log,
    error::{self, Failure, transaction},
};

/// Tries of a change that others overtake. Each try that fails is somebody else's success.
const TRIES: u32 = 50;

#[async_trait]
impl FleetStore for PostgresSql {
    async fn change(
        &self,
        connection: ConnectionId,
        name: &str,
        change: &mut Change<'_>,
    ) -> Result<()> {
        for tries in 0..TRIES {
            if tries > 2 {
                // Out of step with the others.
                tokio::time::sleep(jitter()).await;
            }
            // The start of the server tells when it is another one, or has forgotten commits.
            let row = sqlx::query!(
                r#"select (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!",
                    (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint as "server!",
                    s.revision as "revision?", s.document as "document?: Value"
                from (select) one left join fleet_state s on s.connection_id = $1 and s.name = $2"#,
                connection.0,
                name,
            )
            .fetch_one(&self.fleet)
            .await
            .map_err(error::failed)?;
            let clock = clock(row.now, row.server);
            let Some(document) = change(row.document, clock)? else {
                return Ok(());
            };
            let written = match row.revision {
                Some(revision) => {
                    sqlx::query!(
                        "update fleet_state set revision = revision + 1, document = $4
                        where connection_id = $1 and name = $2 and revision = $3",
                        connection.0,
                        name,
                        revision,
                        document,
                    )
                    .execute(&self.fleet)
                    .await
                }
                None => {
                    sqlx::query!(
                        "insert into fleet_state (connection_id, name, revision, document)
                        values ($1, $2, 1, $3) on conflict do nothing",
                        connection.0,
                        name,
                        document,
                    )
                    .execute(&self.fleet)
                    .await
                }
            };
            if written.map_err(error::failed)?.rows_affected() > 0 {
                return Ok(());
            }
        }
        Err(Error::internal(
            "postgres_busy",
            "other processes kept changing the same state",
        ))
    }

    async fn change_by(
        &self,
        connection: ConnectionId,
        name: &str,
        by: By<'_>,
        change: &mut Noted<'_>,
    ) -> Result<()> {
        transaction!(&self.fleet, held => {
            change_once(held, connection, name, by, change).await
        })
    }

    async fn documents(&self, name: &str) -> Result<(Vec<(ConnectionId, Value)>, StoreClock)> {
        let rows = sqlx::query!(
            r#"select (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!",
                (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint as "server!",
                s.connection_id as "connection_id?", s.document as "document?: Value"
            from (select) one left join fleet_state s on s.name = $1"#,
            name,
        )
        .fetch_all(&self.fleet)
        .await
        .map_err(error::failed)?;
        let clock = rows
            .first()
            .map(|row| clock(row.now, row.server))
            .unwrap_or_default();
        let documents = rows
            .into_iter()
            .filter_map(|row| Some((ConnectionId(row.connection_id?), row.document?)))
            .collect();
        Ok((documents, clock))
    }
}

async fn change_once(
    held: &mut PgConnection,
    connection: ConnectionId,
    name: &str,
    by: By<'_>,
    change: &mut Noted<'_>,
) -> Result<(), Failure> {
    // Unlike what processes change: nobody would do it again.
    sqlx::query!("set local synchronous_commit = on")
        .execute(&mut *held)
        .await?;
    let row = sqlx::query!(
        r#"select (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!",
            (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint as "server!",
            c.organization_id, s.revision as "revision?", s.document as "document?: Value"
        from connections c
        left join fleet_state s on s.connection_id = c.id and s.name = $2
        where c.id = $1"#,
        connection.0,
        name,
    )
    .fetch_one(&mut *held)
    .await?;
    let (document, detail) = change(row.document, clock(row.now, row.server))?;
    let written = sqlx::query!(
        "insert into fleet_state as s (connection_id, name, revision, document)
        values ($1, $2, 1, $4)
        on conflict (connection_id, name) do update
        set revision = s.revision + 1, document = excluded.document
        where s.revision = $3",
        connection.0,
        name,
        row.revision,
        document,
    )
    .execute(&mut *held)
    .await?;
    if written.rows_affected() == 0 {
        return Err(Failure::Overtaken);
    }
    log::write(held, row.organization_id, by.actor, by.event, &detail).await
}

fn clock(now: i64, server: i64) -> StoreClock {
    StoreClock {
        now: now.saturating_mul(1_000),
        server,
    }
}

/// Up to 4 ms, without a random source: the low digits of the time.
fn jitter() -> std::time::Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    std::time::Duration::from_micros(u64::from(nanos % 4_000))
}
