//! What the cases are made of: catalogues, records, claims, ends of attempts.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_core::{
    ConnectionId, ErrorClass, OrganizationId, Priority, TaskId, Timestamp,
    catalogue::{
        BreakerPolicy, Catalogue, CatalogueSpec, ConnectionSpec, FlowSpec, FlowTarget,
        OrganizationSpec,
    },
    message::TaskRef,
    record::{CanonicalRecord, RecordRef},
    retry::RetryPolicy,
    task::PushAction,
};

use super::{LOCATION, REQUEST};
use crate::{
    master::Route,
    task::{Attempt, AttemptError, Claim, Lease, PushNext, PushSettlement, PushTask},
};

pub fn connection(catalogue: &Catalogue, organization: OrganizationId, name: &str) -> ConnectionId {
    catalogue.connection(organization, name).unwrap().id
}

/// The catalogue of [`World`](super::World).
pub fn catalogue_spec() -> CatalogueSpec {
    let organization = |slug: &str| OrganizationSpec {
        slug: slug.into(),
        name: slug.to_uppercase(),
    };
    CatalogueSpec {
        organizations: vec![organization("acme"), organization("other")],
        connections: vec![
            connection_spec("acme", "yardi"),
            connection_spec("acme", "one"),
            connection_spec("acme", "lessen"),
            connection_spec("other", "yardi"),
            connection_spec("other", "one"),
        ],
        flows: vec![flow_spec("acme"), flow_spec("other")],
    }
}

pub fn connection_spec(organization: &str, name: &str) -> ConnectionSpec {
    ConnectionSpec {
        organization: organization.into(),
        name: name.into(),
        connector: name.into(),
        config: json!({"url": "http://localhost", "password": "env:PASSWORD"}),
        limits: Vec::new(),
        retry: RetryPolicy::default(),
        breaker: BreakerPolicy::default(),
        concurrency: 4,
    }
}

fn flow_spec(organization: &str) -> FlowSpec {
    FlowSpec {
        organization: organization.into(),
        name: "yardi-to-one".into(),
        source: "yardi".into(),
        streams: Vec::new(),
        targets: vec![FlowTarget {
            connection: "one".into(),
            entities: Vec::new(),
            priority: Priority::DEFAULT,
        }],
    }
}

/// A route for each of two entity types.
pub fn routes(connection_id: ConnectionId, target: &str) -> Vec<Route> {
    [LOCATION, REQUEST]
        .into_iter()
        .map(|entity_type| Route {
            entity_type: entity_type.into(),
            connection_id,
            target: target.into(),
            priority: Priority::DEFAULT,
            max_retries: 3,
        })
        .collect()
}

/// A location whose content is a number; `at` is its modification time in seconds since 1970.
pub fn location(source_id: &str, content: i64, at: i64) -> CanonicalRecord {
    CanonicalRecord {
        entity_type: LOCATION.into(),
        source_id: source_id.into(),
        data: json!({"content": content, "name": "Ünit \"1\" \\ 'x'"}),
        parents: Vec::new(),
        modified_at: Timestamp::from_timestamp(at, 0),
        deleted: false,
        priority: None,
    }
}

/// A service request that needs a location.
pub fn request(source_id: &str, content: i64, parent: &str) -> CanonicalRecord {
    CanonicalRecord {
        entity_type: REQUEST.into(),
        parents: vec![location_ref(parent)],
        ..location(source_id, content, 100)
    }
}

pub fn location_ref(source_id: &str) -> RecordRef {
    RecordRef {
        entity_type: LOCATION.into(),
        source_id: source_id.into(),
    }
}

/// The same record, gone at its source.
pub fn gone(record: CanonicalRecord) -> CanonicalRecord {
    CanonicalRecord {
        deleted: true,
        data: Value::Null,
        ..record
    }
}

pub fn ids(references: &[TaskRef]) -> Vec<TaskId> {
    references
        .iter()
        .map(|reference| reference.task_id)
        .collect()
}

/// Suspects included.
pub fn claim(ids: &[TaskId], lease: Duration) -> Claim {
    Claim {
        ids: ids.to_vec(),
        owner: "test".into(),
        lease,
        suspects: true,
        keeps: Vec::new(),
    }
}

pub fn attempt(error: Option<AttemptError>) -> Attempt {
    Attempt {
        started_at: Timestamp::from_timestamp(1_700_000_000, 0).unwrap(),
        duration: Duration::from_millis(12),
        calls: 2,
        error,
        reason: None,
        worker: "test".into(),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
    }
}

pub fn failure(class: ErrorClass) -> AttemptError {
    AttemptError {
        class,
        code: "test_failure".into(),
        message: "the target said no".into(),
        http_status: Some(422),
    }
}

pub fn settlement(lease: Lease, next: PushNext) -> PushSettlement {
    PushSettlement {
        lease,
        attempt: attempt(None),
        next,
        request: None,
    }
}

pub fn failed(lease: Lease, class: ErrorClass, next: PushNext) -> PushSettlement {
    PushSettlement {
        lease,
        attempt: attempt(Some(failure(class))),
        next,
        request: None,
    }
}

/// Delivered as claimed, under the external id `ext-{entity id}`.
pub fn delivered(task: &PushTask, action: PushAction) -> PushNext {
    PushNext::Delivered {
        action,
        version: task.version,
        hash: Some(sluice_core::Hash::of_json(&task.data)),
        external_id: Some(format!("ext-{}", task.entity_id)),
    }
}
