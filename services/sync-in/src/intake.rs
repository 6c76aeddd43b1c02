//! Payloads that were not asked for: webhooks and files, and those whose worker died.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use sluice_core::{Error, Result, Timestamp, run::RunCounts};
use sluice_runtime::{metrics as names, telemetry};
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

/// Whether a webhook of this content type can be read at all: lists of records in JSON, NDJSON,
/// CSV or XML, and what a connector's own decoder may know.
pub fn may_hold_records(content_type: Option<&str>) -> bool {
    decode::may_hold_records(content_type)
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
        let found = match found(source, id, payload).await {
            Ok(found) => found,
            Err(error) => {
                self.fail(source, id, &error).await?;
                return Ok(Err(error));
            }
        };
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

impl Ingester {
    /// Ends a payload that nobody can read; it is kept with the reason.
    pub(crate) async fn fail(
        &self,
        source: &SourceConnection,
        id: &PayloadId,
        error: &Error,
    ) -> Result<()> {
        let name = source.connection.spec.name.clone();
        metrics::counter!(names::PAYLOADS_FAILED, "source" => name).increment(1);
        let failed = Some(payload_error(error));
        self.backends.raw.finish_payload(id, failed).await
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

/// The records in a stored body, with the slice it came from. A page is read as the source reads
/// it; what others sent may also be plain JSON, NDJSON or CSV.
///
/// # Errors
/// The body's own: what makes it unreadable.
pub(crate) async fn found(
    source: &Arc<SourceConnection>,
    id: &PayloadId,
    payload: &NewPayload,
) -> Result<Vec<Found>> {
    let (source, id, payload) = (source.clone(), id.clone(), payload.clone());
    tokio::task::spawn_blocking(move || {
        let content_type = payload.content_type.as_deref();
        let by_source = |body: &Bytes| {
            source
                .source
                .records_as(&payload.stream, &payload.slice, body, content_type)
        };
        let pieces: Vec<_> = match payload.kind {
            PayloadKind::Page => by_source(&payload.body)?.into_iter().map(Ok).collect(),
            PayloadKind::Webhook | PayloadKind::File => {
                decode::records(content_type, &payload.body, by_source)?
            }
        };
        let slice = Arc::new(payload.slice);
        let found = pieces.into_iter().map(|piece| {
            let (raw, broken) = match piece {
                Ok(raw) => (raw, None),
                Err(broken) => (broken.raw, Some(broken.rejection)),
            };
            Found {
                raw,
                broken,
                slice: slice.clone(),
                payload: id.clone(),
                received_at: payload.received_at,
            }
        });
        Ok(found.collect())
    })
    .await
    .map_err(|error| {
        Error::internal("extraction_stopped", "reading a payload ended unexpectedly")
            .caused_by(error)
    })?
}
