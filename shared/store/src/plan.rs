//! What a batch does, decided from what is known: no I/O here. Both SQL backends decide with this
//! and only differ in how they read and write.

use std::collections::{BTreeMap, BTreeSet};

use crate::master::{ApplyBatch, ApplyRecord};
use sluice_core::{
    Error, MasterId, Result,
    change::{Change, Inbound, Known, decide},
};

/// Records of one batch at most, as the contract says.
const MAX_RECORDS: usize = 1_000;

/// A record that the store knew before the batch.
pub struct Stored {
    pub master_id: MasterId,
    pub version: i32,
    pub known: Known,
}

/// The decision for one record, with its position in the batch.
pub struct Decided<'a> {
    pub position: usize,
    pub input: &'a ApplyRecord,
    pub change: Change,
    pub before: Option<&'a Stored>,
}

/// Refuses what the contract does not allow.
///
/// # Errors
/// `batch_too_large` above 1,000 records, `batch_repeats_record`.
pub fn check(batch: &ApplyBatch) -> Result<()> {
    if batch.records.len() > MAX_RECORDS {
        return Err(Error::validation(
            "batch_too_large",
            format!(
                "a batch has {} records; at most {MAX_RECORDS} are allowed",
                batch.records.len()
            ),
        ));
    }
    let mut seen = BTreeSet::new();
    for ApplyRecord { record, .. } in &batch.records {
        if !seen.insert((&record.entity_type, &record.source_id)) {
            return Err(Error::validation(
                "batch_repeats_record",
                format!("a batch names a {} twice", record.entity_type),
            )
            .connection(&batch.connection));
        }
    }
    Ok(())
}

/// One decision per record, in the order of the batch.
pub fn plan<'a>(batch: &'a ApplyBatch, stored: &'a BTreeMap<usize, Stored>) -> Vec<Decided<'a>> {
    batch
        .records
        .iter()
        .enumerate()
        .map(|(position, input)| {
            let before = stored.get(&position);
            let inbound = Inbound {
                hash: input.hash,
                deleted: input.record.deleted,
                modified_at: input.record.modified_at,
            };
            Decided {
                position,
                input,
                change: decide(before.map(|stored| &stored.known), &inbound),
                before,
            }
        })
        .collect()
}

impl Decided<'_> {
    /// The newest version after the batch.
    pub fn version(&self) -> i32 {
        let before = self.before.map_or(0, |stored| stored.version);
        if self.change.makes_version() {
            before + 1
        } else {
            before
        }
    }

    /// Whether the connection's link must be written: it showed something it had not shown
    /// before, or the same at a later time. What repeats itself writes nothing.
    pub fn moves_link(&self) -> bool {
        let Some(before) = self.before else {
            return self.change == Change::Create;
        };
        let later = match (
            self.input.record.modified_at,
            before.known.last_seen_modified_at,
        ) {
            (Some(now), Some(seen)) => now > seen,
            (Some(_), None) => true,
            (None, _) => false,
        };
        match self.change {
            Change::Stale => false,
            Change::Unchanged => {
                later || (before.known.last_seen_hash != Some(self.input.hash) && !self.older())
            }
            _ => true,
        }
    }

    /// Whether both sides agree on the newest version now.
    pub fn agrees(&self) -> bool {
        self.change.makes_version()
            || (self.change == Change::Unchanged
                && !self.older()
                && self
                    .before
                    .is_some_and(|stored| stored.known.master_hash == self.input.hash))
    }

    /// An older copy, which may say the same as the newest version but tells nothing new.
    fn older(&self) -> bool {
        let seen = self
            .before
            .and_then(|stored| stored.known.last_seen_modified_at);
        matches!((self.input.record.modified_at, seen), (Some(now), Some(seen)) if now < seen)
    }
}
