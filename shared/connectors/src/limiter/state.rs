//! How connections may be called now, as people see it: limits in force, breaker, pause.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sluice_core::{
    OrganizationId, Result,
    catalogue::{Catalogue, Connection, RateLimit},
    traffic::{Nanos, Traffic, breaker::Cause},
};
use sluice_store::FleetStore;

use super::manage;

/// One connection, as all processes see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallState {
    pub connection: String,
    /// In force.
    pub limits: Vec<RateLimit>,
    /// Those of the configuration, as the fleet took them over last.
    pub configured_limits: Vec<RateLimit>,
    /// Whether a person put others in force than the configuration's.
    pub limits_by_hand: bool,
    pub breaker: &'static str,
    /// Why the breaker opened.
    pub reason: Option<&'static str>,
    /// What the last failed call failed with, while it is open.
    pub cause: Option<Cause>,
    pub open_since: Option<DateTime<Utc>>,
    pub next_probe: Option<DateTime<Utc>>,
    pub paused_until: Option<DateTime<Utc>>,
}

/// The connections of an organization.
///
/// # Errors
/// When the store cannot be asked.
pub async fn of_organization(
    fleet: &dyn FleetStore,
    catalogue: &Catalogue,
    organization: OrganizationId,
) -> Result<Vec<CallState>> {
    let (known, now) = manage::look(fleet).await?;
    let connections = catalogue.connections.iter();
    Ok(connections
        .filter(|connection| connection.organization_id == organization)
        .map(|connection| {
            let traffic = known.iter().find(|(id, _)| *id == connection.id);
            of(connection, traffic.map(|(_, traffic)| traffic), now)
        })
        .collect())
}

/// The state of one connection; `traffic` is `None` when it was never called or changed.
pub fn of(connection: &Connection, traffic: Option<&Traffic>, now: Nanos) -> CallState {
    let fresh;
    let traffic = match traffic {
        Some(traffic) => traffic,
        None => {
            fresh = Traffic::new(&connection.spec.limits);
            &fresh
        }
    };
    let pace = &traffic.pace;
    let breaker = traffic.breaker.look(now);
    CallState {
        connection: connection.spec.name.clone(),
        limits: pace.limits().to_vec(),
        configured_limits: pace.configured().to_vec(),
        limits_by_hand: pace.limits() != pace.configured(),
        breaker: breaker.state,
        reason: breaker.reason.map(|reason| reason.as_str()),
        cause: breaker.cause,
        open_since: breaker.open_since.map(DateTime::from_timestamp_nanos),
        next_probe: breaker.next_probe.map(DateTime::from_timestamp_nanos),
        paused_until: Some(pace.paused_until())
            .filter(|until| *until > now)
            .map(DateTime::from_timestamp_nanos),
    }
}
