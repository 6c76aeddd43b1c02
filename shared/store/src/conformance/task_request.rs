//! Cases of [`crate::RequestStore`]: creates that can only be repeated as they were (promise O1).

use std::sync::Arc;

use serde_json::json;
use sluice_core::{ErrorClass, TaskId, task::PushAction};

use super::sql::{
    LOCATION, LONG, SqlFixture, World, claim, delivered, failed, location, settlement,
};
use crate::{
    request::KeptRequest,
    task::{Lease, PushNext, PushSettlement, PushTask},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_request_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_request,
            [
                a_request_comes_back_as_it_was_kept,
                without_the_lease_nothing_is_kept,
                a_request_is_forgotten_with_its_doubt,
                what_is_newer_follows_a_repeated_request,
            ]
        );
    };
}

fn request(version: i32) -> KeptRequest {
    KeptRequest {
        version,
        refusal_count: 0,
        idempotency_key: format!("key-{version}"),
        // In this order, with these numbers.
        body: json!({"z": 1.10, "a": "Ünit \"1\" \\ 'x' \u{1F600}", "n": u64::MAX, "deep": [{"b": null}]}),
    }
}

async fn keep(w: &World, lease: Lease, request: &KeptRequest) -> bool {
    let requests = [(lease, request.clone())];
    w.tasks.keep_requests(&requests).await.unwrap() == [true]
}

async fn kept(w: &World, id: TaskId) -> Option<KeptRequest> {
    let mut found = w.tasks.kept_requests(&[id]).await.unwrap();
    assert!(found.iter().all(|(of, _)| *of == id));
    found.pop().map(|(_, request)| request)
}

async fn settle(w: &World, request: i32, settlement: PushSettlement) {
    let settlement = PushSettlement {
        request: Some(request),
        ..settlement
    };
    assert_eq!(w.tasks.settle_pushes(&[settlement]).await.unwrap(), [true]);
}

/// A push of `p1` that is claimed.
async fn claimed(w: &World) -> PushTask {
    w.apply_one(location("p1", 1, 100)).await;
    w.claim_single().await
}

pub async fn a_request_comes_back_as_it_was_kept(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let task = claimed(&w).await;
    let id = task.lease.task_id;
    assert!(w.tasks.kept_requests(&[]).await.unwrap().is_empty());
    assert!(w.tasks.keep_requests(&[]).await.unwrap().is_empty());
    assert_eq!(kept(&w, id).await, None);
    assert!(keep(&w, task.lease, &request(1)).await);
    let found = kept(&w, id).await.unwrap();
    assert_eq!(found, request(1));
    assert_eq!(
        found.body.to_string(),
        request(1).body.to_string(),
        "byte for byte"
    );
    assert!(keep(&w, task.lease, &request(2)).await);
    assert_eq!(kept(&w, id).await, Some(request(2)), "the newest only");
}

/// C2: who has lost the lease keeps nothing, and therefore sends nothing.
pub async fn without_the_lease_nothing_is_kept(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let task = claimed(&w).await;
    let outdated = Lease {
        epoch: task.lease.epoch - 1,
        ..task.lease
    };
    assert!(!keep(&w, outdated, &request(1)).await);
    assert!(w.settle(&task, delivered(&task, PushAction::Created)).await);
    assert!(!keep(&w, task.lease, &request(1)).await);
    assert_eq!(kept(&w, task.lease.task_id).await, None);
}

pub async fn a_request_is_forgotten_with_its_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let task = claimed(&w).await;
    let id = task.lease.task_id;
    keep(&w, task.lease, &request(1)).await;
    let again = PushNext::Retry {
        after: std::time::Duration::ZERO,
    };
    settle(&w, 1, failed(task.lease, ErrorClass::Timeout, again)).await;
    assert_eq!(kept(&w, id).await, Some(request(1)));
    w.rescue().await;
    let task = w.claim_single().await;
    assert!(kept(&w, id).await.unwrap().is_doubted(&task));
    settle(
        &w,
        1,
        settlement(task.lease, delivered(&task, PushAction::Created)),
    )
    .await;
    assert_eq!(kept(&w, id).await, None);
}

/// O1, O2: the version in doubt is settled first, then the newest one is sent.
pub async fn what_is_newer_follows_a_repeated_request(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let task = claimed(&w).await;
    let id = task.lease.task_id;
    keep(&w, task.lease, &request(1)).await;
    let again = PushNext::Retry {
        after: std::time::Duration::ZERO,
    };
    settle(&w, 1, failed(task.lease, ErrorClass::Timeout, again)).await;
    w.apply_one(location("p1", 2, 200)).await;
    w.rescue().await;
    let task = w.claim_single().await;
    assert_eq!((task.version, task.unsettled_version), (2, Some(1)));
    assert!(kept(&w, id).await.unwrap().is_doubted(&task));
    let of_first = PushNext::Delivered {
        action: PushAction::Created,
        version: 1,
        hash: None,
        external_id: Some("there-1".into()),
    };
    settle(&w, 1, settlement(task.lease, of_first)).await;
    let history = w.history(LOCATION, "p1").await;
    assert_eq!(history.pushes[0].attempts.last().unwrap().version, Some(1));
    let staged = w.claim_single().await;
    assert_eq!((staged.version, staged.unsettled_version), (2, None));
    let link = staged.link.unwrap();
    assert_eq!(link.external_id.as_deref(), Some("there-1"));
    let none = w.tasks.claim_pushes(&claim(&[id], LONG)).await.unwrap();
    assert!(none.tasks.is_empty());
}
