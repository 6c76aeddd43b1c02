//! What a push's answer means for its task: pure.

use std::time::Duration;

use rand::Rng;
use sluice_connectors::target::{Certainty, PushOperation, Receipt};
use sluice_core::{
    Error, ErrorClass, Hash,
    retry::{self, Next, Outage, RetryPolicy, Tried},
    task::PushAction,
};
use sluice_store::task::{PushNext, PushTask};

/// Longest wait of a single push for what holds up its whole connection: back in the queue it waits
/// unclaimed, as all others do.
const LONGEST_SNOOZE: Duration = Duration::from_secs(60);

/// The target did what was asked: it holds this version.
pub fn delivered(version: i32, hash: Hash, receipt: Receipt) -> PushNext {
    PushNext::Delivered {
        action: receipt.action,
        version,
        hash: Some(hash),
        external_id: Some(receipt.external_id).filter(|_| receipt.action != PushAction::Deleted),
    }
}

/// Versions between the last one that the target received and this one: each would have been a call of
/// its own (promise O2). 0 when it never received one, because nobody knows which it was meant to get.
pub fn coalesced(task: &PushTask, version: i32) -> u64 {
    let before = task.link.as_ref().and_then(|link| link.pushed_version);
    let between = before.map_or(0, |before| version.saturating_sub(before).saturating_sub(1));
    u64::try_from(between).unwrap_or(0)
}

/// Nothing had to be sent: the target holds this content already, or never gets this record.
pub fn skipped(task: &PushTask, hash: Option<Hash>) -> PushNext {
    PushNext::Delivered {
        action: PushAction::Skipped,
        version: task.version,
        hash,
        external_id: task.link.as_ref().and_then(|link| link.external_id.clone()),
    }
}

/// The target never had the record that is to be deleted there.
pub fn never_there(task: &PushTask) -> PushNext {
    PushNext::Delivered {
        action: PushAction::Skipped,
        version: task.version,
        hash: None,
        external_id: None,
    }
}

/// Whether the target already holds this content. A push whose earlier intent nobody settled is
/// always sent: what is there now may be something else.
pub fn already_there(task: &PushTask, hash: Hash) -> bool {
    task.unsettled_version.is_none()
        && task
            .link
            .as_ref()
            .is_some_and(|link| link.external_id.is_some() && link.pushed_hash == Some(hash))
}

/// What follows a failure (promises O1, O5).
pub fn failed(
    task: &PushTask,
    operation: PushOperation,
    error: &Error,
    certainty: Certainty,
    outage: Option<Outage>,
    policy: &RetryPolicy,
    rng: &mut impl Rng,
) -> PushNext {
    let lost_create = operation == PushOperation::Create
        && error.class() == ErrorClass::Timeout
        && !certainty.any();
    if lost_create {
        return PushNext::Unknown;
    }
    let policy = RetryPolicy {
        max_retries: task.max_retries,
        ..policy.clone()
    };
    let tried = Tried {
        attempts: task.retry_count.saturating_add(1),
        limited_for: task.limited_for,
        outage,
    };
    match retry::decide(error, tried, &policy, rng) {
        Next::RetryAfter(after) => PushNext::Retry { after },
        // The limiter knows how long all have to wait, and hears when a person ends that.
        Next::SnoozeFor(after) if error.class() == ErrorClass::RateLimit => PushNext::Snooze {
            after: after.min(LONGEST_SNOOZE),
        },
        Next::SnoozeFor(after) => PushNext::Snooze { after },
        Next::Dead => PushNext::Dead,
    }
}

/// The word for logs and metrics.
pub fn word(next: &PushNext) -> &'static str {
    match next {
        PushNext::Delivered { action, .. } => action.as_str(),
        PushNext::Retry { .. } => "retry_at",
        PushNext::Snooze { .. } => "snoozed",
        PushNext::Blocked { .. } => "blocked",
        PushNext::Dead => "dead",
        PushNext::Unknown => "unknown",
        PushNext::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use sluice_store::task::TargetLink;

    use super::*;
    use crate::gate::tests::{link, task};

    const NEITHER: Certainty = Certainty {
        by_lookup: false,
        by_refusal: false,
        by_key: false,
    };
    const LOOKUP: Certainty = Certainty {
        by_lookup: true,
        by_refusal: false,
        by_key: false,
    };

    fn after(class: ErrorClass, operation: PushOperation, certainty: Certainty) -> PushNext {
        failed(
            &task(1, "Location"),
            operation,
            &Error::new(class, "test_failure", "test"),
            certainty,
            None,
            &RetryPolicy::default(),
            &mut rand::rngs::StdRng::seed_from_u64(1),
        )
    }

    /// O1: a create whose answer is lost is parked where nobody can find out, and only there.
    #[test]
    fn lost_creates_are_parked_only_when_nobody_can_tell() {
        let create = PushOperation::Create;
        assert_eq!(
            after(ErrorClass::Timeout, create, NEITHER),
            PushNext::Unknown
        );
        for next in [
            after(ErrorClass::Timeout, create, LOOKUP),
            after(ErrorClass::Network, create, NEITHER),
            after(ErrorClass::Timeout, PushOperation::Update, NEITHER),
        ] {
            assert!(matches!(next, PushNext::Retry { .. }), "{next:?}");
        }
    }

    /// O5: each class has its own action; the task's own bound of retries counts.
    #[test]
    fn classes_decide() {
        let update = PushOperation::Update;
        assert_eq!(
            after(ErrorClass::Validation, update, LOOKUP),
            PushNext::Dead
        );
        assert!(matches!(
            after(ErrorClass::RateLimit, update, LOOKUP),
            PushNext::Snooze { .. }
        ));
        let pause = failed(
            &task(1, "Location"),
            update,
            &Error::new(ErrorClass::RateLimit, "test_failure", "test")
                .retry_after(Duration::from_secs(600)),
            LOOKUP,
            None,
            &RetryPolicy::default(),
            &mut rand::rngs::StdRng::seed_from_u64(1),
        );
        assert_eq!(
            pause,
            PushNext::Snooze {
                after: LONGEST_SNOOZE
            }
        );
        let tired = PushTask {
            retry_count: 1,
            max_retries: 1,
            ..task(1, "Location")
        };
        let next = failed(
            &tired,
            update,
            &Error::new(ErrorClass::TargetError, "test_failure", "test"),
            LOOKUP,
            None,
            &RetryPolicy::default(),
            &mut rand::rngs::StdRng::seed_from_u64(1),
        );
        assert_eq!(next, PushNext::Dead);
    }

    #[test]
    fn the_same_content_is_not_sent_again_unless_an_intent_is_unsettled() {
        let hash = Hash::of_bytes(b"body");
        let linked = PushTask {
            link: Some(TargetLink {
                external_id: Some("9".into()),
                pushed_version: Some(2),
                pushed_hash: Some(hash),
            }),
            ..task(1, "Location")
        };
        assert!(already_there(&linked, hash));
        assert!(!already_there(&linked, Hash::of_bytes(b"other")));
        assert!(!already_there(&task(1, "Location"), hash));
        let unsettled = PushTask {
            unsettled_version: Some(2),
            ..linked
        };
        assert!(!already_there(&unsettled, hash));
    }

    #[test]
    fn versions_in_between_are_coalesced() {
        let sent = |before: Option<i32>, version| {
            let link = before.map(|version| TargetLink {
                external_id: Some("9".into()),
                pushed_version: Some(version),
                pushed_hash: None,
            });
            let task = PushTask {
                link,
                ..task(1, "Location")
            };
            coalesced(&task, version)
        };
        assert_eq!(
            [sent(Some(1), 21), sent(Some(1), 2), sent(None, 5)],
            [19, 0, 0]
        );
        // A kept request may be older than what was sent meanwhile.
        assert_eq!(sent(Some(5), 4), 0);
    }

    #[test]
    fn a_skip_keeps_the_link_and_a_deletion_forgets_it() {
        let linked = PushTask {
            link: link("9"),
            ..task(1, "Location")
        };
        let external = |next: PushNext| match next {
            PushNext::Delivered { external_id, .. } => external_id,
            other => panic!("{other:?}"),
        };
        assert_eq!(external(skipped(&linked, None)).as_deref(), Some("9"));
        let receipt = Receipt {
            external_id: "9".into(),
            action: PushAction::Deleted,
        };
        assert_eq!(
            external(delivered(linked.version, Hash::of_bytes(b""), receipt)),
            None
        );
    }
}
