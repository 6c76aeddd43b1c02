//! The audit: who changed what, and why.

use axum::{Json, extract::State};
use serde::Deserialize;
use sluice_store::dead_letter::Change;

use super::{
    Caller, Endpoint,
    input::{Page, Query, cursor, page_size},
};
use crate::{Api, problem::Problem};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/activity", list)]
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Paging {
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Change>>, Problem> {
    let limit = page_size(paging.limit)?;
    let after = cursor(paging.cursor.as_deref())?;
    let tasks = &api.backends.tasks;
    let changes = tasks
        .changes(caller.organization_id, after, limit + 1)
        .await?;
    Ok(Json(Page::cut(changes, limit, |change| change.id)))
}
