//! Requests kept before they are sent, for targets that know nothing but idempotency keys: a repeat
//! under the same key with another body would be refused there, or be a new record (promise O1).

use std::collections::HashMap;

use sluice_connectors::target::{PushOperation, Target};
use sluice_core::{EntityType, Error, ErrorClass, TaskId};
use sluice_store::request::KeptRequest;

use crate::{
    deliver::{Delivery, Mapped},
    settle::Work,
};

/// Entity types whose creates go out only after they were kept.
pub(crate) fn kept_types(target: &Target) -> Vec<EntityType> {
    let mut types = target.entities();
    types.retain(|entity| target.certainty(entity).only_by_key());
    types
}

/// The kept requests that are in doubt, and the batch without those that have to wait for the store.
pub(crate) async fn load(
    delivery: &Delivery<'_>,
    batch: Vec<Work>,
) -> (HashMap<TaskId, KeptRequest>, Vec<Work>) {
    let in_doubt = |work: &Work| {
        work.task.unsettled_version.is_some() && delivery.certainty(work).only_by_key()
    };
    let ids: Vec<_> = batch
        .iter()
        .filter(|work| in_doubt(work))
        .map(|work| work.task.lease.task_id)
        .collect();
    if ids.is_empty() {
        return (HashMap::new(), batch);
    }
    match delivery.context.backends.tasks.kept_requests(&ids).await {
        Ok(found) => {
            let mut kept: HashMap<_, _> = found.into_iter().collect();
            for work in &batch {
                let id = work.task.lease.task_id;
                if kept.get(&id).is_some_and(|one| !one.is_doubted(&work.task)) {
                    kept.remove(&id);
                }
            }
            (kept, batch)
        }
        Err(error) => {
            let (waiting, rest) = batch.into_iter().partition::<Vec<_>, _>(in_doubt);
            for work in waiting {
                let error = not_kept(error.clone());
                delivery.fail(work, PushOperation::Create, &error).await;
            }
            (HashMap::new(), rest)
        }
    }
}

/// Keeps the creates that can only be repeated as they are; returns what may be sent.
pub(crate) async fn store(delivery: &Delivery<'_>, ready: Vec<Mapped>) -> Vec<Mapped> {
    let is_kept = |mapped: &Mapped| {
        mapped.operation == PushOperation::Create
            && mapped.work.request.is_none()
            && delivery.certainty(&mapped.work).only_by_key()
    };
    let (creates, mut ready) = ready.into_iter().partition::<Vec<_>, _>(is_kept);
    if creates.is_empty() {
        return ready;
    }
    let requests: Vec<_> = creates
        .iter()
        .map(|mapped| {
            let task = &mapped.work.task;
            let request = KeptRequest {
                version: task.version,
                refusal_count: task.refusal_count,
                idempotency_key: mapped.idempotency_key.clone(),
                body: mapped.body.clone(),
            };
            (task.lease, request)
        })
        .collect();
    let tasks = &delivery.context.backends.tasks;
    let answer = tasks.keep_requests(&requests).await;
    for (index, mut mapped) in creates.into_iter().enumerate() {
        let problem = match &answer {
            Ok(kept) if kept.get(index) == Some(&true) => {
                mapped.work.request = Some(mapped.work.task.version);
                ready.push(mapped);
                continue;
            }
            Ok(_) => Error::internal("lease_lost", "the claim is somebody else's by now"),
            Err(error) => error.clone(),
        };
        let problem = not_kept(problem);
        delivery
            .fail(mapped.work, PushOperation::Create, &problem)
            .await;
    }
    ready
}

/// Nothing was sent, and that costs no attempt.
fn not_kept(error: Error) -> Error {
    Error::new(
        ErrorClass::RateLimit,
        "request_not_kept",
        "the request could not be kept, so it is not sent",
    )
    .caused_by(error)
}
