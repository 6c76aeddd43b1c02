//! Recovery: payloads that are durable but whose worker is gone are taken in by whoever looks
//! first, through the same function as ever (promise I1).

use std::sync::Arc;

use sluice_core::{Error, Result, retry::MAX_CRASHES};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    pace::{Again, Pace},
    telemetry,
};
use sluice_store::raw::{ClaimPending, Payload};
use tracing::Instrument;

use crate::{SourceConnection, SyncIn};

/// Payloads claimed at once: one, so that the claims of each count what was done with it alone.
const AT_ONCE: usize = 1;

pub(crate) async fn run(context: &Arc<SyncIn>, shutdown: &Shutdown) {
    let mut pace = Pace::new(
        "payload-recovery",
        shutdown,
        context.settings.recovery_interval,
    );
    loop {
        let outcome = look(context).await;
        if !pace.next(outcome).await {
            return;
        }
    }
}

async fn look(context: &SyncIn) -> Result<Again> {
    let payloads = context
        .backends
        .raw
        .claim_pending(&ClaimPending {
            owner: context.worker.clone(),
            lease: context.settings.lease,
            limit: AT_ONCE,
        })
        .await?;
    let full = payloads.len() == AT_ONCE;
    let mut known = 0;
    for payload in payloads {
        known += usize::from(recover(context, &payload).await?);
    }
    // Payloads of connections that are not opened here must not keep the loop spinning.
    Ok(if full && known > 0 {
        Again::Now
    } else {
        Again::Later
    })
}

/// A payload whose workers keep dying is kept as failed (promise O8).
async fn give_up(context: &SyncIn, source: &SourceConnection, payload: &Payload) -> Result<()> {
    let error = Error::internal(
        "worker_died",
        "the workers that took the payload in died, again and again",
    );
    tracing::warn!(
        source = source.connection.spec.name,
        stream = payload.new.stream,
        error = error.chain(),
        "a payload is given up; it is kept as failed"
    );
    context.ingester().fail(source, &payload.id, &error).await
}

/// `false` when the payload's connection is not opened here: its lease runs out again, and a
/// process that has it open takes it.
async fn recover(context: &SyncIn, payload: &Payload) -> Result<bool> {
    let Some(source) = context.sources.get(payload.new.connection_id) else {
        return Ok(false);
    };
    let span = tracing::info_span!(
        "recovered payload",
        source = source.connection.spec.name,
        stream = payload.new.stream
    );
    telemetry::continue_from(&span, payload.new.traceparent.as_deref());
    if payload.claims > MAX_CRASHES {
        give_up(context, source, payload).await?;
        return Ok(true);
    }
    failpoint::reach(Point::SyncInRecovering).await;
    let processed = context
        .ingester()
        .try_process(source, &payload.id, &payload.new)
        .instrument(span)
        .await?;
    match processed {
        Ok(counts) => tracing::info!(
            source = source.connection.spec.name,
            stream = payload.new.stream,
            records = counts.read,
            "took in a payload whose worker was gone"
        ),
        Err(error) => tracing::warn!(
            source = source.connection.spec.name,
            stream = payload.new.stream,
            error = error.chain(),
            "a payload cannot be read; it is kept as failed"
        ),
    }
    Ok(true)
}
