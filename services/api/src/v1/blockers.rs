//! Which records others wait for at a target, and why (promise O7).

use axum::{Json, extract::State};
use serde::Deserialize;
use sluice_store::dependency::{Blocker, BlockerQuery};

use super::{
    Caller, Endpoint, connections,
    input::{Page, Query, page_size},
};
use crate::{Api, problem::Problem};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/blockers", list)]
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    /// Name of the target connection.
    target: Option<String>,
    limit: Option<u32>,
}

/// Those that block most. Not paged: whoever removes the first ones sees the next.
async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<Blocker>>, Problem> {
    let target = filter.target.as_deref();
    let query = BlockerQuery {
        organization_id: caller.organization_id,
        connection_id: target
            .map(|name| connections::id(&api, &caller, name))
            .transpose()?,
        limit: page_size(filter.limit)?,
    };
    let blockers = api.backends.tasks.blockers(&query).await?;
    Ok(Json(Page::new(blockers, None)))
}
