//! Reprocessing: stored raw records go through mapping and decision once more, without a call to
//! the source. This is how a corrected mapping reaches records that were rejected.

use std::sync::Arc;

use serde_json::json;
use sluice_core::{Result, run::RunCounts};
use sluice_store::raw::{RawRecord, RawRecordQuery};
use tracing::Instrument;

use crate::{
    decode::LINE_UNREADABLE,
    prepare::Found,
    pull::{Ended, Pull},
};

/// Raw records read at once.
const RECORDS_AT_ONCE: usize = 500;

/// Takes in the newest raw record of each source id of the pull's stream.
///
/// # Errors
/// The stores'. What was checkpointed stays.
pub(crate) async fn stream(pull: &Pull) -> Result<Ended> {
    let mut after = pull
        .task
        .progress
        .as_ref()
        .and_then(|progress| progress.get("after")?.as_str().map(str::to_owned));
    loop {
        let page = pull
            .context
            .backends
            .raw
            .records(&RawRecordQuery {
                organization_id: Some(pull.source.connection.organization_id),
                connection_id: Some(pull.source.connection.id),
                stream: Some(pull.task.spec.stream.clone()),
                source_id: pull.task.spec.record.clone(),
                newest_only: true,
                after: after.take(),
                limit: RECORDS_AT_ONCE,
                ..RawRecordQuery::default()
            })
            .await?;
        let since = pull.task.spec.since;
        let found: Vec<_> = page
            .records
            .into_iter()
            .filter(|record| since.is_none_or(|since| record.sync_date >= since))
            .filter(|record| !is_broken_line(record))
            .map(|record| Found {
                raw: record.raw,
                broken: None,
                slice: Arc::new(record.slice),
                payload: record.payload_id,
                received_at: record.sync_date,
            })
            .collect();
        let span = tracing::info_span!("page", records = found.len());
        let counts = take(pull, found).instrument(span).await?;
        after = page.next;
        if !pull
            .checkpoint(json!({ "after": after }), None, counts)
            .await?
        {
            return Ok(Ended::Stopped);
        }
        if after.is_none() {
            return Ok(Ended::DONE);
        }
        if pull.stopping() {
            return Ok(Ended::Stopped);
        }
    }
}

/// No mapping can mend it: it is no record.
fn is_broken_line(record: &RawRecord) -> bool {
    let last = record.errors.last();
    last.is_some_and(|error| error.code == LINE_UNREADABLE)
}

async fn take(pull: &Pull, found: Vec<Found>) -> Result<RunCounts> {
    pull.context
        .ingester()
        .ingest(&pull.source, &pull.task.spec.stream, found, &pull.origin())
        .await
}
