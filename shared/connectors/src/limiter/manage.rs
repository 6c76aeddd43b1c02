//! What people and the configuration do to the shared state of a connection's calls.

use sluice_core::{
    ConnectionId, Error, Result,
    catalogue::{Catalogue, Connection, RateLimit, limit_problems},
    traffic::{Nanos, Traffic},
};
use sluice_store::{FleetStore, fleet::By};

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
async fn change(
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

/// A person's change, with its entry in the audit: what it was before, what it is now, and why.
///
/// # Errors
/// `reason_too_long`; when the store cannot be asked.
async fn change_by(
    fleet: &dyn FleetStore,
    connection: &Connection,
    by: By<'_>,
    reason: Option<&str>,
    mut change: impl FnMut(&mut Traffic, Nanos) -> String + Send,
) -> Result<()> {
    if reason.is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Error::validation(
            "reason_too_long",
            format!("a reason has at most {MAX_REASON} bytes"),
        ));
    }
    let spec = &connection.spec;
    fleet
        .change_by(connection.id, DOCUMENT, by, &mut |document, clock| {
            let mut traffic = document
                .and_then(|document| serde_json::from_value(document).ok())
                .unwrap_or_else(|| Traffic::new(&spec.limits));
            let what = change(&mut traffic, clock.now);
            let why = reason.map(|reason| format!(": {reason}"));
            let detail = format!("{}, {what}{}", spec.name, why.unwrap_or_default());
            Ok((written(&traffic)?, detail))
        })
        .await
}

/// Longest reason, in bytes.
const MAX_REASON: usize = 1_000;

/// Which limits a person wants in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These, until the configuration changes.
    These(Vec<RateLimit>),
    /// Those of the configuration, as the fleet knows it.
    Configured,
}

/// Puts limits in force by hand, in every process at once.
///
/// # Errors
/// `limits_invalid`, `reason_too_long` (Validation); else when the store cannot be asked.
pub async fn set_limits(
    fleet: &dyn FleetStore,
    connection: &Connection,
    wanted: &Wanted,
    actor: &str,
    reason: Option<&str>,
) -> Result<()> {
    if let Wanted::These(limits) = wanted {
        check(limits)?;
    }
    let event = "connection.limited";
    let by = By { actor, event };
    change_by(fleet, connection, by, reason, |traffic, now| {
        let before = shown(traffic.pace.limits());
        let (limits, from) = match wanted {
            Wanted::These(limits) => (limits.clone(), ""),
            Wanted::Configured => (traffic.pace.configured().to_vec(), "the configuration's "),
        };
        traffic.pace.set_limits(&limits, now);
        format!("from {before} to {from}{}", shown(&limits))
    })
    .await
}

/// A connection without any limit is a matter of the configuration: by hand it is a slip more
/// often than a wish.
fn check(limits: &[RateLimit]) -> Result<()> {
    let mut problems = limit_problems(limits);
    if limits.is_empty() {
        problems.push("at least one limit is needed".to_owned());
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::validation("limits_invalid", problems.join("; "))
        .hint("docs/configuration.md has the bounds of limits"))
}

/// Closes the breaker and ends a pause.
///
/// # Errors
/// When the store cannot be asked.
pub async fn resume(
    fleet: &dyn FleetStore,
    connection: &Connection,
    actor: &str,
    reason: Option<&str>,
) -> Result<()> {
    let event = "connection.resumed";
    let by = By { actor, event };
    change_by(fleet, connection, by, reason, |traffic, now| {
        let paused = traffic.pace.paused_until() > now;
        let breaker = traffic.breaker.look(now).state;
        traffic.breaker.close(now);
        traffic.pace.resume();
        let pause = if paused { "paused" } else { "not paused" };
        format!("breaker was {breaker}, {pause}")
    })
    .await
}

/// Limits as the command line takes them.
pub fn shown(limits: &[RateLimit]) -> String {
    let all: Vec<_> = limits.iter().map(ToString::to_string).collect();
    if all.is_empty() {
        "no limit".to_owned()
    } else {
        all.join(" ")
    }
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
