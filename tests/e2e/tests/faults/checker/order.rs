//! In which order a target's ledger says that versions of a record were written.
//!
//! Calls of some targets name the version they write in an idempotency key. What the others wrote
//! follows from the attempts: a call that arrived during an attempt wrote that attempt's version. Calls
//! of workers that died, and late ones of workers that lost their lease, belong to no attempt. They
//! are judged by their content: one that was there before may come again only as that of a later
//! version.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::history::{Attempt, Call, Master, Vendor, reference_of},
    Court,
};

/// A write of one record.
struct Write<'a> {
    call: &'a Call,
    content: &'a str,
    /// What it wrote, where anybody said.
    version: Option<i64>,
}

/// Contents by the version that is known to have them.
type Contents<'a> = BTreeMap<i64, BTreeSet<&'a str>>;

impl Court<'_> {
    /// O2: nothing old after new.
    pub(super) fn sequence(&mut self, name: &str, vendor: &Vendor) {
        let mut writes: BTreeMap<&str, Vec<(&Call, &str)>> = BTreeMap::new();
        for call in vendor.calls.iter().filter(|call| call.applied) {
            for (key, content) in call.keys.iter().zip(&call.contents) {
                writes.entry(key).or_default().push((call, content));
            }
        }
        for (key, writes) in writes {
            let reference = reference_of(key);
            let mut masters = self.history.masters.iter();
            let Some(master) = masters.find(|one| one.entity_id == reference) else {
                // [`Court::calls`] accuses what is no master record.
                continue;
            };
            let attempts = self.attempts_for(master.id, name);
            let writes: Vec<_> = writes
                .into_iter()
                .map(|(call, content)| Write {
                    call,
                    content,
                    version: version_of(call).or_else(|| version_at(call.arrived, &attempts)),
                })
                .collect();
            let mut problems = older_versions(&writes);
            problems.extend(self.older_contents(master, &writes));
            for problem in problems {
                self.accuse_record("O2", name, reference, problem);
            }
        }
    }

    fn attempts_for(&self, master: i64, target: &str) -> Vec<&Attempt> {
        let tasks = self.history.tasks.iter().filter(|task| {
            task.kind == "push"
                && task.master == Some(master)
                && task.target.as_deref() == Some(target)
        });
        let ids: BTreeSet<_> = tasks.map(|task| task.id).collect();
        let attempts = self.history.attempts.iter();
        attempts
            .filter(|attempt| ids.contains(&attempt.task))
            .collect()
    }

    /// Contents that came again, and that no version they may have been explains.
    fn older_contents(&self, master: &Master, writes: &[Write]) -> Vec<String> {
        let known = contents(writes);
        let history = self.history;
        let there = |version: i64, at: i64| {
            let mut versions = history.versions.iter();
            versions
                .any(|one| one.master == master.id && one.number == version && one.created <= at)
        };
        let mut seen: Vec<&str> = Vec::new();
        // The oldest version that the newest write so far may have been.
        let mut least = 0;
        let mut problems = Vec::new();
        for write in writes {
            let of_version = |version: i64| known.get(&version);
            let told = write.version.filter(|version| {
                of_version(*version).is_some_and(|known| known.contains(write.content))
            });
            if seen.last() == Some(&write.content) {
                least = told.map_or(least, |version| least.max(version));
                continue;
            }
            let again = seen.contains(&write.content);
            let explained = (least + 1..=master.version).find(|version| {
                there(*version, write.call.arrived)
                    && of_version(*version).is_none_or(|known| known.contains(write.content))
            });
            if again && explained.is_none() {
                let sequence = write.call.sequence;
                problems.push(format!("call {sequence} wrote an older content again"));
                continue;
            }
            least = match (told, again) {
                (Some(version), _) => least.max(version),
                (None, true) => explained.unwrap_or(least),
                (None, false) => least + 1,
            };
            seen.retain(|content| *content != write.content);
            seen.push(write.content);
        }
        problems
    }
}

/// Versions named by calls that fall.
fn older_versions(writes: &[Write]) -> Vec<String> {
    let mut newest = 0;
    let mut problems = Vec::new();
    for write in writes {
        let Some(version) = version_of(write.call) else {
            continue;
        };
        if version < newest {
            let sequence = write.call.sequence;
            problems.push(format!(
                "call {sequence} wrote version {version} after {newest}"
            ));
        }
        newest = newest.max(version);
    }
    problems
}

/// What each version is known to have said. What an older one had said before belongs to that: a late
/// call may have come during another's attempt.
fn contents<'a>(writes: &[Write<'a>]) -> Contents<'a> {
    let mut told = Contents::new();
    for write in writes {
        if let Some(version) = write.version {
            told.entry(version).or_default().insert(write.content);
        }
    }
    let mut older = BTreeSet::new();
    for contents in told.values_mut() {
        if contents.len() > 1 {
            contents.retain(|content| !older.contains(content));
        }
        older.extend(contents.iter().copied());
    }
    told.retain(|_, contents| !contents.is_empty());
    told
}

/// The version in an idempotency key: `master-connection-version[-operation-claim]`.
fn version_of(call: &Call) -> Option<i64> {
    let key = call.idempotency_key.as_deref()?;
    key.split('-').nth(2)?.parse().ok()
}

/// The version of the one attempt that was under way.
fn version_at(arrived: i64, attempts: &[&Attempt]) -> Option<i64> {
    let mut under_way = attempts
        .iter()
        .filter(|attempt| (attempt.started..=attempt.ended).contains(&arrived));
    let attempt = under_way.next()?;
    match under_way.next() {
        None => attempt.version,
        Some(_) => None,
    }
}
