//! Pushes whose outcome nobody knows: list, settle (promise O1).

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_core::TaskId;
use sluice_store::unknown::{UnknownPush, UnknownQuery, Verdict};

use super::{
    Caller, Endpoint, connections,
    input::{Body, Page, Query, cursor, page_size},
};
use crate::{Api, problem::Problem};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/unknown-pushes", list),
        Endpoint::post("/unknown-pushes/settle", settle),
    ]
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    /// Name of the target connection.
    target: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<UnknownPush>>, Problem> {
    let limit = page_size(filter.limit)?;
    let target = filter.target.as_deref();
    let query = UnknownQuery {
        organization_id: caller.organization_id,
        connection_id: target
            .map(|name| connections::id(&api, &caller, name))
            .transpose()?,
        after: cursor(filter.cursor.as_deref())?.map(TaskId),
        limit: limit + 1,
    };
    let pushes = api.backends.tasks.unknown_pushes(&query).await?;
    Ok(Json(Page::cut(pushes, limit, |push| push.task_id.0)))
}

/// What was found out at the target, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    task_id: i64,
    /// `applied`, `not_applied` or `given_up`.
    verdict: String,
    /// Under which id it is there; with `applied`.
    external_id: Option<String>,
    reason: String,
}

impl Finding {
    fn verdict(&self) -> Result<Verdict, Problem> {
        let id = self.external_id.as_deref().map(str::trim);
        match (self.verdict.as_str(), id) {
            ("applied", Some(id)) if !id.is_empty() => Ok(Verdict::Applied {
                external_id: id.to_owned(),
            }),
            ("not_applied", None) => Ok(Verdict::NotApplied),
            ("given_up", None) => Ok(Verdict::GivenUp),
            _ => Err(Problem::bad_request(
                "body_invalid",
                "verdict is applied, with an external_id, or not_applied or given_up, without one",
            )),
        }
    }
}

async fn settle(
    State(api): State<Api>,
    caller: Caller,
    Body(finding): Body<Finding>,
) -> Result<Json<Value>, Problem> {
    let verdict = finding.verdict()?;
    let reason = finding.reason.trim();
    if reason.is_empty() {
        let told = "say how that was found out: `reason` is empty";
        return Err(Problem::bad_request("body_invalid", told));
    }
    let (organization, task) = (caller.organization_id, TaskId(finding.task_id));
    let tasks = &api.backends.tasks;
    tasks
        .settle_unknown(organization, task, &verdict, &caller.actor, reason)
        .await?;
    Ok(Json(
        json!({ "task_id": task, "settled": verdict.as_str() }),
    ))
}
