//! Payloads that nobody could read are tried once more: webhooks and files. A page is not; the
//! source is asked for it again by the next run.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::json;
use sluice_core::{EntityType, Result, run::RunCounts};
use sluice_store::raw::{
    FailedPayload, FailedPayloadQuery, InboundState, Payload, PayloadId, PayloadKind, RawRecord,
    RawRecordQuery,
};
use tracing::Instrument;

use super::RECORDS_AT_ONCE;
use crate::{
    intake,
    prepare::Prepared,
    pull::{Ended, Pull},
};

/// The field of a pull's progress that holds the last payload tried.
pub(super) const PLACE: &str = "failed_after";

/// Payloads listed at once.
const PAYLOADS_AT_ONCE: usize = 100;

/// Takes in the stream's failed payloads behind `after`.
///
/// # Errors
/// The stores'. What was checkpointed stays.
pub(super) async fn stream(pull: &Pull, mut after: PayloadId) -> Result<Ended> {
    loop {
        let query = FailedPayloadQuery {
            organization_id: pull.source.connection.organization_id,
            connection_id: Some(pull.source.connection.id),
            stream: Some(pull.task.spec.stream.clone()),
            after: Some(after),
            limit: PAYLOADS_AT_ONCE,
        };
        let listed = pull.context.backends.raw.failed_payloads(&query).await?;
        let Some(last) = listed.last() else {
            return Ok(Ended::DONE);
        };
        after = last.id.clone();
        let since = pull.task.spec.since;
        let wanted = listed
            .iter()
            .filter(|one| one.kind != PayloadKind::Page)
            .filter(|one| since.is_none_or(|since| one.received_at >= since));
        for one in wanted {
            let span = tracing::info_span!("payload", bytes = one.bytes);
            let counts = take(pull, one).instrument(span).await?;
            let progress = json!({ PLACE: one.id });
            if !pull.checkpoint(progress, None, counts).await? || pull.stopping() {
                return Ok(Ended::Stopped);
            }
        }
    }
}

/// One payload; still unreadable, it counts as one record that was read and rejected.
async fn take(pull: &Pull, listed: &FailedPayload) -> Result<RunCounts> {
    let raw = &pull.context.backends.raw;
    let organization = pull.source.connection.organization_id;
    let payload = match raw.payload(organization, &listed.id).await? {
        Some(payload) if payload.inbound == InboundState::Failed => payload,
        // It expired, or came again and is somebody else's now.
        _ => return Ok(RunCounts::default()),
    };
    let origin = pull.origin();
    let ingester = pull.context.ingester();
    let found = match intake::found(&pull.source, &payload.id, &payload.new).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = error.chain(), "a payload still cannot be read");
            if !origin.dry_run {
                ingester.fail(&pull.source, &payload.id, &error).await?;
            }
            return Ok(RunCounts {
                read: 1,
                rejected: 1,
                ..RunCounts::default()
            });
        }
    };
    let stream = &pull.task.spec.stream;
    let prepared = ingester
        .prepare(&pull.source, stream, found, &origin)
        .await?;
    let (mut prepared, stale) = leave_out_older(pull, &payload, prepared).await?;
    let outcomes = ingester
        .apply(&pull.source, stream, &mut prepared, &origin)
        .await?;
    let mut counts = ingester
        .store(&pull.source, stream, prepared, outcomes, &origin)
        .await?;
    counts.read += stale;
    counts.stale += stale;
    if !origin.dry_run {
        raw.finish_payload(&payload.id, None).await?;
    }
    Ok(counts)
}

/// Records of which the source has told us since the payload came would be set back by it
/// (promise I6).
async fn leave_out_older(
    pull: &Pull,
    payload: &Payload,
    prepared: Vec<Prepared>,
) -> Result<(Vec<Prepared>, u64)> {
    let mut ids: BTreeMap<&EntityType, BTreeSet<&str>> = BTreeMap::new();
    for one in &prepared {
        let of_type = ids.entry(&one.entity_type).or_default();
        of_type.insert(&one.source_id);
    }
    let mut newer = HashSet::new();
    for (entity_type, ids) in ids {
        for ids in chunks(ids) {
            let heard = newest(pull, entity_type, ids).await?.into_iter();
            let later = heard.filter(|record| record.sync_date > payload.new.received_at);
            newer.extend(later.map(|record| (record.entity_type, record.source_id)));
        }
    }
    let before = prepared.len();
    let mut kept = prepared;
    kept.retain(|one| !newer.contains(&(one.entity_type.clone(), one.source_id.clone())));
    let stale = before - kept.len();
    Ok((kept, u64::try_from(stale).unwrap_or(u64::MAX)))
}

fn chunks(ids: BTreeSet<&str>) -> Vec<Vec<String>> {
    let ids: Vec<_> = ids.into_iter().map(String::from).collect();
    ids.chunks(RECORDS_AT_ONCE).map(<[_]>::to_vec).collect()
}

/// The newest raw document of each of these records.
async fn newest(
    pull: &Pull,
    entity_type: &EntityType,
    source_ids: Vec<String>,
) -> Result<Vec<RawRecord>> {
    let query = RawRecordQuery {
        organization_id: Some(pull.source.connection.organization_id),
        connection_id: Some(pull.source.connection.id),
        entity_type: Some(entity_type.clone()),
        limit: source_ids.len(),
        source_ids,
        newest_only: true,
        ..RawRecordQuery::default()
    };
    Ok(pull.context.backends.raw.records(&query).await?.records)
}
