//! What people and the configuration do to the shared state of a connection's calls.

use sluice_core::{
    ConnectionId, Error, Result,
    catalogue::{Catalogue, RateLimit},
    traffic::{Nanos, Traffic},
};
use sluice_store::FleetStore;

use super::DOCUMENT;

/// The shared state by connection, for those that were called or changed before, and the store's
/// time.
///
/// # Errors
/// When the store cannot be asked.
pub async fn look(fleet: &dyn FleetStore) -> Result<(Vec<(ConnectionId, Traffic)>, Nanos)> {
    let (documents, clock) = fleet.documents(DOCUMENT).await?;
    let traffic = documents
        .into_iter()
        .filter_map(|(id, document)| Some((id, serde_json::from_value(document).ok()?)))
        .collect();
    Ok((traffic, clock.now))
}

/// Changes the shared state of one connection; `limits` are those of its configuration.
///
/// # Errors
/// When the store cannot be asked.
pub async fn change(
    fleet: &dyn FleetStore,
    connection: ConnectionId,
    limits: &[RateLimit],
    mut change: impl FnMut(&mut Traffic, Nanos) + Send,
) -> Result<()> {
    fleet
        .change(connection, DOCUMENT, &mut |document, clock| {
            let mut traffic = document
                .and_then(|document| serde_json::from_value(document).ok())
                .unwrap_or_else(|| Traffic::new(limits));
            change(&mut traffic, clock.now);
            written(&traffic).map(Some)
        })
        .await
}

/// Puts the configuration's limits in force where they have changed since they were last taken
/// over; limits set by hand stay until then. Called when a process starts.
///
/// # Errors
/// When the store cannot be asked.
pub async fn configure(fleet: &dyn FleetStore, catalogue: &Catalogue) -> Result<()> {
    let (known, _) = look(fleet).await?;
    for connection in &catalogue.connections {
        let limits = &connection.spec.limits;
        let current = known.iter().find(|(id, _)| *id == connection.id);
        if current.is_some_and(|(_, traffic)| traffic.pace.is_configured(limits)) {
            continue;
        }
        change(fleet, connection.id, limits, |traffic, now| {
            if traffic.pace.configure(limits, now) {
                let connection = &connection.spec.name;
                tracing::info!(connection, "limits changed with the configuration");
            }
        })
        .await?;
    }
    Ok(())
}

pub(super) fn written(traffic: &Traffic) -> Result<serde_json::Value> {
    serde_json::to_value(traffic).map_err(|error| {
        Error::internal(
            "traffic_unwritable",
            "the limiter's state cannot be written",
        )
        .caused_by(error)
    })
}
