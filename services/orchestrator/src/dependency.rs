//! Pushes that wait for another record: cycles surface, and parents that nobody has read are
//! fetched (promise O7).

use std::{collections::BTreeMap, time::Duration};

use sluice_core::{ConnectionId, EntityType, Result, TaskId, catalogue::Catalogue, run::RunKind};
use sluice_runtime::{
    Shutdown,
    pace::{Again, Pace},
};
use sluice_store::dependency::{BlockedLook, MissingParent};

use crate::{
    Orchestrator,
    plan::{self, RunRequest},
};

/// Pause between two looks at all that is blocked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Blocked pushes looked at in one transaction.
const PAGE: u32 = 1_000;
/// A parent that its source does not know either is asked for again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
/// Fetches of one connection at once: each may read many pages to find one record.
const FETCHES: u32 = 2;

/// The streams of each source connection that make records, with what they make, in the
/// connector's order.
#[derive(Debug, Clone, Default)]
pub struct SourceStreams(BTreeMap<ConnectionId, Vec<(String, EntityType)>>);

impl SourceStreams {
    pub fn insert(&mut self, source: ConnectionId, streams: Vec<(String, EntityType)>) {
        self.0.insert(source, streams);
    }

    fn of(&self, source: ConnectionId) -> &[(String, EntityType)] {
        self.0.get(&source).map_or(&[], Vec::as_slice)
    }

    fn names(&self, source: ConnectionId) -> Vec<String> {
        let streams = self.of(source).iter();
        streams.map(|(name, _)| name.clone()).collect()
    }
}

/// Looks at blocked pushes until shutdown.
pub(crate) async fn run(context: &Orchestrator, shutdown: &Shutdown) {
    let mut after = None;
    let mut pace = Pace::new("dependencies", shutdown, LOOK_EVERY);
    loop {
        let outcome = look(context, &mut after).await;
        if !pace.next(outcome).await {
            return;
        }
    }
}

async fn look(context: &Orchestrator, after: &mut Option<TaskId>) -> Result<Again> {
    let found = context
        .backends
        .tasks
        .look_at_blocked(&BlockedLook {
            after: *after,
            limit: PAGE,
            again_after: AGAIN_AFTER,
            fetches: FETCHES,
        })
        .await?;
    *after = found.next;
    if found.cycles > 0 {
        tracing::warn!(
            pushes = found.cycles,
            "records wait for one another; their pushes are dead letters now"
        );
    }
    for parent in &found.missing {
        // It is noted as asked for, so its turn comes again; the others have theirs now.
        if let Err(error) = fetch(context, parent).await {
            tracing::warn!(error = error.chain(), "a missing parent was not fetched");
        }
    }
    Ok(if found.next.is_some() {
        Again::Now
    } else {
        Again::Later
    })
}

/// Starts a run that reads one parent, when some flow reads a stream that can hold it.
async fn fetch(context: &Orchestrator, parent: &MissingParent) -> Result<()> {
    let Some(request) = request(&context.catalogue, &context.streams, parent) else {
        return Ok(());
    };
    let available = context.streams.names(parent.source_connection_id);
    plan::start_run(
        &*context.backends.tasks,
        &context.catalogue,
        &request,
        &available,
    )
    .await
    .map(drop)
}

/// `None` when no flow reads such records from the parent's source.
fn request(
    catalogue: &Catalogue,
    streams: &SourceStreams,
    parent: &MissingParent,
) -> Option<RunRequest> {
    let holding: Vec<_> = streams
        .of(parent.source_connection_id)
        .iter()
        .filter(|(_, entity)| *entity == parent.record.entity_type)
        .map(|(name, _)| name)
        .collect();
    catalogue
        .flows
        .iter()
        .filter(|flow| {
            flow.organization_id == parent.organization_id
                && flow.source == parent.source_connection_id
        })
        .find_map(|flow| {
            let read: Vec<String> = holding
                .iter()
                .filter(|name| flow.spec.streams.is_empty() || flow.spec.streams.contains(name))
                .map(|name| (*name).clone())
                .collect();
            (!read.is_empty()).then(|| RunRequest {
                streams: read,
                record: Some(parent.record.source_id.clone()),
                requested_by: "dependency".to_owned(),
                background: true,
                ..RunRequest::new(
                    parent.organization_id,
                    flow.spec.name.clone(),
                    RunKind::Single,
                )
            })
        })
}

#[cfg(test)]
mod tests {
    use sluice_core::{
        OrganizationId,
        catalogue::{Flow, FlowSpec},
        record::RecordRef,
    };

    use super::*;

    fn flow(organization: i64, source: i64, name: &str, streams: &[&str]) -> Flow {
        Flow {
            organization_id: OrganizationId(organization),
            source: ConnectionId(source),
            spec: FlowSpec {
                organization: "acme".into(),
                name: name.into(),
                source: "src".into(),
                streams: streams.iter().map(ToString::to_string).collect(),
                targets: Vec::new(),
            },
        }
    }

    fn missing(organization: i64, entity: &str) -> MissingParent {
        MissingParent {
            organization_id: OrganizationId(organization),
            source_connection_id: ConnectionId(7),
            record: RecordRef {
                entity_type: entity.into(),
                source_id: "p1".into(),
            },
        }
    }

    /// O7, C4: by a flow of the record's own organization and source, and by the streams that can
    /// hold it, no other.
    #[test]
    fn a_parent_is_fetched_by_a_flow_that_reads_it() {
        let catalogue = Catalogue {
            flows: vec![
                flow(2, 7, "theirs", &[]),
                flow(1, 8, "elsewhere", &[]),
                flow(1, 7, "requests", &["requests"]),
                flow(1, 7, "places", &["units", "requests"]),
            ],
            ..Catalogue::default()
        };
        let mut streams = SourceStreams::default();
        let stream = |name: &str, entity: &str| (name.to_owned(), EntityType::from(entity));
        streams.insert(
            ConnectionId(7),
            vec![
                stream("properties", "Location"),
                stream("units", "Location"),
                stream("requests", "ServiceRequest"),
            ],
        );
        let found = request(&catalogue, &streams, &missing(1, "Location")).unwrap();
        assert_eq!((&*found.flow, found.kind), ("places", RunKind::Single));
        assert_eq!(found.streams, ["units"]);
        assert_eq!(found.record.as_deref(), Some("p1"));
        assert!(found.background);
        assert_eq!(request(&catalogue, &streams, &missing(1, "Resident")), None);
        assert_eq!(request(&catalogue, &streams, &missing(3, "Location")), None);
        let nothing = SourceStreams::default();
        assert_eq!(request(&catalogue, &nothing, &missing(1, "Location")), None);
    }
}
