//! Connections: how they may be called now, and live changes to that (promises O3, O4).

use axum::{Json, extract::State};
use serde::Deserialize;
use sluice_connectors::limiter::{
    manage::{self, Wanted},
    state::{self, CallState},
};
use sluice_core::{
    ConnectionId,
    catalogue::{Connection, RateLimit},
};

use super::{
    Caller, Endpoint,
    input::{Body, Page},
};
use crate::{Api, problem::Problem};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/connections", list),
        Endpoint::post("/connections/limit", limit),
        Endpoint::post("/connections/resume", resume),
    ]
}

/// Not paged: they are as many as the configuration has.
async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Page<CallState>>, Problem> {
    let states = states(&api, &caller).await?;
    Ok(Json(Page::new(states, None)))
}

async fn states(api: &Api, caller: &Caller) -> Result<Vec<CallState>, Problem> {
    let fleet = &*api.backends.fleet;
    Ok(state::of_organization(fleet, &api.catalogue, caller.organization_id).await?)
}

/// Which limits, for which connection, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    connection: String,
    /// In force until the configuration changes.
    limits: Option<Vec<RateLimit>>,
    /// Back to those of the configuration.
    #[serde(default)]
    configured: bool,
    reason: String,
}

impl Limit {
    fn wanted(&self) -> Result<Wanted, Problem> {
        match (&self.limits, self.configured) {
            (Some(limits), false) => Ok(Wanted::These(limits.clone())),
            (None, true) => Ok(Wanted::Configured),
            _ => Err(Problem::bad_request(
                "body_invalid",
                "send either limits, or configured: true for those of the configuration",
            )),
        }
    }
}

async fn limit(
    State(api): State<Api>,
    caller: Caller,
    Body(order): Body<Limit>,
) -> Result<Json<CallState>, Problem> {
    let wanted = order.wanted()?;
    let reason = reason(&order.reason)?;
    let connection = find(&api, &caller, &order.connection)?;
    let fleet = &*api.backends.fleet;
    manage::set_limits(fleet, connection, &wanted, &caller.actor, Some(reason)).await?;
    shown(&api, &caller, &order.connection).await
}

/// Which connection may be called again, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    connection: String,
    reason: String,
}

async fn resume(
    State(api): State<Api>,
    caller: Caller,
    Body(order): Body<Resume>,
) -> Result<Json<CallState>, Problem> {
    let reason = reason(&order.reason)?;
    let connection = find(&api, &caller, &order.connection)?;
    let fleet = &*api.backends.fleet;
    manage::resume(fleet, connection, &caller.actor, Some(reason)).await?;
    shown(&api, &caller, &order.connection).await
}

fn reason(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    if text.is_empty() {
        let told = "say why: `reason` is empty";
        return Err(Problem::bad_request("body_invalid", told));
    }
    Ok(text)
}

/// One connection as it is now, read back from the store.
async fn shown(api: &Api, caller: &Caller, name: &str) -> Result<Json<CallState>, Problem> {
    let mut states = states(api, caller).await?.into_iter();
    let state = states.find(|state| state.connection == name);
    state.map(Json).ok_or_else(|| unknown(name))
}

/// A connection of the caller's organization by name.
fn find<'a>(api: &'a Api, caller: &Caller, name: &str) -> Result<&'a Connection, Problem> {
    let connection = api.catalogue.connection(caller.organization_id, name);
    connection.ok_or_else(|| unknown(name))
}

/// Its id.
pub(super) fn id(api: &Api, caller: &Caller, name: &str) -> Result<ConnectionId, Problem> {
    find(api, caller, name).map(|connection| connection.id)
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(
        "connection_unknown",
        format!("there is no connection `{name}`"),
    )
}
