//! [`CredentialStore`] on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use sluice_core::Result;
use sluice_store::{
    CredentialStore,
    credential::{CredentialName, Kept, Turn},
};

use crate::sql::{
    EmbeddedSql,
    convert::{micros, now},
    failed,
};

#[async_trait]
impl CredentialStore for EmbeddedSql {
    async fn begin(
        &self,
        name: &CredentialName,
        owner: &str,
        lease: Duration,
    ) -> Result<(Kept, Turn)> {
        let mut tx = self.begin().await?;
        let (now, until) = (now(), now().saturating_add(micros(lease)));
        let abandoned = sqlx::query_scalar!(
            r#"select count(*) as "count!: i64" from credentials
            where connection_id = ?1 and name = ?2 and renewed_by <> ?3 and renewed_until < ?4"#,
            name.connection.0,
            name.name,
            owner,
            now,
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        let taken = sqlx::query!(
            r#"insert into credentials (connection_id, name, renewed_by, renewed_until)
            values (?1, ?2, ?3, ?4)
            on conflict (connection_id, name) do update
            set renewed_by = excluded.renewed_by, renewed_until = excluded.renewed_until
            where renewed_until is null or renewed_until < ?5 or renewed_by = excluded.renewed_by"#,
            name.connection.0,
            name.name,
            owner,
            until,
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let row = sqlx::query!(
            r#"select generation as "generation!: i64", sealed as "sealed: Vec<u8>",
                renewed_until as "until: i64"
            from credentials where connection_id = ?1 and name = ?2"#,
            name.connection.0,
            name.name,
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        let kept = Kept {
            generation: row.generation,
            sealed: row.sealed,
        };
        let turn = if taken.rows_affected() > 0 {
            Turn::Mine {
                abandoned: abandoned > 0,
            }
        } else {
            let wait = row.until.unwrap_or(now).saturating_sub(now);
            Turn::Taken(Duration::from_micros(u64::try_from(wait).unwrap_or(0)))
        };
        Ok((kept, turn))
    }

    async fn keep(&self, name: &CredentialName, generation: i64, sealed: &[u8]) -> Result<bool> {
        let mut tx = self.begin().await?;
        let now = now();
        let kept = sqlx::query!(
            "update credentials set generation = generation + 1, sealed = ?4, kept_at = ?5,
                renewed_by = null, renewed_until = null
            where connection_id = ?1 and name = ?2 and generation = ?3",
            name.connection.0,
            name.name,
            generation,
            sealed,
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(kept.rows_affected() > 0)
    }

    async fn give_up(&self, name: &CredentialName, owner: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query!(
            "update credentials set renewed_by = null, renewed_until = null
            where connection_id = ?1 and name = ?2 and renewed_by = ?3",
            name.connection.0,
            name.name,
            owner,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }
}
