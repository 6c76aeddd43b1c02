//! Stores that break on demand: before a call is carried out, or after, when only the answer is
//! lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sluice_core::{
    EntityType, Error, OrganizationId, Result, Timestamp,
    catalogue::{Catalogue, CatalogueSpec},
};
use sluice_store::{
    MasterStore, RawStore,
    master::{
        Applied, ApplyBatch, Connections, MasterQuery, MasterRecord, MigrationStatus, RecordHistory,
    },
    raw::{
        ClaimPending, FailedPayload, FailedPayloadQuery, NewPayload, OutboundMark, Payload,
        PayloadId, PutPayload, PutRecords, RawError, RawRecord, RawRecordPage, RawRecordQuery,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Before,
    After,
}

/// Which call breaks: the `after`-th of a method, once.
#[derive(Debug, Clone, Default)]
pub struct Breaks(Arc<Mutex<HashMap<&'static str, (u32, Break)>>>);

impl Breaks {
    /// The `nth` call (from 1) of `method` breaks.
    pub fn plan(&self, method: &'static str, nth: u32, how: Break) {
        self.0.lock().unwrap().insert(method, (nth, how));
    }

    /// Whether nothing is planned any more.
    pub fn done(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    fn now(&self, method: &str) -> Option<Break> {
        let mut planned = self.0.lock().unwrap();
        let (left, how) = planned.get_mut(method)?;
        *left -= 1;
        let how = *how;
        if *left > 0 {
            return None;
        }
        planned.remove(method);
        Some(how)
    }
}

macro_rules! flaky {
    ($breaks:expr, $method:literal, $call:expr) => {
        match $breaks.now($method) {
            Some(Break::Before) => Err(broken()),
            Some(Break::After) => {
                $call.await?;
                Err(broken())
            }
            None => $call.await,
        }
    };
}

fn broken() -> Error {
    Error::internal("store_broken", "broken by the test")
}

pub struct FlakyRaw {
    pub inner: Arc<dyn RawStore>,
    pub breaks: Breaks,
    /// Payloads that ended as failed, with the code of their error.
    pub failed: Mutex<Vec<(PayloadId, String)>>,
}

#[async_trait]
impl RawStore for FlakyRaw {
    async fn prepare(&self) -> Result<()> {
        self.inner.prepare().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn put_payload(&self, payload: NewPayload, lease: Duration) -> Result<PutPayload> {
        flaky!(
            self.breaks,
            "put_payload",
            self.inner.put_payload(payload, lease)
        )
    }

    async fn payload(
        &self,
        organization: OrganizationId,
        id: &PayloadId,
    ) -> Result<Option<Payload>> {
        self.inner.payload(organization, id).await
    }

    async fn claim_pending(&self, claim: &ClaimPending) -> Result<Vec<Payload>> {
        self.inner.claim_pending(claim).await
    }

    async fn finish_payload(&self, id: &PayloadId, failed: Option<RawError>) -> Result<()> {
        if let Some(error) = &failed {
            let entry = (id.clone(), error.code.clone());
            self.failed.lock().unwrap().push(entry);
        }
        flaky!(
            self.breaks,
            "finish_payload",
            self.inner.finish_payload(id, failed)
        )
    }

    async fn failed_payloads(&self, query: &FailedPayloadQuery) -> Result<Vec<FailedPayload>> {
        self.inner.failed_payloads(query).await
    }

    async fn put_records(&self, records: &[RawRecord]) -> Result<PutRecords> {
        flaky!(self.breaks, "put_records", self.inner.put_records(records))
    }

    async fn records(&self, query: &RawRecordQuery) -> Result<RawRecordPage> {
        flaky!(self.breaks, "records", self.inner.records(query))
    }

    async fn mark_outbound(&self, marks: &[OutboundMark]) -> Result<()> {
        self.inner.mark_outbound(marks).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64> {
        self.inner.expire(now).await
    }
}

pub struct FlakyMaster {
    pub inner: Arc<dyn MasterStore>,
    pub breaks: Breaks,
    /// A record with this source id is refused for its content.
    pub poison: Mutex<Option<String>>,
}

#[async_trait]
impl MasterStore for FlakyMaster {
    async fn migrate(&self) -> Result<usize> {
        self.inner.migrate().await
    }

    async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        self.inner.migrations().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    fn connections(&self) -> Connections {
        self.inner.connections()
    }

    async fn register(&self, spec: &CatalogueSpec) -> Result<Catalogue> {
        self.inner.register(spec).await
    }

    async fn catalogue(&self) -> Result<Catalogue> {
        self.inner.catalogue().await
    }

    async fn apply(&self, batch: &ApplyBatch) -> Result<Vec<Applied>> {
        let poison = self.poison.lock().unwrap().clone();
        let poisoned = |id: &str| poison.as_deref() == Some(id);
        if batch
            .records
            .iter()
            .any(|record| poisoned(&record.record.source_id))
        {
            return Err(Error::validation("value_refused", "refused by the test"));
        }
        flaky!(self.breaks, "apply", self.inner.apply(batch))
    }

    async fn records(&self, query: &MasterQuery) -> Result<Vec<MasterRecord>> {
        self.inner.records(query).await
    }

    async fn history(
        &self,
        organization: OrganizationId,
        entity_type: &EntityType,
        entity_id: &str,
    ) -> Result<Option<RecordHistory>> {
        self.inner
            .history(organization, entity_type, entity_id)
            .await
    }
}
