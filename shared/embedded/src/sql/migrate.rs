//! Migrations, safe when several processes start at once.
//!
//! sqlx's own runner takes no lock on SQLite, so two processes would apply the same migration.
//! This one checks and applies all of them in one transaction that holds the write lock; the
//! bookkeeping table is sqlx's.

use std::collections::BTreeMap;

use sluice_core::{Error, Result};
use sluice_store::master::MigrationStatus;
use sqlx::{Executor, migrate::Migrator};

use super::{EmbeddedSql, convert, failed};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

impl EmbeddedSql {
    pub(crate) async fn apply_migrations(&self) -> Result<usize> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "create table if not exists _sqlx_migrations (
                version bigint primary key,
                description text not null,
                installed_on timestamp not null default current_timestamp,
                success boolean not null,
                checksum blob not null,
                execution_time bigint not null
            )",
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let applied: BTreeMap<i64, Vec<u8>> =
            sqlx::query_as("select version, checksum from _sqlx_migrations")
                .fetch_all(&mut *tx)
                .await
                .map_err(failed)?
                .into_iter()
                .collect();
        if let Some(newer) = applied
            .keys()
            .find(|version| !MIGRATIONS.version_exists(**version))
        {
            return Err(Error::config(
                "database_is_newer",
                format!(
                    "the embedded database has migration {newer}, which this program does not know"
                ),
            )
            .hint("run the newer program, or another database"));
        }
        let mut count = 0;
        for migration in MIGRATIONS.iter() {
            match applied.get(&migration.version) {
                Some(checksum) if **checksum == *migration.checksum => {}
                Some(_) => {
                    return Err(Error::config(
                        "migration_changed",
                        format!(
                            "migration {} was applied to the embedded database with another text",
                            migration.version
                        ),
                    ));
                }
                None => {
                    let started = convert::now();
                    tx.execute(sqlx::raw_sql(migration.sql.clone()))
                        .await
                        .map_err(failed)?;
                    sqlx::query(
                        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                         values (?1, ?2, 1, ?3, ?4)",
                    )
                    .bind(migration.version)
                    .bind(&*migration.description)
                    .bind(&*migration.checksum)
                    .bind((convert::now() - started) * 1_000)
                    .execute(&mut *tx)
                    .await
                    .map_err(failed)?;
                    count += 1;
                }
            }
        }
        tx.commit().await.map_err(failed)?;
        Ok(count)
    }

    pub(crate) async fn list_migrations(&self) -> Result<Vec<MigrationStatus>> {
        let exists: Option<i64> =
            sqlx::query_scalar("select 1 from sqlite_master where name = '_sqlx_migrations'")
                .fetch_optional(self.read())
                .await
                .map_err(failed)?;
        let applied: Vec<i64> = if exists.is_some() {
            sqlx::query_scalar("select version from _sqlx_migrations")
                .fetch_all(self.read())
                .await
                .map_err(failed)?
        } else {
            Vec::new()
        };
        Ok(MIGRATIONS
            .iter()
            .map(|migration| MigrationStatus {
                version: migration.version,
                description: migration.description.to_string(),
                applied: applied.contains(&migration.version),
            })
            .collect())
    }
}
