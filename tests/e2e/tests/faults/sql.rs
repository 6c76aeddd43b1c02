//! Looks into the SQL store of either backend with the same text.

use std::path::Path;

use sqlx::{
    AssertSqlSafe, FromRow, PgPool, SqlitePool,
    postgres::{PgPoolOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

/// Either database. Statements stay within what both understand.
#[derive(Clone)]
pub enum Sql {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Sql {
    pub fn postgres(url: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(2);
        Self::Postgres(pool.connect_lazy(url).unwrap())
    }

    pub fn sqlite(file: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let pool = SqlitePoolOptions::new().max_connections(2);
        Self::Sqlite(pool.connect_lazy_with(options))
    }

    /// All rows of a statement.
    pub async fn rows<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let text = AssertSqlSafe(sql.to_owned());
        let rows = match self {
            Self::Postgres(pool) => sqlx::query_as(text).fetch_all(pool).await,
            Self::Sqlite(pool) => sqlx::query_as(text).fetch_all(pool).await,
        };
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The expression for a time in microseconds since 1970.
    pub fn micros(&self, column: &str) -> String {
        match self {
            Self::Postgres(_) => format!("cast(extract(epoch from {column}) * 1000000 as bigint)"),
            Self::Sqlite(_) => column.to_owned(),
        }
    }

    /// A single number.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows: Vec<(i64,)> = self.rows(sql).await;
        rows.first().map_or(0, |(number,)| *number)
    }
}
