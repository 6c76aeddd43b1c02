//! Replays of dead letters: order, rehearse, watch, pause, resume, cancel (promise O6).

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use sluice_orchestrator::replay;
use sluice_store::replay::{NewReplay, Replay, ReplayDetail, ReplayQuery, ReplayState};

use super::{
    Caller, Endpoint, dead_letters,
    input::{Body, Id, Page, Query, cursor, page_size, word},
    management,
};
use crate::{Api, problem::Problem};

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 200;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/replays", list),
        Endpoint::post("/replays", order),
        Endpoint::get("/replays/{id}", show),
        Endpoint::post("/replays/{id}/pause", pause),
        Endpoint::post("/replays/{id}/resume", resume),
        Endpoint::post("/replays/{id}/cancel", cancel),
    ]
}

/// What to replay, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    filter: dead_letters::Filter,
    /// Letters put back per second at most.
    #[serde(default)]
    rate: Option<u32>,
    #[serde(default)]
    note: String,
    /// Sent instead of the version's own data; for one letter.
    #[serde(default)]
    data: Option<Value>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

async fn order(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(order): Body<Order>,
) -> Result<Response, Problem> {
    let new = NewReplay {
        filter: order.filter.all(&api, &caller)?,
        rate: order.rate,
        edit: order.data,
        actor: caller.actor.clone(),
        note: order.note,
        idempotency_key: idempotency_key(&headers)?,
    };
    let (tasks, schemas) = (&*api.backends.tasks, &*management(&api)?.schemas);
    if order.dry_run {
        let preview = replay::rehearse(tasks, schemas, &new).await?;
        return Ok(Json(preview).into_response());
    }
    let started = replay::order(tasks, schemas, &new).await?;
    let detail = find(&api, &caller, started.id).await?;
    let location = format!("/api/v1/replays/{}", started.id);
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::ACCEPTED, headers, Json(detail)).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    headers
        .get("idempotency-key")
        .map(|value| match value.to_str() {
            Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(key.to_owned()),
            _ => Err(Problem::bad_request(
                "idempotency_key_invalid",
                format!("Idempotency-Key is 1 to {MAX_KEY} plain characters"),
            )),
        })
        .transpose()
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    state: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<Replay>>, Problem> {
    let limit = page_size(filter.limit)?;
    let query = ReplayQuery {
        organization_id: caller.organization_id,
        state: word("state", filter.state.as_deref(), ReplayState::parse)?,
        after: cursor(filter.cursor.as_deref())?,
        limit: limit + 1,
    };
    let replays = api.backends.tasks.replays(&query).await?;
    Ok(Json(Page::cut(replays, limit, |replay| replay.id)))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<ReplayDetail>, Problem> {
    find(&api, &caller, id).await.map(Json)
}

async fn find(api: &Api, caller: &Caller, id: i64) -> Result<ReplayDetail, Problem> {
    let tasks = &api.backends.tasks;
    let detail = tasks.replay(caller.organization_id, id).await?;
    detail.ok_or_else(|| Problem::not_found("replay_unknown", format!("there is no replay {id}")))
}

/// Why a replay is paused, resumed or cancelled.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reason {
    note: String,
}

async fn pause(
    api: State<Api>,
    caller: Caller,
    id: Id,
    body: Body<Reason>,
) -> Result<Json<Replay>, Problem> {
    change(api, caller, id, body, ReplayState::Paused).await
}

async fn resume(
    api: State<Api>,
    caller: Caller,
    id: Id,
    body: Body<Reason>,
) -> Result<Json<Replay>, Problem> {
    change(api, caller, id, body, ReplayState::Running).await
}

async fn cancel(
    api: State<Api>,
    caller: Caller,
    id: Id,
    body: Body<Reason>,
) -> Result<Json<Replay>, Problem> {
    change(api, caller, id, body, ReplayState::Cancelled).await
}

async fn change(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
    Body(reason): Body<Reason>,
    to: ReplayState,
) -> Result<Json<Replay>, Problem> {
    let tasks = &api.backends.tasks;
    let replay = tasks
        .change_replay(caller.organization_id, id, to, &caller.actor, &reason.note)
        .await?;
    Ok(Json(replay))
}
