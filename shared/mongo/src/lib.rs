//! The raw store in MongoDB.
//!
//! Collections: `raw_payloads` (what arrived, compressed), `raw_records` (the records found in it,
//! with the field names of requirement 002 section 4.2) and the GridFS bucket `raw_bodies` for
//! bodies that no document can hold. Every write is acknowledged by a majority, from the journal.

mod bodies;
mod errors;
mod fields;
mod indexes;
mod json;
mod payload_document;
mod payloads;
mod query;
mod record_document;
mod records;

use std::time::Duration;

use async_trait::async_trait;
use mongodb::{
    Client, Collection, Database,
    bson::{Document, RawDocumentBuf, doc},
    options::{Acknowledgment, ClientOptions, CollectionOptions, WriteConcern},
};
use sluice_core::{Error, ErrorClass, OrganizationId, Result, Timestamp};
use sluice_store::raw::{
    ClaimPending, FailedPayload, FailedPayloadQuery, NewPayload, OutboundMark, Payload, PayloadId,
    PutPayload, PutRecords, RawError, RawRecord, RawRecordPage, RawRecordQuery, RawStore,
};

use bodies::Bodies;
use errors::failed;

/// Longest wait for a server that can take an operation. Shorter than the driver's 30 s: workers
/// hold leases, and the orchestrator tries again anyway.
const SERVER_SELECTION: Duration = Duration::from_secs(10);

/// Longest wait for the majority; after it a write counts as failed, though it may be there.
const MAJORITY: Duration = Duration::from_secs(20);

/// Longest wait for an operation as a whole. The driver waits for ever on a connection that a
/// firewall has forgotten, and a worker that renews its lease would wait with it.
const ANSWER: Duration = Duration::from_secs(60);

/// Raw payloads and records in one MongoDB database. The driver pools connections, finds the
/// primary and reconnects by itself.
pub struct MongoRaw {
    database: Database,
    payloads: Collection<Document>,
    records: Collection<Document>,
    /// The records once more, for documents that were already put into their wire form.
    raw_records: Collection<RawDocumentBuf>,
    bodies: Bodies,
    answer: Duration,
}

impl MongoRaw {
    /// Reads the URL (`mongodb:` or `mongodb+srv:`). The first connection is made by the first
    /// call, so that a service starts while the database is away.
    ///
    /// # Errors
    /// `raw_url_invalid`; the URL, which may hold a password, is not repeated.
    pub async fn connect(url: &str, database: &str) -> Result<Self> {
        let invalid = || {
            Error::config("raw_url_invalid", "the raw store's URL is no MongoDB URL")
                .hint("write mongodb://user:password@host:27017/?replicaSet=name")
        };
        let mut options = ClientOptions::parse(url).await.map_err(|_| invalid())?;
        let named =
            !database.is_empty() && !database.contains(['/', '\\', '.', ' ', '"', '$', '\0']);
        if !named {
            return Err(Error::config(
                "raw_database_invalid",
                "the raw store's database name is empty or has characters MongoDB refuses",
            ));
        }
        options.app_name.get_or_insert_with(|| "sluice".into());
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        // Not a choice: promise I1 stands on it, whatever the URL says.
        let durable = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(MAJORITY)
            .build();
        options.write_concern = Some(durable);
        let client = Client::with_options(options).map_err(|_| invalid())?;
        let database = client.database(database);
        // Records are made again from their payload until that is finished, and finishing it waits
        // for the journal, behind which everything written before it stands. Waiting for each
        // batch of records as well would only cost a journal flush per batch.
        let swift = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let swift = CollectionOptions::builder().write_concern(swift).build();
        Ok(Self {
            payloads: database.collection(indexes::PAYLOADS),
            records: database.collection_with_options(indexes::RECORDS, swift.clone()),
            raw_records: database.collection_with_options(indexes::RECORDS, swift),
            bodies: Bodies::new(&database),
            database,
            answer: ANSWER,
        })
    }

    /// Waits this long for an operation instead of 60 s.
    pub fn answering_within(self, answer: Duration) -> Self {
        Self { answer, ..self }
    }

    /// Gives up on a silent connection; the driver closes it.
    async fn answered<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = tokio::time::timeout(self.answer, work).await;
        answer.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorClass::Network,
                "mongo_silent",
                format!("MongoDB did not answer within {:?}", self.answer),
            ))
        })
    }
}

#[async_trait]
impl RawStore for MongoRaw {
    async fn prepare(&self) -> Result<()> {
        indexes::create(&self.database).await.map_err(failed)
    }

    async fn ping(&self) -> Result<()> {
        let pong = async {
            let pong = self.database.run_command(doc! { "ping": 1 }).await;
            pong.map(drop).map_err(failed)
        };
        self.answered(pong).await
    }

    async fn put_payload(&self, payload: NewPayload, lease: Duration) -> Result<PutPayload> {
        self.answered(self.put_one_payload(payload, lease)).await
    }

    async fn payload(
        &self,
        organization: OrganizationId,
        id: &PayloadId,
    ) -> Result<Option<Payload>> {
        self.answered(self.find_payload(organization, id)).await
    }

    async fn claim_pending(&self, claim: &ClaimPending) -> Result<Vec<Payload>> {
        self.answered(self.claim(claim)).await
    }

    async fn finish_payload(&self, id: &PayloadId, failed: Option<RawError>) -> Result<()> {
        self.answered(self.finish(id, failed.as_ref())).await
    }

    async fn failed_payloads(&self, query: &FailedPayloadQuery) -> Result<Vec<FailedPayload>> {
        self.answered(self.failed(query)).await
    }

    async fn put_records(&self, records: &[RawRecord]) -> Result<PutRecords> {
        self.answered(self.put_batch(records)).await
    }

    async fn records(&self, query: &RawRecordQuery) -> Result<RawRecordPage> {
        self.answered(self.page(query)).await
    }

    async fn mark_outbound(&self, marks: &[OutboundMark]) -> Result<()> {
        self.answered(self.mark(marks)).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64> {
        let payloads = self.expire_payloads(now).await?;
        self.remove_orphaned_bodies(now).await?;
        Ok(payloads + self.expire_records(now).await?)
    }
}
