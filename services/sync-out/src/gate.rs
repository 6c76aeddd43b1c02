//! What a claimed push needs: a pure decision from the task alone, before anything is mapped.

use sluice_connectors::target::{Certainty, PushOperation};
use sluice_core::{EntityType, record::RecordRef};
use sluice_store::task::PushTask;

/// What comes next for a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Map and send.
    Send(PushOperation),
    /// Send the kept request once more, exactly as it was.
    Repeat,
    /// Ask the target first whether it has the record, then create, update or delete.
    Find,
    /// A deletion of what the target never had.
    NothingThere,
    /// A parent is not linked yet (promise O7).
    Blocked(RecordRef),
    /// An earlier create may have happened, and there is no way to tell: a person's work.
    Unknowable,
}

/// Decides. `kept` tells whether the request in doubt was kept; `receives` whether the target gets an entity type from the record's source: a
/// parent that never comes is not waited for.
pub fn decide(
    task: &PushTask,
    certainty: Certainty,
    kept: bool,
    receives: impl Fn(&EntityType) -> bool,
) -> Gate {
    let linked = task.is_linked();
    // Before anything newer, a deletion too.
    if !linked && task.unsettled_version.is_some() && certainty.only_by_key() && kept {
        return Gate::Repeat;
    }
    if task.deleted {
        return match (linked, task.unsettled_version) {
            (true, _) => Gate::Send(PushOperation::Delete),
            (false, None) => Gate::NothingThere,
            (false, Some(_)) if certainty.by_lookup => Gate::Find,
            (false, Some(_)) => Gate::Unknowable,
        };
    }
    let missing = task
        .parents
        .iter()
        .find(|link| link.external_id.is_none() && receives(&link.parent.entity_type));
    if let Some(link) = missing {
        return Gate::Blocked(link.parent.clone());
    }
    match (linked, task.unsettled_version) {
        // Repeating an update with the newest content is harmless.
        (true, _) => Gate::Send(PushOperation::Update),
        (false, None) => Gate::Send(PushOperation::Create),
        (false, Some(_)) if certainty.by_lookup => Gate::Find,
        (false, Some(_)) if certainty.by_refusal => Gate::Send(PushOperation::Create),
        // Sent by one who kept nothing, else there would be no doubt: the key is the same.
        (false, Some(version)) if certainty.by_key && version == task.version => {
            Gate::Send(PushOperation::Create)
        }
        (false, Some(_)) => Gate::Unknowable,
    }
}

/// The key under which a target that knows such keys does a create once: the same for every try
/// of one version whose outcome is in doubt; another one for data that somebody edited, and after a
/// refusal, because a target may
/// repeat what it said to a key without looking at the record again (promise O1). An update or deletion may follow a create of the same version whose answer was
/// lost, and is another request, which no target takes under the create's key; repeating one is
/// harmless, so each claim has its own.
pub fn idempotency_key(task: &PushTask, operation: PushOperation) -> String {
    let edit = task
        .edit
        .map_or_else(String::new, |edit| format!("e{edit}"));
    let key = format!(
        "{}-{}-{}{edit}",
        task.master_id, task.connection_id, task.version
    );
    match operation {
        PushOperation::Create if task.refusal_count == 0 => key,
        PushOperation::Create => format!("{key}-r{}", task.refusal_count),
        PushOperation::Update | PushOperation::Delete => {
            format!("{key}-{}-{}", operation.as_str(), task.lease.epoch)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use sluice_core::{ConnectionId, MasterId, OrganizationId, Priority, TaskId};
    use sluice_store::task::{Lease, ParentLink, TargetLink};

    use super::*;

    pub(crate) fn task(id: i64, entity: &str) -> PushTask {
        PushTask {
            lease: Lease {
                task_id: TaskId(id),
                epoch: 1,
            },
            organization_id: OrganizationId(1),
            connection_id: ConnectionId(2),
            priority: Priority::DEFAULT,
            master_id: MasterId(id),
            entity_type: entity.into(),
            entity_id: format!("yardi:{id}"),
            source_connection_id: ConnectionId(1),
            source_system: "yardi".into(),
            source_id: id.to_string(),
            version: 3,
            data: json!({}),
            edit: None,
            deleted: false,
            modified_at: None,
            parents: Vec::new(),
            link: None,
            unsettled_version: None,
            refusal_count: 0,
            retry_count: 0,
            max_retries: 3,
            limited_for: std::time::Duration::ZERO,
            traceparent: None,
        }
    }

    pub(crate) fn link(external_id: &str) -> Option<TargetLink> {
        Some(TargetLink {
            external_id: Some(external_id.into()),
            pushed_version: Some(1),
            pushed_hash: None,
        })
    }

    const ALL: Certainty = Certainty {
        by_lookup: true,
        by_refusal: true,
        by_key: true,
    };
    const KEY_ONLY: Certainty = Certainty {
        by_lookup: false,
        by_refusal: false,
        by_key: true,
    };
    const NEITHER: Certainty = Certainty {
        by_lookup: false,
        by_refusal: false,
        by_key: false,
    };

    fn certainty() -> impl Strategy<Value = Certainty> {
        any::<(bool, bool, bool)>().prop_map(|(by_lookup, by_refusal, by_key)| Certainty {
            by_lookup,
            by_refusal,
            by_key,
        })
    }

    /// O1: a create keeps its key over all tries; what follows it is another request.
    #[test]
    fn a_create_keeps_its_key_and_shares_it_with_nothing_else() {
        let key = |epoch, operation| {
            let mut task = task(1, "Location");
            task.lease.epoch = epoch;
            idempotency_key(&task, operation)
        };
        let create = key(1, PushOperation::Create);
        assert_eq!(create, key(2, PushOperation::Create));
        for operation in [PushOperation::Update, PushOperation::Delete] {
            assert_ne!(create, key(1, operation));
            assert_ne!(key(1, operation), key(2, operation));
        }
        let edited = PushTask {
            edit: Some(7),
            ..task(1, "Location")
        };
        assert_ne!(create, idempotency_key(&edited, PushOperation::Create));
    }

    proptest! {
        /// O1: after an intent nobody settled, a create is only sent where it cannot double.
        #[test]
        fn no_blind_second_create(unsettled in 1_i32..4, deleted: bool, kept: bool, certainty in certainty()) {
            let task = PushTask { unsettled_version: Some(unsettled), deleted, ..task(1, "Location") };
            match decide(&task, certainty, kept, |_| true) {
                Gate::Find => prop_assert!(certainty.by_lookup),
                Gate::Repeat => prop_assert!(kept && certainty.only_by_key()),
                Gate::Send(PushOperation::Create) => {
                    let same_key = certainty.by_key && unsettled == task.version;
                    prop_assert!(!deleted && (certainty.by_refusal || same_key));
                }
                Gate::Unknowable => prop_assert!(!certainty.by_lookup),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        /// O7: nothing is sent before its parents are linked, unless it is a deletion.
        #[test]
        fn children_wait_for_the_parents_that_come(
            parents in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..4), linked: bool, certainty in certainty(),
        ) {
            let parents: Vec<_> = parents
                .into_iter()
                .enumerate()
                .map(|(index, (comes, linked))| ParentLink {
                    parent: RecordRef {
                        entity_type: if comes { "Location".into() } else { "Portfolio".into() },
                        source_id: index.to_string(),
                    },
                    external_id: linked.then(|| "x".to_owned()),
                })
                .collect();
            let waits = parents.iter().any(|parent| {
                parent.external_id.is_none() && parent.parent.entity_type.as_str() == "Location"
            });
            let task = PushTask {
                parents,
                link: if linked { link("9") } else { None },
                ..task(1, "ServiceRequest")
            };
            let gate = decide(&task, certainty, false, |entity| entity.as_str() == "Location");
            prop_assert_eq!(matches!(gate, Gate::Blocked(_)), waits);
        }
    }

    #[test]
    fn linked_records_are_updated_and_deleted_new_ones_created() {
        let new = task(1, "Location");
        let linked = PushTask {
            link: link("9"),
            unsettled_version: Some(2),
            ..new.clone()
        };
        let gate = |task: &PushTask| decide(task, ALL, false, |_| true);
        assert_eq!(gate(&new), Gate::Send(PushOperation::Create));
        assert_eq!(gate(&linked), Gate::Send(PushOperation::Update));
        let gone = PushTask {
            deleted: true,
            ..linked
        };
        assert_eq!(gate(&gone), Gate::Send(PushOperation::Delete));
        let never_there = PushTask {
            deleted: true,
            ..new
        };
        assert_eq!(gate(&never_there), Gate::NothingThere);
    }

    /// O1: in doubt the same request is repeated; after a refusal it is another one.
    #[test]
    fn the_key_of_a_create_changes_with_a_refusal_only() {
        let key = |task: &PushTask| idempotency_key(task, PushOperation::Create);
        let first = task(1, "Location");
        let mut again = PushTask {
            unsettled_version: Some(3),
            ..first.clone()
        };
        again.lease.epoch = 9;
        again.retry_count = 2;
        assert_eq!(key(&first), key(&again));
        let refused = PushTask {
            refusal_count: 1,
            ..first.clone()
        };
        assert_ne!(key(&first), key(&refused));
        let newer = PushTask {
            version: 4,
            ..first.clone()
        };
        assert_ne!(key(&first), key(&newer));
        let update = |task: &PushTask| idempotency_key(task, PushOperation::Update);
        assert_ne!(update(&first), key(&first));
        assert_ne!(update(&first), update(&again));
    }

    #[test]
    fn a_key_repeats_its_own_version_only_and_neither_means_a_person() {
        let same = PushTask {
            unsettled_version: Some(3),
            ..task(1, "Location")
        };
        let older = PushTask {
            unsettled_version: Some(2),
            ..same.clone()
        };
        let gate = |task: &PushTask, certainty| decide(task, certainty, false, |_| true);
        assert_eq!(gate(&same, KEY_ONLY), Gate::Send(PushOperation::Create));
        assert_eq!(gate(&older, KEY_ONLY), Gate::Unknowable);
        assert_eq!(gate(&same, NEITHER), Gate::Unknowable);
        assert_eq!(gate(&older, ALL), Gate::Find);
    }

    /// O1: a kept request is settled before anything newer, be it a deletion or blocked.
    #[test]
    fn a_kept_request_comes_first() {
        let older = PushTask {
            unsettled_version: Some(2),
            parents: vec![ParentLink {
                parent: RecordRef {
                    entity_type: "Location".into(),
                    source_id: "0".into(),
                },
                external_id: None,
            }],
            ..task(1, "ServiceRequest")
        };
        let gone = PushTask {
            deleted: true,
            ..older.clone()
        };
        let linked = PushTask {
            link: link("9"),
            parents: Vec::new(),
            ..older.clone()
        };
        let gate = |task: &PushTask, certainty| decide(task, certainty, true, |_| true);
        assert_eq!(gate(&older, KEY_ONLY), Gate::Repeat);
        assert_eq!(gate(&gone, KEY_ONLY), Gate::Repeat);
        assert_eq!(gate(&gone, ALL), Gate::Find);
        let update = Gate::Send(PushOperation::Update);
        assert_eq!(gate(&linked, KEY_ONLY), update);
    }
}
