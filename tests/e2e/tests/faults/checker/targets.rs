//! What the targets' own ledgers say: once, in order, within limits.

use std::collections::{BTreeSet, HashMap};

use super::{
    super::history::{Vendor, reference_of},
    Accusation, Court,
};

impl Court<'_> {
    /// O1, O2 at the target's own ledger: nothing twice, nothing at once, nothing old after new.
    pub(super) fn order(&mut self, name: &str, vendor: &Vendor) {
        if vendor.duplicates_created > 0 {
            let problem = format!("holds {} records twice", vendor.duplicates_created);
            self.accuse("O1", name, problem);
        }
        if vendor.overlapping_writes > 0 {
            let problem = format!(
                "{} writes met another of the same record",
                vendor.overlapping_writes
            );
            self.accuse("O2", name, problem);
        }
        self.sequence(name, vendor);
    }

    pub(super) fn accuse_record(
        &mut self,
        promise: &'static str,
        target: &str,
        reference: &str,
        problem: String,
    ) {
        let masters = self.history.masters.iter();
        let ids: Vec<_> = masters
            .filter(|one| one.entity_id == reference)
            .map(|one| one.id)
            .collect();
        let histories: Vec<_> = ids
            .into_iter()
            .map(|id| self.history.about(id, target))
            .collect();
        self.accusations.push(Accusation {
            promise,
            about: format!("{reference} at {target}"),
            problem,
            history: histories.join("\n    "),
        });
    }

    fn version_counts(&self) -> HashMap<&str, i64> {
        self.history
            .masters
            .iter()
            .map(|one| (one.entity_id.as_str(), one.version))
            .collect()
    }

    /// I1, M1: nothing reached a target that master data does not know.
    pub(super) fn calls(&mut self, name: &str, vendor: &Vendor) {
        let known = self.version_counts();
        let strange: BTreeSet<_> = vendor
            .calls
            .iter()
            .filter(|call| call.applied)
            .flat_map(|call| call.keys.iter().take(call.contents.len()))
            .map(|key| reference_of(key))
            .filter(|reference| !known.contains_key(reference))
            .collect();
        for reference in strange {
            let problem = "was written and is no master record".to_owned();
            self.accuse_record("M1", name, reference, problem);
        }
    }

    /// O3: no window of any limit ever held more calls than the limit.
    pub(super) fn limits(&mut self, name: &str, vendor: &Vendor) {
        if vendor.limit_violations > 0 {
            let problem = format!("refused {} calls over its limit", vendor.limit_violations);
            self.accuse("O3", name, problem);
        }
        let mut arrivals: Vec<_> = vendor.calls.iter().map(|call| call.arrived).collect();
        arrivals.sort_unstable();
        for limit in &vendor.limits {
            let window = limit.seconds * 1_000_000;
            let worst = (0..arrivals.len())
                .map(|first| {
                    let end = arrivals[first] + window;
                    arrivals.partition_point(|arrived| *arrived < end) - first
                })
                .max()
                .unwrap_or_default();
            if worst > limit.calls {
                let problem = format!(
                    "took {worst} calls within {} s, {} are allowed",
                    limit.seconds, limit.calls
                );
                self.accuse("O3", name, problem);
            }
        }
    }
}
