//! The connection pool, with an end to every wait.
//!
//! The driver waits for ever on a connection that a firewall has forgotten, and the server's
//! `statement_timeout` does not reach a client that cannot be reached.

use std::time::Duration;

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sluice_store::master::Connections;
use sqlx::{
    Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

/// Added to what the server allows a statement before its silence counts as one.
const GRACE: Duration = Duration::from_secs(5);

/// Connections of a process. Clones share them.
///
/// As an executor it gathers what a statement returns, which every statement here bounds.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    inner: PgPool,
    silence: Duration,
}

impl Pool {
    /// `statement_timeout` is what the server allows a statement on these connections.
    pub(crate) fn new(inner: PgPool, statement_timeout: Duration) -> Self {
        Self {
            inner,
            silence: statement_timeout + GRACE,
        }
    }

    /// A connection, within the pool's time-out. Ask through [`answered`] or `transaction` where
    /// the answer may stay out.
    pub(crate) async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        self.inner.acquire().await
    }

    /// Longest wait for answers of one connection.
    pub(crate) fn silence(&self) -> Duration {
        self.silence
    }

    pub(crate) fn connections(&self) -> Connections {
        Connections::of(self.inner.size() as usize, self.inner.num_idle())
    }

    pub(crate) async fn close(&self) {
        self.inner.close().await;
    }
}

/// What silence becomes.
pub(crate) fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// Evaluates a body with a connection, as a future. When its answers do not come in time, it is
/// dropped and the connection closed, as one in an unknown state must be.
///
/// A macro and not a function: the future of a closure that borrows the connection could not be
/// shown to be `Send`.
macro_rules! answered {
    ($pool:expr, $connection:ident => $body:expr) => {
        async {
            let mut held = $pool.acquire().await?;
            let outcome = tokio::time::timeout($pool.silence(), async {
                let $connection = &mut *held;
                $body
            })
            .await;
            outcome.unwrap_or_else(|_| {
                held.close_on_drop();
                Err($crate::pool::silent().into())
            })
        }
    };
}
pub(crate) use answered;

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let gathered = async move {
            let rows: sqlx::Result<Vec<_>> = answered!(pool, connection => {
                connection.fetch_many(query).try_collect().await
            })
            .await;
            rows
        };
        stream::once(gathered)
            .map_ok(|rows| stream::iter(rows).map(Ok))
            .try_flatten()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        async move { answered!(pool, connection => connection.fetch_optional(query).await).await }
            .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move {
            answered!(pool, connection => connection.prepare_with(sql, parameters).await).await
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { answered!(pool, connection => connection.describe(sql).await).await }.boxed()
    }
}
