//! Migrations, compiled in.

use sluice_core::{Error, Result};
use sluice_store::master::MigrationStatus;
use sqlx::{
    Row,
    migrate::{Migrate, MigrateError, Migrator},
    postgres::PgConnection,
};

use crate::{error::failed, pool::Pool};

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Applies what is missing. An advisory lock of the session makes replicas take turns, so that each
/// migration is applied, and counted, once.
pub(crate) async fn migrate(pool: &Pool) -> Result<usize> {
    // Closed afterwards whatever happens, since closing releases the session's locks.
    let mut connection = pool.acquire().await.map_err(failed)?.detach();
    connection.lock().await.map_err(refused)?;
    let before = applied(&mut connection).await?.len();
    MIGRATOR
        .run_direct(None, &mut connection, false)
        .await
        .map_err(refused)?;
    let after = applied(&mut connection).await?.len();
    sqlx::Connection::close(connection).await.map_err(failed)?;
    Ok(after.saturating_sub(before))
}

pub(crate) async fn status(pool: &Pool) -> Result<Vec<MigrationStatus>> {
    let mut connection = pool.acquire().await.map_err(failed)?;
    let applied = applied(&mut connection).await?;
    Ok(MIGRATOR
        .iter()
        .filter(|migration| !migration.migration_type.is_down_migration())
        .map(|migration| MigrationStatus {
            version: migration.version,
            description: migration.description.to_string(),
            applied: applied.contains(&migration.version),
        })
        .collect())
}

/// Versions applied; none when the table of migrations does not exist yet.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>> {
    // No macro: this table belongs to no migration.
    let exists: bool = sqlx::query("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
        .fetch_all(connection)
        .await
        .map_err(failed)
}

fn refused(error: MigrateError) -> Error {
    let advice = match &error {
        MigrateError::VersionMissing(_) => {
            "the database was migrated by a newer version of Sluice: use that version"
        }
        MigrateError::VersionMismatch(_) => {
            "an applied migration was changed: use the version of Sluice that applied it"
        }
        MigrateError::Dirty(_) => "a migration was interrupted: restore the database from a backup",
        _ => "look into PostgreSQL's log",
    };
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(error),
        // The other texts consist of version numbers.
        error => Error::internal("migration_failed", error.to_string()).hint(advice),
    }
}
