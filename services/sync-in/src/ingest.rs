//! The one way in: raw records become canonical ones, the SQL store decides, the raw store keeps
//! what became of each. Safe to repeat with the same records any number of times (promise I2).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use serde_json::Value;
use sluice_connectors::source::StreamInfo;
use sluice_core::{
    EntityType, Error, ErrorClass, Result, RunId, Timestamp, change::Change, run::RunCounts,
};
use sluice_runtime::metrics as names;
use sluice_store::{
    Backends,
    master::{Applied, ApplyBatch, ApplyRecord},
    raw::{InboundState, OutboundState, RawError, RawRecord},
};

use crate::{
    SourceConnection,
    prepare::{self, Found, Prepared, Rejection},
    retention,
};

/// Canonical records applied in one transaction at most.
pub const MAX_APPLY: usize = 500;
/// Raw records stored in one call at most.
const MAX_PUT: usize = 500;

/// What pulls, webhooks, files and recovery share.
#[derive(Clone)]
pub struct Ingester {
    pub backends: Backends,
    /// How long a stored payload is ours to process.
    pub lease: Duration,
    /// Canonical records applied in one transaction, 1 to [`MAX_APPLY`].
    pub apply_batch: usize,
    /// Raw documents are kept this long; `None` keeps them for ever.
    pub keep_raw: Option<Duration>,
}

/// What the records of a page have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub run_id: Option<RunId>,
    pub traceparent: Option<String>,
    /// Decide and count; write nothing anywhere (promise C3).
    pub dry_run: bool,
    /// Leave out all records but the one with this source id.
    pub only: Option<String>,
}

impl Ingester {
    /// Takes in the records of one page. The counts cover these records, not the page's bytes
    /// and calls.
    ///
    /// # Errors
    /// Those of the stores, when nothing is known about the page's fate: do it again. Faults of
    /// single records are no errors; they are counted and kept for review.
    pub async fn ingest(
        &self,
        source: &Arc<SourceConnection>,
        stream: &str,
        found: Vec<Found>,
        origin: &Origin,
    ) -> Result<RunCounts> {
        let mut prepared = self.prepare(source, stream, found, origin).await?;
        let outcomes = self.apply(source, stream, &mut prepared, origin).await?;
        self.store(source, stream, prepared, outcomes, origin).await
    }

    /// The first step: maps and checks the records of a page.
    pub(crate) async fn prepare(
        &self,
        source: &Arc<SourceConnection>,
        stream: &str,
        found: Vec<Found>,
        origin: &Origin,
    ) -> Result<Vec<Prepared>> {
        let stream = source.stream(stream)?.clone();
        let mut prepared = prepared(source, &stream, found).await?;
        if let Some(only) = &origin.only {
            prepared.retain(|prepared| is_about(prepared, only));
        }
        Ok(prepared)
    }

    /// The last step: counts what became of each raw record and keeps it beside the record.
    pub(crate) async fn store(
        &self,
        source: &SourceConnection,
        stream: &str,
        prepared: Vec<Prepared>,
        outcomes: Vec<Vec<Outcome>>,
        origin: &Origin,
    ) -> Result<RunCounts> {
        let stream = source.stream(stream)?;
        let mut counts = RunCounts::default();
        let mut fates: BTreeMap<(EntityType, &'static str), u64> = BTreeMap::new();
        for (prepared, outcomes) in prepared.iter().zip(&outcomes) {
            let fate = Fate::of(prepared, outcomes);
            fate.count(&mut counts);
            let fates = fates.entry((prepared.entity_type.clone(), fate.as_str()));
            *fates.or_default() += 1;
        }
        // What would become of a record is no record that was dealt with.
        if origin.dry_run {
            return Ok(counts);
        }
        for ((entity_type, outcome), count) in fates {
            metrics::counter!(
                names::SYNC_IN_RECORDS,
                "source" => source.connection.spec.name.clone(),
                "entity_type" => entity_type.to_string(),
                "outcome" => outcome
            )
            .increment(count);
        }
        let mut kept: Vec<_> = prepared.into_iter().zip(outcomes).collect();
        // Of several with one id, the one that was applied is stored last: it is the newest.
        kept.sort_by_key(|(prepared, _)| !prepared.records.is_empty());
        distinct(&mut kept);
        let mut kept = kept.into_iter();
        loop {
            // One date for a batch: what is seen again moves to it in one write.
            let now = Utc::now();
            let documents: Vec<_> = kept
                .by_ref()
                .take(MAX_PUT)
                .map(|(prepared, outcomes)| {
                    self.document(source, stream, prepared, outcomes, origin, now)
                })
                .collect();
            if documents.is_empty() {
                return Ok(counts);
            }
            counts.stored += self.backends.raw.put_records(&documents).await?.new;
        }
    }

    /// When a raw document that came in at `received_at` expires.
    pub fn expiry(&self, received_at: Timestamp) -> Option<Timestamp> {
        retention::expiry(received_at, self.keep_raw?)
    }

    /// The second step: applies all canonical records; the result holds, per raw record, what became
    /// of each of its canonical records.
    pub(crate) async fn apply(
        &self,
        source: &SourceConnection,
        stream: &str,
        prepared: &mut [Prepared],
        origin: &Origin,
    ) -> Result<Vec<Vec<Outcome>>> {
        let stream = source.stream(stream)?;
        let counts: Vec<_> = prepared.iter().map(|one| one.records.len()).collect();
        // The records travel through the batches and come back, instead of being copied.
        let mut waiting = prepared
            .iter_mut()
            .flat_map(|prepared| std::mem::take(&mut prepared.records));
        let mut applied = Vec::new();
        let size = self.apply_batch.clamp(1, MAX_APPLY);
        loop {
            let batch: Vec<_> = waiting.by_ref().take(size).collect();
            if batch.is_empty() {
                break;
            }
            applied.extend(self.apply_batch(source, stream, batch, origin).await?);
        }
        let mut applied = applied.into_iter();
        let give_back = |(prepared, count): (&mut Prepared, usize)| {
            let (records, outcomes) = applied.by_ref().take(count).unzip();
            prepared.records = records;
            outcomes
        };
        Ok(prepared.iter_mut().zip(counts).map(give_back).collect())
    }

    /// Applies one batch. When the store refuses it because of its content, the batch is halved
    /// until the faulty record stands alone: it is set aside, and the others go on.
    async fn apply_batch(
        &self,
        source: &SourceConnection,
        stream: &StreamInfo,
        records: Vec<ApplyRecord>,
        origin: &Origin,
    ) -> Result<Vec<(ApplyRecord, Outcome)>> {
        let mut outcomes = Vec::with_capacity(records.len());
        // The next part to apply is on top.
        let mut parts = vec![records];
        while let Some(records) = parts.pop() {
            let mut batch = ApplyBatch {
                organization_id: source.connection.organization_id,
                connection_id: source.connection.id,
                connection: source.connection.spec.name.clone(),
                source_system: source.connection.spec.connector.clone(),
                run_id: origin.run_id,
                traceparent: origin.traceparent.clone(),
                records,
                routes: source.routes(&stream.name).to_vec(),
                dry_run: origin.dry_run,
            };
            match self.backends.master.apply(&batch).await {
                Ok(applied) => {
                    let applied = applied.into_iter().map(Outcome::Applied);
                    outcomes.extend(batch.records.into_iter().zip(applied));
                }
                Err(error) if error.class() != ErrorClass::Validation => return Err(error),
                Err(error) if batch.records.len() > 1 => {
                    let second = batch.records.split_off(batch.records.len() / 2);
                    tracing::debug!(error.code = error.code(), "halving a refused batch");
                    parts.push(second);
                    parts.push(batch.records);
                }
                Err(error) => {
                    let refused = || Outcome::Refused(Rejection::from(&error));
                    outcomes.extend(batch.records.into_iter().map(|one| (one, refused())));
                }
            }
        }
        Ok(outcomes)
    }

    fn document(
        &self,
        source: &SourceConnection,
        stream: &StreamInfo,
        prepared: Prepared,
        outcomes: Vec<Outcome>,
        origin: &Origin,
        now: Timestamp,
    ) -> RawRecord {
        let refused = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Refused(rejection) => Some(rejection),
            Outcome::Applied(_) => None,
        });
        let errors: Vec<_> = prepared
            .rejected
            .iter()
            .chain(refused)
            .map(|rejection| raw_error(rejection, now))
            .collect();
        let applied: Vec<&Applied> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Applied(applied) => Some(applied),
                Outcome::Refused(_) => None,
            })
            .collect();
        let outbound = if applied.iter().any(|applied| applied.pushes > 0) {
            source
                .routes(&stream.name)
                .iter()
                .filter(|route| {
                    let entity = &route.entity_type;
                    prepared
                        .records
                        .iter()
                        .any(|one| one.record.entity_type == *entity)
                })
                .map(|route| (route.target.clone(), OutboundState::Pending))
                .collect()
        } else {
            Vec::new()
        };
        RawRecord {
            organization_id: source.connection.organization_id,
            connection_id: source.connection.id,
            source_system: source.connection.spec.connector.clone(),
            stream: stream.name.clone(),
            entity_type: prepared.entity_type,
            source_id: prepared.source_id,
            hash: prepared.hash,
            raw: prepared.found.raw,
            slice: prepared.found.slice.as_ref().clone(),
            processed: processed(prepared.records),
            payload_id: prepared.found.payload,
            batch_number: origin.run_id.map_or(0, |run| run.0),
            sync_date: now,
            version: applied.first().map_or(0, |applied| applied.version),
            inbound: if errors.is_empty() {
                InboundState::Completed
            } else {
                InboundState::Failed
            },
            outbound,
            errors,
            expires_at: self.expiry(now),
        }
    }
}

/// Mapping takes a processor for milliseconds, so it has a thread of its own.
async fn prepared(
    source: &Arc<SourceConnection>,
    stream: &StreamInfo,
    found: Vec<Found>,
) -> Result<Vec<Prepared>> {
    let (source, stream) = (source.clone(), stream.clone());
    tokio::task::spawn_blocking(move || prepare::page(&source, &stream, found))
        .await
        .map_err(|error| {
            Error::internal("mapping_stopped", "mapping a page ended unexpectedly").caused_by(error)
        })
}

fn is_about(prepared: &Prepared, source_id: &str) -> bool {
    prepared.source_id == source_id
        || prepared
            .records
            .iter()
            .any(|one| one.record.source_id == source_id)
}

/// What became of one canonical record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Applied(Applied),
    /// The store refused its content.
    Refused(Rejection),
}

/// What became of one raw record, as counted: each exactly once, by the weightiest of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Rejected,
    Changed(Change),
    Skipped,
}

impl Fate {
    fn of(prepared: &Prepared, outcomes: &[Outcome]) -> Self {
        let refused = outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Refused(_)));
        if refused || !prepared.rejected.is_empty() {
            return Self::Rejected;
        }
        outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Applied(applied) => Some(applied.change),
                Outcome::Refused(_) => None,
            })
            .max_by_key(|change| weight(*change))
            .map_or(Self::Skipped, Self::Changed)
    }

    fn count(self, counts: &mut RunCounts) {
        counts.read += 1;
        let counter = match self {
            Self::Rejected => &mut counts.rejected,
            Self::Skipped => &mut counts.skipped,
            Self::Changed(Change::Create) => &mut counts.created,
            Self::Changed(Change::Update | Change::Restore) => &mut counts.updated,
            Self::Changed(Change::Delete) => &mut counts.deleted,
            Self::Changed(Change::Unchanged) => &mut counts.unchanged,
            Self::Changed(Change::Stale) => &mut counts.stale,
            Self::Changed(Change::Conflict) => &mut counts.conflicts,
        };
        *counter += 1;
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Changed(change) => change.as_str(),
        }
    }
}

fn weight(change: Change) -> u8 {
    match change {
        Change::Unchanged => 0,
        Change::Stale => 1,
        Change::Delete => 2,
        Change::Update => 3,
        Change::Restore => 4,
        Change::Create => 5,
        Change::Conflict => 6,
    }
}

fn raw_error(rejection: &Rejection, now: Timestamp) -> RawError {
    RawError {
        timestamp: now,
        class: rejection.class,
        code: rejection.code.clone(),
        error: rejection.message.clone(),
        retry_count: 0,
    }
}

/// The error log entry of a payload that could not be read.
pub(crate) fn payload_error(error: &Error) -> RawError {
    raw_error(&Rejection::from(error), Utc::now())
}

fn processed(records: Vec<ApplyRecord>) -> Option<Value> {
    let value = |ApplyRecord { mut record, .. }| {
        // The content is most of a record: it is moved, not copied.
        let data = std::mem::take(&mut record.data);
        let mut value = serde_json::to_value(record).ok()?;
        *value.get_mut("data")? = data;
        Some(value)
    };
    let mut values: Vec<_> = records.into_iter().filter_map(value).collect();
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(Value::Array(values)),
    }
}

/// Keeps one of each identity and content; of equals the last.
fn distinct(kept: &mut Vec<(Prepared, Vec<Outcome>)>) {
    let mut seen = std::collections::HashSet::new();
    kept.reverse();
    kept.retain(|(prepared, _)| {
        seen.insert((
            prepared.entity_type.clone(),
            prepared.source_id.clone(),
            prepared.hash,
        ))
    });
    kept.reverse();
}
