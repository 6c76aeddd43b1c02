//! Recovery: payloads that are durable but whose worker is gone are taken in by whoever looks
//! first, through the same function as ever (promise I1).

use std::sync::Arc;

use sluice_core::Result;
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    pace::{Again, Pace},
    telemetry,
};
use sluice_store::raw::{ClaimPending, Payload};
use tracing::Instrument;

use crate::SyncIn;

/// Payloads claimed at once; each may be tens of megabytes.
const AT_ONCE: usize = 4;

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
