//! Delivers a claimed batch: maps, looks up what is in doubt, groups, sends, hands over outcomes.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use sluice_connectors::{
    http::{Calls, Terms},
    target::{Certainty, Found, PushBatch, PushItem, PushOperation},
};
use sluice_core::{
    EntityType, Error, ErrorClass, Hash, Result, lease, record::RecordRef, retry::Outage,
};
use sluice_runtime::{
    failpoint::{self, Point},
    metrics as names, telemetry,
};
use sluice_store::{
    request::KeptRequest,
    task::{PushNext, TargetLink},
};
use sluice_transform::{Outgoing, OutgoingInput};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use crate::{
    SyncOut, TargetConnection,
    gate::{self, Gate},
    group::{Group, group},
    keep, outcome,
    settle::{Settled, Work},
};

/// Records looked up together.
const LOOKUPS: usize = 100;
/// Longest wait in line at a limit of single paths; what would wait longer gives its place in the worker
/// to other work, and comes back for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Until when a claimed batch may be worked on (promise C2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// No call begins later.
    begin: Instant,
    /// No call lasts longer.
    end: Instant,
}

impl Deadlines {
    pub(crate) fn new(claimed: Instant, lease: Duration) -> Self {
        Self {
            begin: claimed + lease::begins_within(lease),
            end: claimed + lease::ends_within(lease),
        }
    }
}

/// What delivering needs.
pub(crate) struct Delivery<'a> {
    pub(crate) context: &'a SyncOut,
    pub(crate) target: &'a TargetConnection,
    pub(crate) outcomes: &'a mpsc::Sender<Settled>,
    pub(crate) calls: &'a Calls,
    pub(crate) deadlines: Deadlines,
}

/// A push that is mapped and ready to be sent.
pub(crate) struct Mapped {
    pub(crate) work: Work,
    pub(crate) operation: PushOperation,
    external_id: Option<String>,
    pub(crate) body: Value,
    hash: Hash,
    pub(crate) idempotency_key: String,
    /// What `body` shows; an older one than the task's when a kept request is repeated.
    version: i32,
}

/// Delivers; each push's outcome goes to the settler as soon as it is known.
pub(crate) async fn run(delivery: &Delivery<'_>, batch: Vec<Work>) {
    let mut ready = Vec::with_capacity(batch.len());
    let mut doubtful = Vec::new();
    let (mut kept, batch) = keep::load(delivery, batch).await;
    for work in batch {
        let receives = |entity: &EntityType| {
            delivery
                .target
                .receives(work.task.source_connection_id, entity)
        };
        let certainty = delivery.certainty(&work);
        let request = kept.remove(&work.task.lease.task_id);
        match gate::decide(&work.task, certainty, request.is_some(), receives) {
            Gate::Repeat => ready.extend(request.map(|request| repeat(work, request))),
            Gate::Send(operation) => {
                let external_id = linked_id(&work);
                ready.extend(delivery.map(work, operation, external_id).await);
            }
            Gate::Find => doubtful.push(work),
            Gate::NothingThere => {
                let next = outcome::never_there(&work.task);
                delivery.settle(work, next, None).await;
            }
            Gate::Blocked(on) => delivery.settle(work, PushNext::Blocked { on }, None).await,
            Gate::Unknowable => {
                let error = Error::new(
                    ErrorClass::Conflict,
                    "outcome_unknown",
                    "an earlier create may have been carried out, and the target has no way to tell",
                )
                .hint("look for the record at the target, then say what became of it: `sluice unknown settle`");
                delivery.settle(work, PushNext::Unknown, Some(&error)).await;
            }
        }
    }
    ready.extend(delivery.find(doubtful).await);
    let ready = keep::store(delivery, ready).await;
    let lost = delivery.send(ready).await;
    // Records whose link points nowhere: looked up by our reference, then updated or created anew.
    let again = delivery.find(lost).await;
    for work in delivery.send(again).await {
        let error = Error::new(
            ErrorClass::NotFound,
            "record_vanished",
            "the target found the record, then said that it is not there",
        );
        delivery.fail(work, PushOperation::Update, &error).await;
    }
}

/// The request as it was, whatever the mapping makes of its version by now.
fn repeat(work: Work, request: KeptRequest) -> Mapped {
    Mapped {
        work: Work {
            request: Some(request.version),
            ..work
        },
        operation: PushOperation::Create,
        external_id: None,
        hash: Hash::of_json(&request.body),
        body: request.body,
        idempotency_key: request.idempotency_key,
        version: request.version,
    }
}

fn linked_id(work: &Work) -> Option<String> {
    work.task
        .link
        .as_ref()
        .and_then(|link| link.external_id.clone())
}

impl Delivery<'_> {
    /// Maps a push; one that needs no call is settled here.
    async fn map(
        &self,
        work: Work,
        operation: PushOperation,
        external_id: Option<String>,
    ) -> Option<Mapped> {
        let task = &work.task;
        let parents: Vec<(RecordRef, String)> = task
            .parents
            .iter()
            .filter_map(|link| Some((link.parent.clone(), link.external_id.clone()?)))
            .collect();
        let input = OutgoingInput {
            data: &task.data,
            source_system: &task.source_system,
            source_id: &task.source_id,
            entity_id: &task.entity_id,
            parents: &parents,
            external_id: external_id.as_deref(),
            deleted: task.deleted,
            version: i64::from(task.version),
        };
        let config = &self.target.connection.spec.config;
        let mapped = self
            .target
            .mapper
            .from_canonical(&task.entity_type, &input, config);
        match mapped {
            Ok(Outgoing::Send(body)) => {
                failpoint::reach_for(Point::SyncOutMapped, &task.entity_id).await;
                let hash = Hash::of_json(&body);
                if operation == PushOperation::Update && outcome::already_there(task, hash) {
                    self.saved(1);
                    let next = outcome::skipped(task, Some(hash));
                    self.settle(work, next, None).await;
                    return None;
                }
                Some(Mapped {
                    idempotency_key: gate::idempotency_key(task, operation),
                    version: task.version,
                    work,
                    operation,
                    external_id,
                    body,
                    hash,
                })
            }
            Ok(Outgoing::Skip(reason)) => {
                tracing::debug!(
                    task.id = task.lease.task_id.0,
                    reason,
                    "left out by the mapping"
                );
                self.saved(1);
                let next = outcome::skipped(task, None);
                let work = Work {
                    reason: Some(reason.to_string()),
                    ..work
                };
                self.settle(work, next, None).await;
                None
            }
            Err(error) => {
                self.fail(work, operation, &error).await;
                None
            }
        }
    }

    /// Asks the target which of these records it has, and maps them accordingly (promise O1).
    async fn find(&self, doubtful: Vec<Work>) -> Vec<Mapped> {
        let mut by_entity: BTreeMap<EntityType, Vec<Work>> = BTreeMap::new();
        for work in doubtful {
            let entity = work.task.entity_type.clone();
            by_entity.entry(entity).or_default().push(work);
        }
        let mut ready = Vec::new();
        for (entity, mut works) in by_entity {
            while !works.is_empty() {
                let rest = works.split_off(works.len().min(LOOKUPS));
                let some = std::mem::replace(&mut works, rest);
                let (found, some) = self.look_up(&entity, some).await;
                for (found, work) in found.into_iter().zip(some) {
                    ready.extend(self.found(work, found).await);
                }
            }
        }
        ready
    }

    async fn look_up(
        &self,
        entity: &EntityType,
        mut works: Vec<Work>,
    ) -> (Vec<Result<Option<Found>>>, Vec<Work>) {
        let ids: Vec<_> = works
            .iter()
            .map(|work| work.task.entity_id.clone())
            .collect();
        let urgent = works.iter().any(Work::is_urgent);
        let lookup = Box::pin(self.target.target.lookup(entity, &ids));
        let (answer, outage) = self.call(urgent, lookup).await;
        failpoint::reach(Point::SyncOutLookedUp).await;
        let (mut found, calls) = match answer {
            Ok(answer) => answer,
            Err(error) => (vec![Err(error); ids.len()], 0),
        };
        found.resize_with(ids.len(), || Err(no_result()));
        if let Some(first) = works.first_mut() {
            first.calls += calls;
        }
        for work in &mut works {
            work.outage = outage;
        }
        (found, works)
    }

    async fn found(&self, mut work: Work, found: Result<Option<Found>>) -> Option<Mapped> {
        match found {
            Ok(Some(found)) => {
                let operation = if work.task.deleted {
                    PushOperation::Delete
                } else {
                    PushOperation::Update
                };
                self.map(work, operation, Some(found.external_id)).await
            }
            Ok(None) if work.task.deleted => {
                let next = outcome::never_there(&work.task);
                self.settle(work, next, None).await;
                None
            }
            Ok(None) => {
                work.task.link = work.task.link.take().map(|link| TargetLink {
                    external_id: None,
                    ..link
                });
                self.map(work, PushOperation::Create, None).await
            }
            Err(error) => {
                self.fail(work, PushOperation::Create, &error).await;
                None
            }
        }
    }

    /// Sends, several groups at once; returns the pushes whose link points nowhere.
    async fn send(&self, ready: Vec<Mapped>) -> Vec<Work> {
        let items = ready.into_iter().map(|mapped| {
            (
                mapped.work.task.entity_type.clone(),
                mapped.operation,
                mapped,
            )
        });
        let groups = group(items, |entity, operation| {
            self.target.target.batch_size(entity, operation)
        });
        let mut calls: FuturesUnordered<_> = groups
            .into_iter()
            .map(|group| {
                let first = group.items.first();
                let span = tracing::info_span!(
                    "push",
                    target.name = self.target.connection.spec.name,
                    entity.r#type = group.entity.as_str(),
                    operation = group.operation.as_str(),
                    records = group.items.len()
                );
                let parent = first.and_then(|mapped| mapped.work.task.traceparent.as_deref());
                telemetry::continue_from(&span, parent);
                self.send_group(group).instrument(span)
            })
            .collect();
        let mut lost = Vec::new();
        while let Some(some) = calls.next().await {
            lost.extend(some);
        }
        lost
    }

    async fn send_group(&self, group: Group<Mapped>) -> Vec<Work> {
        let Group {
            entity,
            operation,
            items: mut mapped,
        } = group;
        let items = mapped
            .iter_mut()
            .map(|mapped| PushItem {
                entity_id: mapped.work.task.entity_id.clone(),
                external_id: mapped.external_id.clone(),
                body: mapped.body.take(),
                idempotency_key: mapped.idempotency_key.clone(),
                version: i64::from(mapped.version),
            })
            .collect();
        let count = mapped.len();
        let urgent = mapped.iter().any(|mapped| mapped.work.is_urgent());
        // Thousands of bytes, which would be copied with every future around it.
        let push = Box::pin(self.target.target.push(&entity, operation, items));
        let (answer, outage) = self.call(urgent, push).await;
        failpoint::reach(Point::SyncOutAnswered).await;
        let PushBatch { mut results, calls } = match answer {
            Ok(answer) => answer,
            Err(error) => PushBatch {
                results: vec![Err(error); count],
                calls: 0,
            },
        };
        results.resize_with(count, || Err(no_result()));
        self.saved(
            u64::try_from(count)
                .unwrap_or_default()
                .saturating_sub(u64::from(calls.max(1))),
        );
        let mut lost = Vec::new();
        for (index, (mapped, result)) in mapped.into_iter().zip(results).enumerate() {
            let mut work = mapped.work;
            work.outage = outage;
            if index == 0 {
                work.calls += calls;
            }
            match result {
                Ok(receipt) => {
                    self.saved(outcome::coalesced(&work.task, mapped.version));
                    let next = outcome::delivered(mapped.version, mapped.hash, receipt);
                    self.settle(work, next, None).await;
                }
                // The link points nowhere: look for the record, once. (A deletion of what is gone
                // has succeeded; the target says so itself.)
                Err(error)
                    if error.class() == ErrorClass::NotFound
                        && operation == PushOperation::Update
                        && self.certainty(&work).by_lookup =>
                {
                    lost.push(work);
                }
                Err(error) => self.fail(work, operation, &error).await,
            }
        }
        lost
    }

    /// Makes calls when there is time for them: within the lease's first half, and not while the
    /// target wants a longer pause. A call that was not made uses no attempt. Tells besides whether
    /// the last one failed as the probe of an open breaker.
    async fn call<T>(
        &self,
        urgent: bool,
        call: impl Future<Output = T>,
    ) -> (Result<T>, Option<Outage>) {
        let terms = Terms {
            urgent,
            begin_by: Some(self.deadlines.begin),
            patience: Some(PATIENCE),
        };
        let paced = async {
            let wait = self.target.http.limiter().wait();
            if Instant::now() + wait > self.deadlines.begin {
                let error = Error::new(
                    ErrorClass::RateLimit,
                    "no_time_left",
                    "the claim is too old to begin a call",
                );
                return (Err(error.retry_after(wait)), None);
            }
            let call = tokio::time::timeout_at(self.deadlines.end, terms.hold(call));
            let (answer, outage) = Terms::watch_outage(call).await;
            let answer = answer.map_err(|_| {
                Error::new(
                    ErrorClass::Timeout,
                    "lease_over",
                    "the target did not answer while the claim lasted",
                )
            });
            (answer, outage)
        };
        self.calls.hold(paced).await
    }

    pub(crate) fn certainty(&self, work: &Work) -> Certainty {
        self.target.target.certainty(&work.task.entity_type)
    }

    pub(crate) async fn fail(&self, work: Work, operation: PushOperation, error: &Error) {
        let next = outcome::failed(
            &work.task,
            operation,
            error,
            self.certainty(&work),
            work.outage,
            &self.target.connection.spec.retry,
            &mut rand::rng(),
        );
        self.settle(work, next, Some(error)).await;
    }

    pub(crate) async fn settle(&self, work: Work, next: PushNext, error: Option<&Error>) {
        let settled = Settled::new(self.context, self.target, work, next, error);
        // The settler outlives all deliveries; it ends early only in a hard stop.
        let _ = self.outcomes.send(settled).await;
    }

    fn saved(&self, calls: u64) {
        if calls > 0 {
            metrics::counter!(
                names::CALLS_SAVED,
                "target" => self.target.connection.spec.name.clone()
            )
            .increment(calls);
        }
    }
}

fn no_result() -> Error {
    Error::internal(
        "result_missing",
        "the connector returned fewer results than there were records",
    )
}
