//! Reads one slice page by page: the next page is fetched while the present one is taken in.

use std::sync::Arc;

use futures::StreamExt;
use serde_json::{Value, json};
use sluice_connectors::source::Page;
use sluice_core::{
    Error, Result,
    run::{RunCounts, RunKind},
};
use sluice_runtime::metrics as names;
use sluice_store::raw::{NewPayload, PayloadId, PayloadKind, PutPayload};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use crate::{
    ingest::payload_error,
    prepare::Found,
    pull::{Ended, Pull},
};

/// Pages fetched ahead: one here, and one that waits to get in. Memory stays flat (promise I4).
const PAGES_AHEAD: usize = 1;

/// The slice that an earlier attempt of a planning task had begun to read.
pub(crate) fn planned_slice(progress: Option<&Value>) -> Option<Value> {
    progress?.get("slice").cloned()
}

/// Reads a slice from where the last checkpoint stood.
///
/// # Errors
/// The source's, by class; a store's. What was checkpointed stays.
pub(crate) async fn slice(pull: &Pull, slice: Value) -> Result<Ended> {
    let progress = pull
        .task
        .progress
        .as_ref()
        .and_then(|progress| progress.get("source").cloned());
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    let fetch = async {
        let mut pages = pull
            .source
            .source
            .read(&pull.task.spec.stream, &slice, progress);
        while let Some(page) = pages.next().await {
            if sender.send(page).await.is_err() {
                return;
            }
        }
        drop(sender);
    };
    let take = take_pages(pull, Arc::new(slice.clone()), receiver);
    tokio::pin!(take);
    tokio::select! {
        ended = &mut take => ended,
        () = async { fetch.await; std::future::pending().await } => Ok(Ended::Stopped),
    }
}

async fn take_pages(
    pull: &Pull,
    slice: Arc<Value>,
    mut pages: mpsc::Receiver<Result<Page>>,
) -> Result<Ended> {
    while let Some(page) = pages.recv().await {
        let page = page?;
        let span = tracing::info_span!(
            "page",
            records = page.records.len(),
            bytes = page.body.len()
        );
        match take_page(pull, &slice, page).instrument(span).await? {
            Taken::GoOn if pull.stopping() => return Ok(Ended::Stopped),
            Taken::GoOn => {}
            Taken::Enough => break,
            Taken::Stop => return Ok(Ended::Stopped),
        }
    }
    Ok(Ended::DONE)
}

enum Taken {
    GoOn,
    /// The one record that was wanted is found.
    Enough,
    /// The lease is lost, or the run does not run.
    Stop,
}

async fn take_page(pull: &Pull, slice: &Arc<Value>, page: Page) -> Result<Taken> {
    let began = Instant::now();
    let mut counts = RunCounts {
        bytes: page.body.len() as u64,
        calls: u64::from(page.calls),
        ..RunCounts::default()
    };
    pull.calls
        .fetch_add(u64::from(page.calls), std::sync::atomic::Ordering::Relaxed);
    let progress = json!({ "slice": slice.as_ref(), "source": page.progress });
    let state = page.state.clone();
    let ingested = if pull.task.spec.dry_run {
        rehearse(pull, slice, page).await?
    } else {
        keep_and_ingest(pull, slice, page).await?
    };
    counts.add(&ingested);
    let goes_on = pull.checkpoint(progress, state, counts).await?;
    metrics::histogram!(
        names::SYNC_IN_DURATION,
        "source" => pull.source.connection.spec.name.clone()
    )
    .record(began.elapsed());
    let found = pull.task.run_kind == RunKind::Single && ingested.read > 0;
    Ok(match (goes_on, found) {
        (false, _) => Taken::Stop,
        (true, true) => Taken::Enough,
        (true, false) => Taken::GoOn,
    })
}

/// Promise I1: the bytes are durable before anything is made of them, also when nothing can be.
async fn keep_and_ingest(pull: &Pull, slice: &Arc<Value>, page: Page) -> Result<RunCounts> {
    let context = &pull.context;
    let origin = pull.origin();
    let ingester = context.ingester();
    let payload = NewPayload {
        organization_id: pull.source.connection.organization_id,
        connection_id: pull.source.connection.id,
        source_system: pull.source.connection.spec.connector.clone(),
        kind: PayloadKind::Page,
        stream: pull.task.spec.stream.clone(),
        slice: slice.as_ref().clone(),
        content_type: page.content_type,
        body: page.body,
        delivery_id: None,
        run_id: Some(pull.task.run_id),
        traceparent: origin.traceparent.clone(),
        received_at: page.received_at,
        expires_at: ingester.expiry(page.received_at),
    };
    let raw = &context.backends.raw;
    let id = match raw.put_payload(payload, context.settings.lease).await? {
        PutPayload::Stored(id) | PutPayload::SeenAgain(id) | PutPayload::Duplicate(id) => id,
    };
    if let Some(error) = page.error {
        raw.finish_payload(&id, Some(payload_error(&error))).await?;
        return Err(error);
    }
    let found = found(page.records, slice, &id);
    let counts = ingester
        .ingest(&pull.source, &pull.task.spec.stream, found, &origin)
        .await?;
    raw.finish_payload(&id, None).await?;
    Ok(counts)
}

/// Promise C3: decides and counts, writes nothing.
async fn rehearse(pull: &Pull, slice: &Arc<Value>, page: Page) -> Result<RunCounts> {
    if let Some(error) = page.error {
        return Err::<RunCounts, Error>(error);
    }
    let nowhere = PayloadId(String::new());
    let found = found(page.records, slice, &nowhere);
    pull.context
        .ingester()
        .ingest(&pull.source, &pull.task.spec.stream, found, &pull.origin())
        .await
}

fn found(records: Vec<Value>, slice: &Arc<Value>, payload: &PayloadId) -> Vec<Found> {
    records
        .into_iter()
        .map(|raw| Found {
            raw,
            slice: slice.clone(),
            payload: payload.clone(),
        })
        .collect()
}
