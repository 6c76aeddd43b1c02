//! What is configured: organizations, their connections, and the flows between them.
//!
//! The specs come from configuration files; registering them in the SQL store gives them ids.

mod limit;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ConnectionId, EntityType, OrganizationId, Priority, retry::RetryPolicy};

pub(crate) use limit::MAX_SECONDS;
pub use limit::{RateLimit, limit_problems};

/// A tenant as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationSpec {
    /// Short name, `[a-z0-9-]+`, used in queue names and labels.
    pub slug: String,
    pub name: String,
}

/// One account at a system, as configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionSpec {
    /// Slug of the organization.
    pub organization: String,
    /// Short name, `[a-z0-9-]+`, unique within the organization.
    pub name: String,
    /// Which connector folder describes the system, such as `yardi`.
    pub connector: String,
    /// What the connector's `spec` asks for. Secrets are references (`env:NAME`, `file:PATH`),
    /// never values, so that this may be stored and shown.
    pub config: Value,
    #[serde(default)]
    pub limits: Vec<RateLimit>,
    #[serde(default)]
    pub retry: RetryPolicy,
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// Calls in flight at once per process, at most. Default 4.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
}

fn default_concurrency() -> u32 {
    4
}

/// When a connection's breaker opens and closes (promise O4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerPolicy {
    /// Failures in a row that open it: nobody there, no answer, 5xx. Default 5.
    pub failures_in_a_row: u32,
    /// It also opens when this part of the calls of the last 30 seconds failed. Default 50.
    pub failed_percent: u32,
    /// Fewer calls than this in 30 seconds say nothing about the part that failed. Default 10.
    pub least_calls: u32,
    /// Wait before the first probe, in milliseconds. Doubles after each failed one. Default 5,000.
    pub first_wait_ms: u64,
    /// No wait is longer, in milliseconds. Default 600,000 (ten minutes).
    pub longest_wait_ms: u64,
    /// Good probes, one after the other, that close it. Default 3.
    pub good_probes: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures_in_a_row: 5,
            failed_percent: 50,
            least_calls: 10,
            first_wait_ms: 5_000,
            longest_wait_ms: 600_000,
            good_probes: 3,
        }
    }
}

/// Which streams of a source feed which targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSpec {
    pub organization: String,
    pub name: String,
    /// Name of the source connection.
    pub source: String,
    /// Streams in the order they are read; empty means every stream in the connector's order.
    #[serde(default)]
    pub streams: Vec<String>,
    pub targets: Vec<FlowTarget>,
}

/// One receiver of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowTarget {
    /// Name of the target connection.
    pub connection: String,
    /// Entity types it receives; empty means all that its connector can write.
    #[serde(default)]
    pub entities: Vec<EntityType>,
    #[serde(default)]
    pub priority: Priority,
}

/// Everything configured, ready to be registered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogueSpec {
    pub organizations: Vec<OrganizationSpec>,
    pub connections: Vec<ConnectionSpec>,
    pub flows: Vec<FlowSpec>,
}

/// A registered connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    pub id: ConnectionId,
    pub organization_id: OrganizationId,
    pub spec: ConnectionSpec,
}

/// A registered flow: names resolved to ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    pub organization_id: OrganizationId,
    pub source: ConnectionId,
    pub spec: FlowSpec,
}

/// Everything registered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    pub organizations: Vec<(OrganizationId, OrganizationSpec)>,
    pub connections: Vec<Connection>,
    pub flows: Vec<Flow>,
}

impl Catalogue {
    pub fn organization(&self, slug: &str) -> Option<OrganizationId> {
        self.organizations
            .iter()
            .find(|(_, spec)| spec.slug == slug)
            .map(|(id, _)| *id)
    }

    pub fn connection(&self, organization: OrganizationId, name: &str) -> Option<&Connection> {
        self.connections.iter().find(|connection| {
            connection.organization_id == organization && connection.spec.name == name
        })
    }

    pub fn connection_by_id(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.id == id)
    }

    pub fn flow(&self, organization: OrganizationId, name: &str) -> Option<&Flow> {
        self.flows
            .iter()
            .find(|flow| flow.organization_id == organization && flow.spec.name == name)
    }
}
