//! Payloads that were not asked for: webhooks and files, and those whose worker died.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_core::{Error, Result, Timestamp, run::RunCounts};
use sluice_runtime::telemetry;
use sluice_store::raw::{NewPayload, PayloadId, PayloadKind, PutPayload};
use tracing::Instrument;

use crate::{
    Ingester, SourceConnection, decode,
    ingest::{Origin, payload_error},
    prepare::Found,
};

/// A webhook's or file's body as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    pub kind: PayloadKind,
    /// The stream whose extraction and mapping rules apply.
    pub stream: String,
    pub content_type: Option<String>,
    pub body: Bytes,
    /// The sender's own delivery id; a second payload with the same one is a duplicate.
    pub delivery_id: Option<String>,
    pub received_at: Timestamp,
    pub traceparent: Option<String>,
}

/// What became of an incoming payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    pub payload: PayloadId,
    /// Delivered before: nothing was done.
    pub duplicate: bool,
    pub counts: RunCounts,
}

/// A payload that is durable and leased to us, or known already.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// Hand it to [`Ingester::process`]; should the process die first, recovery does.
    Pending(PayloadId, Box<NewPayload>),
    Duplicate(PayloadId),
}

impl Ingester {
    /// Makes a body durable. Only then may its sender hear that it arrived (promise I1).
    ///
    /// # Errors
    /// `stream_unknown`; the raw store's.
    pub async fn keep(&self, source: &SourceConnection, incoming: Incoming) -> Result<Kept> {
        source.stream(&incoming.stream)?;
        let payload = NewPayload {
            organization_id: source.connection.organization_id,
            connection_id: source.connection.id,
            source_system: source.connection.spec.connector.clone(),
            kind: incoming.kind,
            stream: incoming.stream,
            slice: json!({}),
            content_type: incoming.content_type,
            body: incoming.body,
            delivery_id: incoming.delivery_id,
            run_id: None,
            traceparent: incoming.traceparent,
            received_at: incoming.received_at,
            expires_at: self.expiry(incoming.received_at),
        };
        let put = self
            .backends
            .raw
            .put_payload(payload.clone(), self.lease)
            .await?;
        Ok(match put {
            PutPayload::Stored(id) | PutPayload::SeenAgain(id) => {
                Kept::Pending(id, Box::new(payload))
            }
            PutPayload::Duplicate(id) => Kept::Duplicate(id),
        })
    }

    /// Takes in a durable payload and ends it: completed, or failed with what is wrong with it.
    ///
    /// # Errors
    /// `payload_unreadable` and the source's own extraction errors, after the payload was marked
    /// as failed; the stores' errors, after which it is still pending and recovery tries again.
    pub async fn process(
        &self,
        source: &Arc<SourceConnection>,
        id: &PayloadId,
        payload: &NewPayload,
    ) -> Result<RunCounts> {
        let span = tracing::info_span!(
            "payload",
            source = source.connection.spec.name,
            stream = payload.stream,
            bytes = payload.body.len()
        );
        telemetry::continue_from(&span, payload.traceparent.as_deref());
        self.try_process(source, id, payload)
            .instrument(span)
            .await?
    }

    /// The outer error is a store's: the payload is still pending. The inner one is the
    /// payload's own: it is marked as failed.
    pub(crate) async fn try_process(
        &self,
        source: &Arc<SourceConnection>,
        id: &PayloadId,
        payload: &NewPayload,
    ) -> Result<Result<RunCounts>> {
        let records = match extract(source, payload).await {
            Ok(records) => records,
            Err(error) => {
                let failed = Some(payload_error(&error));
                self.backends.raw.finish_payload(id, failed).await?;
                return Ok(Err(error));
            }
        };
        let slice = Arc::new(payload.slice.clone());
        let found = records
            .into_iter()
            .map(|raw| Found {
                raw,
                slice: slice.clone(),
                payload: id.clone(),
                received_at: payload.received_at,
            })
            .collect();
        let origin = Origin {
            run_id: payload.run_id,
            traceparent: telemetry::traceparent_within(payload.traceparent.as_deref()),
            ..Origin::default()
        };
        let mut counts = self.ingest(source, &payload.stream, found, &origin).await?;
        counts.bytes += payload.body.len() as u64;
        self.backends.raw.finish_payload(id, None).await?;
        Ok(Ok(counts))
    }
}

/// Keeps a webhook's or file's body and takes it in.
///
/// # Errors
/// Those of [`Ingester::keep`] and [`Ingester::process`].
pub async fn ingest_payload(
    ingester: &Ingester,
    source: &Arc<SourceConnection>,
    incoming: Incoming,
) -> Result<Ingested> {
    match ingester.keep(source, incoming).await? {
        Kept::Duplicate(payload) => Ok(Ingested {
            payload,
            duplicate: true,
            counts: RunCounts::default(),
        }),
        Kept::Pending(id, payload) => {
            let counts = ingester.process(source, &id, &payload).await?;
            Ok(Ingested {
                payload: id,
                duplicate: false,
                counts,
            })
        }
    }
}

/// The records in a stored body. A page is read as the source reads it; what others sent may also
/// be plain JSON, NDJSON or CSV.
async fn extract(source: &Arc<SourceConnection>, payload: &NewPayload) -> Result<Vec<Value>> {
    let (source, payload) = (source.clone(), payload.clone());
    tokio::task::spawn_blocking(move || {
        let by_source = || {
            source
                .source
                .records(&payload.stream, &payload.slice, &payload.body)
        };
        match payload.kind {
            PayloadKind::Page => by_source(),
            PayloadKind::Webhook | PayloadKind::File => {
                decode::records(payload.content_type.as_deref(), &payload.body, by_source)
            }
        }
    })
    .await
    .map_err(|error| {
        Error::internal("extraction_stopped", "reading a payload ended unexpectedly")
            .caused_by(error)
    })?
}
