//! Which connections receive a record: the flows of its source, seen from one stream.

use std::collections::BTreeMap;

use crate::{
    ConnectionId, EntityType, Priority,
    catalogue::{Catalogue, Connection},
};

/// One connection that receives an entity type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    pub entity_type: EntityType,
    pub connection_id: ConnectionId,
    /// The most urgent of the flows that lead there.
    pub priority: Priority,
}

impl Catalogue {
    /// Who receives what comes from `source`, ordered by entity type and connection. All flows of
    /// the source count, whichever of them a run belongs to: a change is one fact, and a flow that
    /// runs later finds nothing new to tell its targets.
    ///
    /// `stream` leaves out flows that do not read it; `None` means any stream. `writable` tells
    /// what a connection's connector can write, for flows that name no entity types.
    pub fn receivers(
        &self,
        source: ConnectionId,
        stream: Option<&str>,
        writable: impl Fn(&Connection) -> Vec<EntityType>,
    ) -> Vec<Receiver> {
        let mut found: BTreeMap<(EntityType, ConnectionId), Priority> = BTreeMap::new();
        for flow in self.flows.iter().filter(|flow| {
            flow.source == source && stream.is_none_or(|stream| flow.spec.reads(stream))
        }) {
            for target in &flow.spec.targets {
                let Some(connection) = self.connection(flow.organization_id, &target.connection)
                else {
                    continue;
                };
                let entities = if target.entities.is_empty() {
                    writable(connection)
                } else {
                    target.entities.clone()
                };
                for entity in entities {
                    found
                        .entry((entity, connection.id))
                        .and_modify(|priority| *priority = (*priority).min(target.priority))
                        .or_insert(target.priority);
                }
            }
        }
        found
            .into_iter()
            .map(|((entity_type, connection_id), priority)| Receiver {
                entity_type,
                connection_id,
                priority,
            })
            .collect()
    }

    /// Connections that some flow reads, each once.
    pub fn sources(&self) -> Vec<&Connection> {
        self.connections
            .iter()
            .filter(|connection| self.flows.iter().any(|flow| flow.source == connection.id))
            .collect()
    }

    /// Connections that some flow writes to, each once.
    pub fn targets(&self) -> Vec<&Connection> {
        self.connections
            .iter()
            .filter(|connection| {
                self.flows.iter().any(|flow| {
                    flow.organization_id == connection.organization_id
                        && flow
                            .spec
                            .targets
                            .iter()
                            .any(|target| target.connection == connection.spec.name)
                })
            })
            .collect()
    }

    /// Slug of an organization, for queue names and labels.
    pub fn organization_slug(&self, id: crate::OrganizationId) -> Option<&str> {
        self.organizations
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, spec)| spec.slug.as_str())
    }
}

impl crate::catalogue::FlowSpec {
    /// Whether the flow reads this stream.
    pub fn reads(&self, stream: &str) -> bool {
        self.streams.is_empty() || self.streams.iter().any(|name| name == stream)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        OrganizationId,
        catalogue::{ConnectionSpec, Flow, FlowSpec, FlowTarget},
    };

    fn connection(id: i64, organization: i64, name: &str) -> Connection {
        Connection {
            id: ConnectionId(id),
            organization_id: OrganizationId(organization),
            spec: serde_json::from_value::<ConnectionSpec>(json!({
                "organization": "acme", "name": name, "connector": name, "config": {}
            }))
            .unwrap(),
        }
    }

    fn flow(source: i64, streams: &[&str], targets: &[(&str, &[&str], u8)]) -> Flow {
        Flow {
            organization_id: OrganizationId(1),
            source: ConnectionId(source),
            spec: FlowSpec {
                organization: "acme".into(),
                name: format!("flow-{source}-{}", targets.len()),
                source: "yardi".into(),
                streams: streams.iter().map(ToString::to_string).collect(),
                targets: targets
                    .iter()
                    .map(|(name, entities, priority)| FlowTarget {
                        connection: (*name).into(),
                        entities: entities
                            .iter()
                            .map(|name| EntityType::from(*name))
                            .collect(),
                        priority: Priority::try_from(*priority).unwrap(),
                    })
                    .collect(),
            },
        }
    }

    fn catalogue() -> Catalogue {
        Catalogue {
            organizations: Vec::new(),
            connections: vec![
                connection(1, 1, "yardi"),
                connection(2, 1, "one"),
                connection(3, 1, "lessen360"),
                connection(4, 2, "one"),
            ],
            flows: vec![
                flow(1, &[], &[("one", &["Location"], 5), ("lessen360", &[], 8)]),
                flow(1, &["units"], &[("one", &["Location", "Resident"], 2)]),
            ],
        }
    }

    #[test]
    fn all_flows_of_the_source_count_and_the_most_urgent_wins() {
        let all = catalogue().receivers(ConnectionId(1), None, |_| vec!["Location".into()]);
        let seen: Vec<_> = all
            .iter()
            .map(|r| (r.entity_type.as_str(), r.connection_id.0, r.priority.get()))
            .collect();
        assert_eq!(
            seen,
            [("Location", 2, 2), ("Location", 3, 8), ("Resident", 2, 2)]
        );
    }

    /// C4: a connection of the same name in another organization receives nothing.
    #[test]
    fn flows_that_do_not_read_the_stream_and_other_organizations_are_left_out() {
        let others = catalogue().receivers(ConnectionId(1), Some("residents"), |_| {
            vec!["Location".into()]
        });
        assert_eq!(others.len(), 2);
        assert!(others.iter().all(|r| r.entity_type.as_str() == "Location"));
        assert_eq!(
            catalogue()
                .targets()
                .iter()
                .map(|c| c.id.0)
                .collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!(
            catalogue()
                .sources()
                .iter()
                .map(|c| c.id.0)
                .collect::<Vec<_>>(),
            [1]
        );
    }
}
