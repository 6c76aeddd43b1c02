use super::*;
use crate::conformance::sql;

fn held() -> Held {
    Held {
        id: TaskId(1),
        master_id: MasterId(2),
        connection_id: ConnectionId(3),
        source: "yardi".into(),
        entity_type: "Location".into(),
        source_id: "p1".into(),
        state: TaskState::Running,
        epoch: 7,
        wanted_version: 2,
        delivered_version: Some(1),
        intent_version: Some(2),
        unsettled_version: None,
        retry_count: 1,
        crash_count: 2,
        refusal_count: 0,
        parent_linked: false,
    }
}

const LEASE: Lease = Lease {
    task_id: TaskId(1),
    epoch: 7,
};

fn settlement(class: Option<ErrorClass>, next: PushNext) -> PushSettlement {
    match class {
        Some(class) => sql::failed(LEASE, class, next),
        None => sql::settlement(LEASE, next),
    }
}

/// C2: another epoch or a task that does not run is no lease.
#[test]
fn a_lease_counts_only_while_it_is_in_force() {
    let lease = |epoch| Lease {
        task_id: TaskId(1),
        epoch,
    };
    assert!(held().is_leased_by(lease(7)));
    assert!(!held().is_leased_by(lease(6)));
    for state in TaskState::ALL {
        let rescued = Held { state, ..held() };
        assert_eq!(rescued.is_leased_by(lease(7)), state == TaskState::Running);
    }
}

/// O1: what may have been carried out stays on record, whatever happens to the task.
#[test]
fn the_intent_is_forgotten_only_when_nothing_can_have_been_sent() {
    let retry = || PushNext::Retry {
        after: Duration::from_secs(1),
    };
    for class in ErrorClass::ALL {
        for next in [retry(), PushNext::Dead, PushNext::Cancelled] {
            let settlement = settlement(Some(class), next);
            let kept = settle(&held(), &settlement).intent_version.is_some();
            assert_eq!(kept, class.may_have_been_applied(), "{class}");
        }
    }
    let without = settlement(None, retry());
    assert_eq!(settle(&held(), &without).intent_version, Some(2));
    let unknown = settlement(Some(ErrorClass::Validation), PushNext::Unknown);
    assert_eq!(settle(&held(), &unknown).intent_version, Some(2));
}

/// O2: a version that came during the call is never lost, whatever became of the call.
#[test]
fn a_newer_version_is_never_left_behind() {
    let newer = Held {
        wanted_version: 3,
        ..held()
    };
    let delivered = PushNext::Delivered {
        action: PushAction::Updated,
        version: 2,
        hash: None,
        external_id: None,
    };
    for next in [delivered, PushNext::Dead, PushNext::Cancelled] {
        let settlement = settlement(Some(ErrorClass::Validation), next);
        let outcome = settle(&newer, &settlement);
        assert_eq!(outcome.state, TaskState::Pending);
        assert_eq!(outcome.dead_letter, None);
        assert!(!settle(&held(), &settlement).state.is_open());
    }
}

/// O8: only a success clears a suspect; one that is dead begins as a suspect again.
#[test]
fn a_suspect_is_cleared_by_success_only() {
    let after = Duration::from_secs(1);
    let crashes = |next| settle(&held(), &settlement(None, next)).crash_count;
    assert_eq!(crashes(PushNext::Retry { after }), 2);
    assert_eq!(crashes(PushNext::Snooze { after }), 2);
    assert_eq!(crashes(PushNext::Dead), 1);
    let delivered = PushNext::Delivered {
        action: PushAction::Created,
        version: 2,
        hash: None,
        external_id: None,
    };
    assert_eq!(crashes(delivered), 0);
}

/// O1: what the target refused is counted, what it may have done is not.
#[test]
fn only_definite_refusals_are_counted() {
    for class in ErrorClass::ALL {
        let settlement = settlement(Some(class), PushNext::Dead);
        let counted = settle(&held(), &settlement).refusal_count == 1;
        assert!(!(counted && class.may_have_been_applied()), "{class}");
        assert_eq!(counted, is_refusal(class), "{class}");
    }
}

/// O5, O7: rate limits and missing parents cost no attempt; failures do.
#[test]
fn only_failures_cost_attempts() {
    let after = Duration::from_secs(1);
    let count = |next| settle(&held(), &settlement(None, next)).retry_count;
    assert_eq!(count(PushNext::Retry { after }), 2);
    assert_eq!(count(PushNext::Snooze { after }), 1);
    let on = RecordRef {
        entity_type: "Location".into(),
        source_id: "p/0".into(),
    };
    assert_eq!(count(PushNext::Blocked { on: on.clone() }), 1);
    let blocked = settlement(None, PushNext::Blocked { on });
    let outcome = settle(&held(), &blocked);
    assert_eq!(outcome.blocked_on.as_deref(), Some("yardi/Location/p/0"));
    assert_eq!((outcome.attempt, outcome.intent_version), (None, None));
}

/// O6: attempts tell what was tried; a wait for a turn is none, and may happen many times.
#[test]
fn waiting_for_a_turn_is_no_attempt() {
    let after = Duration::from_secs(1);
    let recorded = |code: &str, calls| {
        let mut settlement = settlement(Some(ErrorClass::RateLimit), PushNext::Snooze { after });
        settlement.attempt.calls = calls;
        if let Some(error) = &mut settlement.attempt.error {
            error.code = code.into();
        }
        let outcome = settle(&held(), &settlement);
        assert_eq!((outcome.wait, outcome.error.is_some()), (Some(after), true));
        outcome.attempt.is_some()
    };
    assert!(!recorded("no_turn_soon", 0));
    assert!(
        recorded("no_turn_soon", 1),
        "it looked for the record before"
    );
    assert!(recorded("target_rate_limited", 1));
}

fn delivered(version: i32) -> PushNext {
    PushNext::Delivered {
        action: PushAction::Created,
        version,
        hash: None,
        external_id: Some("9".into()),
    }
}

/// A kept request of version 1 went out again, although version 2 is claimed.
fn repeated(class: Option<ErrorClass>, next: PushNext) -> PushSettlement {
    PushSettlement {
        request: Some(1),
        ..settlement(class, next)
    }
}

fn doubtful() -> Held {
    Held {
        delivered_version: None,
        unsettled_version: Some(1),
        ..held()
    }
}

/// O1: what is in doubt is settled first; what is newer follows as soon as that is certain.
#[test]
fn a_repeated_request_counts_for_its_own_version() {
    let done = repeated(None, delivered(1));
    let outcome = settle(&doubtful(), &done);
    assert_eq!(outcome.state, TaskState::Pending, "version 2 is owed");
    assert_eq!(outcome.delivered_version, Some(1));
    assert_eq!(
        (outcome.intent_version, outcome.unsettled_version),
        (None, None)
    );
    assert!(outcome.forget_request);

    let after = Duration::from_secs(1);
    let lost = repeated(Some(ErrorClass::Timeout), PushNext::Retry { after });
    let outcome = settle(&doubtful(), &lost);
    assert_eq!(
        (
            outcome.intent_version,
            outcome.unsettled_version,
            outcome.forget_request
        ),
        (None, Some(1), false),
        "version 2 was not sent"
    );
    assert_eq!(outcome.attempt.unwrap().2, Some(1));

    let refused = repeated(Some(ErrorClass::Validation), PushNext::Dead);
    let outcome = settle(&doubtful(), &refused);
    assert_eq!(outcome.state, TaskState::Pending, "it is not there");
    assert_eq!(
        (outcome.unsettled_version, outcome.refusal_count),
        (None, 1)
    );
    assert!(outcome.forget_request);

    let tired = repeated(Some(ErrorClass::Timeout), PushNext::Dead);
    let outcome = settle(&doubtful(), &tired);
    assert_eq!(
        outcome.state,
        TaskState::Dead,
        "nothing newer while in doubt"
    );
    assert_eq!(
        (outcome.unsettled_version, outcome.forget_request),
        (Some(1), false)
    );
}

/// O1: a version that was edited while in doubt is sent as edited once its first form is settled.
#[test]
fn an_edit_follows_what_was_in_doubt() {
    let edited = Held {
        wanted_version: 1,
        intent_version: Some(1),
        unsettled_version: Some(OTHER_DATA),
        ..doubtful()
    };
    let settlement = repeated(None, delivered(1));
    let outcome = settle(&edited, &settlement);
    assert_eq!(
        (outcome.state, outcome.delivered_version),
        (TaskState::Pending, None)
    );
    assert!(outcome.link.is_some() && outcome.forget_request);
}

/// O1: the first time a request is kept and sent, it is the claimed version's.
#[test]
fn a_kept_request_is_forgotten_once_its_outcome_is_known() {
    let first = |class, next| {
        let settlement = PushSettlement {
            request: Some(2),
            ..settlement(class, next)
        };
        let outcome = settle(&held(), &settlement);
        (outcome.intent_version, outcome.forget_request)
    };
    let after = Duration::from_secs(1);
    assert_eq!(first(None, delivered(2)), (None, true));
    let retry = || PushNext::Retry { after };
    assert_eq!(first(Some(ErrorClass::Timeout), retry()), (Some(2), false));
    assert_eq!(first(Some(ErrorClass::Network), retry()), (None, true));
}
