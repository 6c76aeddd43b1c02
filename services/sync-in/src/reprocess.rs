//! Reprocessing: what is stored goes through extraction, mapping and decision once more, without a
//! call to the source. This is how a corrected connector reaches records that were rejected, and
//! payloads that nobody could read.

mod failed;

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_core::{Result, run::RunCounts};
use sluice_store::raw::{PayloadId, RawRecord, RawRecordQuery};
use tracing::Instrument;

use crate::{
    decode::LINE_UNREADABLE,
    prepare::Found,
    pull::{Ended, Pull},
};

/// Raw records read at once.
const RECORDS_AT_ONCE: usize = 500;

/// Takes in the newest raw record of each source id of the pull's stream, then the payloads of the
/// stream that could not be read.
///
/// # Errors
/// The stores'. What was checkpointed stays.
pub(crate) async fn stream(pull: &Pull) -> Result<Ended> {
    let place = |name: &str| match pull.task.progress.as_ref()?.get(name)? {
        Value::String(place) => Some(place.clone()),
        _ => None,
    };
    let failed_after = match place(failed::PLACE) {
        Some(after) => after,
        None => match records(pull, place("after")).await? {
            Ended::Stopped => return Ok(Ended::Stopped),
            // Ids are in order, and none comes before the empty one.
            Ended::Done { .. } => String::new(),
        },
    };
    // Nobody knows whether a payload that cannot be read holds the one record.
    if pull.task.spec.record.is_some() {
        return Ok(Ended::DONE);
    }
    failed::stream(pull, PayloadId(failed_after)).await
}

async fn records(pull: &Pull, mut after: Option<String>) -> Result<Ended> {
    loop {
        let page = pull
            .context
            .backends
            .raw
            .records(&RawRecordQuery {
                organization_id: Some(pull.source.connection.organization_id),
                connection_id: Some(pull.source.connection.id),
                stream: Some(pull.task.spec.stream.clone()),
                source_ids: pull.task.spec.record.iter().cloned().collect(),
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
        let progress = match &after {
            Some(after) => json!({ "after": after }),
            None => json!({ failed::PLACE: "" }),
        };
        if !pull.checkpoint(progress, None, counts).await? {
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
