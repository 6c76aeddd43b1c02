//! [`CredentialStore`]: sealed credentials, and whose turn it is to renew them.

use std::time::Duration;

use async_trait::async_trait;
use sluice_core::{Error, Result};
use sluice_store::{
    CredentialStore,
    credential::{CredentialName, Kept, Turn},
};

use crate::{PostgresSql, error};

/// Tries to take a turn while others do.
const TRIES: u32 = 5;

#[async_trait]
impl CredentialStore for PostgresSql {
    async fn begin(
        &self,
        name: &CredentialName,
        owner: &str,
        lease: Duration,
    ) -> Result<(Kept, Turn)> {
        let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX / 4);
        // Without a row somebody else made it at this moment: then it is there the next time.
        let mut found = None;
        for _ in 0..TRIES {
            found = self.try_begin(name, owner, lease).await?;
            if found.is_some() {
                break;
            }
        }
        found.ok_or_else(|| {
            Error::internal(
                "postgres_busy",
                "other processes kept changing the same state",
            )
        })
    }

    async fn keep(&self, name: &CredentialName, generation: i64, sealed: &[u8]) -> Result<bool> {
        let kept = sqlx::query!(
            "update credentials set generation = generation + 1, sealed = $4,
                kept_at = clock_timestamp(), renewed_by = null, renewed_until = null
            where connection_id = $1 and name = $2 and generation = $3",
            name.connection.0,
            name.name,
            generation,
            sealed,
        )
        .execute(&self.pool)
        .await
        .map_err(error::failed)?;
        Ok(kept.rows_affected() > 0)
    }

    async fn give_up(&self, name: &CredentialName, owner: &str) -> Result<()> {
        sqlx::query!(
            "update credentials set renewed_by = null, renewed_until = null
            where connection_id = $1 and name = $2 and renewed_by = $3",
            name.connection.0,
            name.name,
            owner,
        )
        .execute(&self.pool)
        .await
        .map_err(error::failed)?;
        Ok(())
    }
}

impl PostgresSql {
    async fn try_begin(
        &self,
        name: &CredentialName,
        owner: &str,
        lease: i64,
    ) -> Result<Option<(Kept, Turn)>> {
        // What a row was before an update is only to be seen beside it.
        let row = sqlx::query!(
            r#"with before as (
                select renewed_by <> $3 and renewed_until < clock_timestamp() as abandoned
                from credentials where connection_id = $1 and name = $2
            ), taken as (
                insert into credentials as c (connection_id, name, renewed_by, renewed_until)
                values ($1, $2, $3, clock_timestamp() + $4 * interval '1 microsecond')
                on conflict (connection_id, name) do update
                set renewed_by = excluded.renewed_by, renewed_until = excluded.renewed_until
                where c.renewed_until is null or c.renewed_until < clock_timestamp()
                    or c.renewed_by = excluded.renewed_by
                returning c.generation, c.sealed
            )
            select generation as "generation!", sealed, true as "mine!", 0::bigint as "wait!",
                coalesce((select abandoned from before), false) as "abandoned!"
            from taken
            union all
            select generation, sealed, false,
                greatest((extract(epoch from renewed_until - clock_timestamp()) * 1000000)::bigint, 0),
                false
            from credentials
            where connection_id = $1 and name = $2 and not exists (select from taken)"#,
            name.connection.0,
            name.name,
            owner,
            lease as f64,
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(error::failed)?;
        Ok(row.map(|row| {
            let kept = Kept {
                generation: row.generation,
                sealed: row.sealed,
            };
            let turn = if row.mine {
                Turn::Mine {
                    abandoned: row.abandoned,
                }
            } else {
                Turn::Taken(Duration::from_micros(u64::try_from(row.wait).unwrap_or(0)))
            };
            (kept, turn)
        }))
    }
}
