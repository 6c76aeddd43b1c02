//! The raw store in an SQLite file of its own, with the promises of the server's.
//!
//! One connection writes, so that writers queue up in the process instead of running into each
//! other's locks; a few others read beside it.

mod payloads;
mod query;
mod records;

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use sluice_core::{Error, OrganizationId, Result, Timestamp};
use sluice_store::raw::{
    ClaimPending, FailedPayload, FailedPayloadQuery, NewPayload, OutboundMark, Payload, PayloadId,
    PutPayload, PutRecords, RawError, RawRecord, RawRecordPage, RawRecordQuery, RawStore,
};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/sqlite_raw");

/// Raw payloads and records in one SQLite file.
pub struct SqliteRaw {
    write: SqlitePool,
    read: SqlitePool,
}

impl SqliteRaw {
    /// Opens `sqlite:PATH`, and makes the file when it is not there. Tables come with
    /// [`RawStore::prepare`].
    ///
    /// # Errors
    /// `raw_url_invalid`, and `raw_sqlite` when the file cannot be opened.
    pub async fn connect(url: &str) -> Result<Self> {
        let invalid = || {
            Error::config("raw_url_invalid", "the raw store's URL is no SQLite URL")
                .hint("write sqlite: and a path, such as sqlite:data/raw.db")
        };
        // The parser takes anything for a path.
        if !url.starts_with("sqlite:") {
            return Err(invalid());
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|_| invalid())?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // On disk before a call returns, also when the power fails.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(failed)?;
        Ok(Self { write, read })
    }
}

#[async_trait]
impl RawStore for SqliteRaw {
    async fn prepare(&self) -> Result<()> {
        MIGRATIONS.run(&self.write).await.map_err(|error| {
            Error::internal("raw_migration", "the raw store's tables could not be made")
                .caused_by(error)
        })
    }

    async fn ping(&self) -> Result<()> {
        let ping = sqlx::query("SELECT 1").execute(&self.read).await;
        ping.map(drop).map_err(failed)
    }

    async fn put_payload(&self, payload: NewPayload, lease: Duration) -> Result<PutPayload> {
        payloads::put(&self.write, payload, lease).await
    }

    async fn payload(
        &self,
        organization: OrganizationId,
        id: &PayloadId,
    ) -> Result<Option<Payload>> {
        payloads::get(&self.read, organization, id).await
    }

    async fn claim_pending(&self, claim: &ClaimPending) -> Result<Vec<Payload>> {
        payloads::claim(&self.write, claim).await
    }

    async fn finish_payload(&self, id: &PayloadId, failed: Option<RawError>) -> Result<()> {
        payloads::finish(&self.write, id, failed).await
    }

    async fn failed_payloads(&self, query: &FailedPayloadQuery) -> Result<Vec<FailedPayload>> {
        payloads::failed_ones(&self.read, query).await
    }

    async fn put_records(&self, records: &[RawRecord]) -> Result<PutRecords> {
        records::put(&self.write, records).await
    }

    async fn records(&self, query: &RawRecordQuery) -> Result<RawRecordPage> {
        query::page(&self.read, query).await
    }

    async fn mark_outbound(&self, marks: &[OutboundMark]) -> Result<()> {
        records::mark(&self.write, marks).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64> {
        let payloads = payloads::expire(&self.write, now).await?;
        Ok(payloads + records::expire(&self.write, now).await?)
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::internal("raw_sqlite", "the raw store's database failed").caused_by(error)
}

fn damaged(what: &'static str) -> Error {
    Error::internal(
        "raw_damaged",
        format!("a stored {what} is not what was written"),
    )
}

fn micros(time: Timestamp) -> i64 {
    time.timestamp_micros()
}

fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_timestamp_micros(micros).ok_or_else(|| damaged("time"))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|_| Error::internal("raw_unwritable", "a raw value cannot be written as JSON"))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| damaged(what))
}

/// An enum in its stored spelling, which is that of its JSON form.
fn from_word<T: serde::de::DeserializeOwned>(word: &str, what: &'static str) -> Result<T> {
    serde_json::from_value(word.into()).map_err(|_| damaged(what))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    pub(super) async fn open() -> (SqliteRaw, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("raw.db").display());
        let store = SqliteRaw::connect(&url).await.unwrap();
        store.prepare().await.unwrap();
        (store, folder)
    }

    async fn fresh() -> (Arc<dyn RawStore>, tempfile::TempDir) {
        let (store, folder) = open().await;
        (Arc::new(store), folder)
    }

    sluice_store::raw_conformance!(fresh);

    #[tokio::test]
    async fn payloads_survive_a_restart() {
        let (store, folder) = fresh().await;
        let new = NewPayload {
            organization_id: OrganizationId(1),
            connection_id: sluice_core::ConnectionId(1),
            source_system: "yardi".into(),
            kind: sluice_store::raw::PayloadKind::Page,
            stream: "units".into(),
            slice: serde_json::Value::Null,
            content_type: None,
            body: bytes::Bytes::from_static(b"<a/>"),
            delivery_id: None,
            run_id: None,
            traceparent: None,
            received_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
        };
        store
            .put_payload(new.clone(), Duration::ZERO)
            .await
            .unwrap();
        drop(store);
        let url = format!("sqlite:{}", folder.path().join("raw.db").display());
        let store = SqliteRaw::connect(&url).await.unwrap();
        store.prepare().await.unwrap();
        let found = store.payload(OrganizationId(1), &new.id()).await.unwrap();
        assert_eq!(found.unwrap().new, new);
    }

    #[tokio::test]
    async fn a_wrong_url_is_a_configuration_error() {
        let error = SqliteRaw::connect("postgres://u:secret@h/d").await.err();
        let error = error.unwrap();
        assert_eq!(error.code(), "raw_url_invalid");
        assert!(!error.chain().contains("secret"));
    }
}
