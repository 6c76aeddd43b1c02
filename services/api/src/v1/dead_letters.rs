//! Dead letters: list, group, show, discard (promise O6).

use axum::{Json, extract::State};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sluice_core::{EntityType, ErrorClass, Timestamp};
use sluice_store::dead_letter::{
    self, DeadLetter, DeadLetterDetail, DeadLetterFilter, DeadLetterGroup, DeadLetterState,
};

use super::{
    Caller, Endpoint, connections,
    input::{Body, Id, Page, Query, cursor, page_size, word},
};
use crate::{Api, problem::Problem};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/dead-letters", list),
        Endpoint::get("/dead-letters/groups", groups),
        Endpoint::get("/dead-letters/{id}", show),
        Endpoint::post("/dead-letters/discard", discard),
    ]
}

/// Conditions, in a query string or a body; all that are given must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    ids: Ids,
    /// Name of the target connection.
    target: Option<String>,
    entity_type: Option<EntityType>,
    /// Our reference, such as `yardi:51877`.
    entity_id: Option<String>,
    class: Option<String>,
    code: Option<String>,
    fingerprint: Option<String>,
    state: Option<String>,
    /// Last failure at or after this time, and before that one.
    since: Option<Timestamp>,
    before: Option<Timestamp>,
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Filter {
    /// For looking: one page.
    fn page(&self, api: &Api, caller: &Caller) -> Result<DeadLetterFilter, Problem> {
        Ok(DeadLetterFilter {
            after: cursor(self.cursor.as_deref())?,
            limit: page_size(self.limit)?,
            ..self.resolve(api, caller)?
        })
    }

    /// For acting: everything that matches, at most `limit`.
    pub(super) fn all(&self, api: &Api, caller: &Caller) -> Result<DeadLetterFilter, Problem> {
        if self.cursor.is_some() {
            let told = "a cursor is for looking, not for acting";
            return Err(Problem::bad_request("body_invalid", told));
        }
        Ok(DeadLetterFilter {
            limit: self.limit.unwrap_or(u32::MAX),
            ..self.resolve(api, caller)?
        })
    }

    fn resolve(&self, api: &Api, caller: &Caller) -> Result<DeadLetterFilter, Problem> {
        let target = match &self.target {
            Some(name) => Some(connections::id(api, caller, name)?),
            None => None,
        };
        Ok(DeadLetterFilter {
            ids: self.ids.0.clone(),
            connection_id: target,
            target: self.target.clone(),
            entity_type: self.entity_type.clone(),
            class: word("class", self.class.as_deref(), ErrorClass::parse)?,
            entity_id: self.entity_id.clone(),
            code: self.code.clone(),
            fingerprint: self.fingerprint.clone(),
            state: word("state", self.state.as_deref(), DeadLetterState::parse)?,
            since: self.since,
            before: self.before,
            ..DeadLetterFilter::all(caller.organization_id)
        })
    }
}

/// Ids: a list in a body, separated by commas in a query.
#[derive(Debug, Default)]
struct Ids(Vec<i64>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "ids are whole numbers, separated by commas in a query"
        )]
        enum Given {
            List(Vec<i64>),
            Text(String),
        }
        let ids = match Given::deserialize(deserializer)? {
            Given::List(ids) => ids,
            Given::Text(text) => text
                .split(',')
                .map(|id| id.trim().parse())
                .collect::<Result<_, _>>()
                .map_err(|_| serde::de::Error::custom("ids are whole numbers"))?,
        };
        Ok(Self(ids))
    }
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let filter = filter.page(&api, &caller)?;
    let page = api.backends.tasks.dead_letters(&filter).await?;
    Ok(Json(Page::new(page.items, page.next)))
}

/// Causes, most letters first. Not paged: there are at most 200.
async fn groups(
    State(api): State<Api>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<DeadLetterGroup>>, Problem> {
    let filter = filter.all(&api, &caller)?;
    let groups = api.backends.tasks.dead_letter_groups(&filter).await?;
    Ok(Json(Page::new(groups, None)))
}

async fn show(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<DeadLetterDetail>, Problem> {
    let tasks = &api.backends.tasks;
    let detail = tasks.dead_letter(caller.organization_id, id).await?;
    detail.map(Json).ok_or_else(|| {
        Problem::not_found(
            "dead_letter_unknown",
            format!("there is no dead letter {id}"),
        )
    })
}

/// What to discard, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discard {
    filter: Filter,
    reason: String,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

async fn discard(
    State(api): State<Api>,
    caller: Caller,
    Body(order): Body<Discard>,
) -> Result<Json<Value>, Problem> {
    let filter = order.filter.all(&api, &caller)?;
    let reason = order.reason.trim();
    if reason.is_empty() {
        let told = "say why they are given up: `reason` is empty";
        return Err(Problem::bad_request("body_invalid", told));
    }
    let tasks = &api.backends.tasks;
    dead_letter::known(&**tasks, &filter).await?;
    if order.dry_run {
        let matched = tasks.preview_replay(&filter).await?.matched;
        return Ok(Json(json!({ "matched": matched })));
    }
    let discarded = tasks
        .discard_dead_letters(&filter, &caller.actor, reason)
        .await?;
    Ok(Json(json!({ "discarded": discarded })))
}
