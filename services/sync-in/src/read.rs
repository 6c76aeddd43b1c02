//! Reads one slice page by page: pages are fetched, kept, applied and stored side by side.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::StreamExt;
use serde_json::{Value, json};
use sluice_connectors::source::Page;
use sluice_core::{
    Result, Timestamp,
    run::{RunCounts, RunKind},
};
use sluice_runtime::{
    failpoint::{self, Point},
    metrics as names,
};
use sluice_store::raw::{NewPayload, PayloadId, PayloadKind, PutPayload};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tracing::Instrument;

use crate::{
    ingest::{Origin, Outcome},
    prepare::{Found, Prepared},
    pull::{Ended, Pull},
};

/// Pages of one pull in memory: one fetched, three on their way (promise I4).
const PAGES_IN_HAND: usize = 4;

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
    let (sender, receiver) = mpsc::channel(PAGES_IN_HAND);
    // Behind the one record that is wanted nothing is read.
    let in_hand = match pull.task.run_kind {
        RunKind::Single => 1,
        _ => PAGES_IN_HAND,
    };
    let room = Arc::new(Semaphore::new(in_hand));
    let fetch = async {
        let mut pages = pull
            .source
            .source
            .read(&pull.task.spec.stream, &slice, progress);
        // The semaphore is never closed.
        while let Ok(room) = room.clone().acquire_owned().await
            && let Some(page) = pages.next().await
        {
            let fetched = page.map(|page| Fetched { page, room });
            if sender.send(fetched).await.is_err() {
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

/// Takes in pages in three steps, each of which works on one page while the others work on its
/// neighbours: kept and mapped, applied, stored with its outcome. Each step sees the pages in
/// order, so a record of two pages is applied as the source told it, and the checkpoint never
/// passes a page that is not through (promise I1).
async fn take_pages(
    pull: &Pull,
    slice: Arc<Value>,
    mut pages: mpsc::Receiver<Result<Fetched>>,
) -> Result<Ended> {
    if pull.task.run_kind == RunKind::Single {
        return take_until_found(pull, &slice, pages).await;
    }
    let (kept_sender, mut kept) = mpsc::channel(PAGES_IN_HAND);
    let (applied_sender, mut applied) = mpsc::channel(PAGES_IN_HAND);
    // A soft stop lets no further page in; those in hand are finished.
    let stopped = AtomicBool::new(false);
    let keep = async {
        while let Some(page) = pages.recv().await {
            if pull.stopping() {
                stopped.store(true, Ordering::Relaxed);
                break;
            }
            let page = match page {
                Ok(page) => keep_page(pull, &slice, page).await,
                Err(error) => Err(error),
            };
            if kept_sender.send(page).await.is_err() {
                return;
            }
        }
        drop(kept_sender);
    };
    let apply = async {
        while let Some(page) = kept.recv().await {
            let page = match page {
                Ok(page) => apply_page(pull, page).await,
                Err(error) => Err(error),
            };
            if applied_sender.send(page).await.is_err() {
                return;
            }
        }
        drop(applied_sender);
    };
    let finish = async {
        while let Some(page) = applied.recv().await {
            if let Taken::Stop = finish_page(pull, &slice, page?).await? {
                return Ok(Ended::Stopped);
            }
        }
        match stopped.load(Ordering::Relaxed) {
            true => Ok(Ended::Stopped),
            false => Ok(Ended::DONE),
        }
    };
    tokio::pin!(finish);
    tokio::select! {
        ended = &mut finish => ended,
        _ = async { tokio::join!(keep, apply); std::future::pending::<()>().await } => Ok(Ended::Stopped),
    }
}

/// One page after the other: nothing is read behind the record that is wanted.
async fn take_until_found(
    pull: &Pull,
    slice: &Arc<Value>,
    mut pages: mpsc::Receiver<Result<Fetched>>,
) -> Result<Ended> {
    while let Some(page) = pages.recv().await {
        let page = keep_page(pull, slice, page?).await?;
        let page = apply_page(pull, page).await?;
        match finish_page(pull, slice, page).await? {
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

/// A page and its room in memory, which it gives up when it is through.
struct Fetched {
    page: Page,
    room: OwnedSemaphorePermit,
}

/// A page on its way through the steps.
struct Underway {
    _room: OwnedSemaphorePermit,
    /// `None` in a dry run, which keeps nothing.
    payload: Option<PayloadId>,
    origin: Origin,
    prepared: Vec<Prepared>,
    /// Per prepared record; empty until applied.
    outcomes: Vec<Vec<Outcome>>,
    progress: Value,
    state: Option<(String, Value)>,
    /// Bytes and calls of the page.
    counts: RunCounts,
    began: Instant,
    span: tracing::Span,
}

/// Promise I1: the bytes are durable before anything is made of them, also when nothing can be.
async fn keep_page(pull: &Pull, slice: &Arc<Value>, fetched: Fetched) -> Result<Underway> {
    let Fetched { mut page, room } = fetched;
    let span = tracing::info_span!(
        "page",
        records = page.records.len(),
        bytes = page.body.len()
    );
    let began = Instant::now();
    let calls = u64::from(page.calls);
    pull.calls.fetch_add(calls, Ordering::Relaxed);
    async {
        let counts = RunCounts {
            bytes: page.body.len() as u64,
            calls,
            ..RunCounts::default()
        };
        let origin = pull.origin();
        let records = std::mem::take(&mut page.records);
        let (progress, state) = (page.progress.take(), page.state.take());
        let received_at = page.received_at;
        failpoint::reach(Point::SyncInFetched).await;
        let payload = keep_payload(pull, slice, &origin, page).await?;
        failpoint::reach(Point::SyncInKept).await;
        let nowhere = PayloadId(String::new());
        let payload_id = payload.as_ref().unwrap_or(&nowhere);
        let found = found(records, slice, payload_id, received_at);
        let stream = &pull.task.spec.stream;
        let prepared = pull
            .context
            .ingester()
            .prepare(&pull.source, stream, found, &origin)
            .await?;
        Ok(Underway {
            _room: room,
            payload,
            origin,
            prepared,
            outcomes: Vec::new(),
            progress,
            state,
            counts,
            began,
            span: span.clone(),
        })
    }
    .instrument(span.clone())
    .await
}

async fn keep_payload(
    pull: &Pull,
    slice: &Arc<Value>,
    origin: &Origin,
    page: Page,
) -> Result<Option<PayloadId>> {
    if origin.dry_run {
        return page.error.map_or(Ok(None), Err);
    }
    let context = &pull.context;
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
        expires_at: context.ingester().expiry(page.received_at),
    };
    let raw = &context.backends.raw;
    let id = match raw.put_payload(payload, context.settings.lease).await? {
        PutPayload::Stored(id) | PutPayload::SeenAgain(id) | PutPayload::Duplicate(id) => id,
    };
    if let Some(error) = page.error {
        context.ingester().fail(&pull.source, &id, &error).await?;
        return Err(error);
    }
    Ok(Some(id))
}

async fn apply_page(pull: &Pull, mut page: Underway) -> Result<Underway> {
    let span = page.span.clone();
    let stream = &pull.task.spec.stream;
    let ingester = pull.context.ingester();
    page.outcomes = ingester
        .apply(&pull.source, stream, &mut page.prepared, &page.origin)
        .instrument(span)
        .await?;
    failpoint::reach(Point::SyncInApplied).await;
    Ok(page)
}

async fn finish_page(pull: &Pull, slice: &Arc<Value>, page: Underway) -> Result<Taken> {
    let span = page.span.clone();
    async {
        let mut counts = page.counts;
        let ingested = pull
            .context
            .ingester()
            .store(
                &pull.source,
                &pull.task.spec.stream,
                page.prepared,
                page.outcomes,
                &page.origin,
            )
            .await?;
        counts.add(&ingested);
        failpoint::reach(Point::SyncInStored).await;
        if let Some(payload) = &page.payload {
            pull.context
                .backends
                .raw
                .finish_payload(payload, None)
                .await?;
        }
        failpoint::reach(Point::SyncInFinished).await;
        let progress = json!({ "slice": slice.as_ref(), "source": page.progress });
        let goes_on = pull.checkpoint(progress, page.state, counts).await?;
        failpoint::reach(Point::SyncInCheckpointed).await;
        metrics::histogram!(
            names::SYNC_IN_DURATION,
            "source" => pull.source.connection.spec.name.clone()
        )
        .record(page.began.elapsed());
        let found = pull.task.run_kind == RunKind::Single && ingested.read > 0;
        Ok(match (goes_on, found) {
            (false, _) => Taken::Stop,
            (true, true) => Taken::Enough,
            (true, false) => Taken::GoOn,
        })
    }
    .instrument(span)
    .await
}

fn found(
    records: Vec<Value>,
    slice: &Arc<Value>,
    payload: &PayloadId,
    received_at: Timestamp,
) -> Vec<Found> {
    records
        .into_iter()
        .map(|raw| Found {
            raw,
            broken: None,
            slice: slice.clone(),
            payload: payload.clone(),
            received_at,
        })
        .collect()
}
