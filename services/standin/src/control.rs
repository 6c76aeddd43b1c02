//! The control endpoints under `/_control`, the same at every stand-in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::FaultRule;
use crate::fault_effect::answer;
use crate::front::Front;

/// The records of one kind as the system holds them now, made while they are read.
pub(crate) type Truth = Box<dyn Iterator<Item = Value> + Send>;

/// What `POST /_control/edits` asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// How many edits.
    pub count: usize,
    /// Only these edits, such as `service_request.update`; absent means the usual mixture.
    #[serde(default)]
    pub only: Vec<String>,
}

impl EditRequest {
    /// Those of a stand-in's weighted edits to draw from: the named ones, else those with a weight.
    ///
    /// # Errors
    /// A text when `only` names an edit that is not known.
    pub(crate) fn choice(
        &self,
        known: &[(u32, &'static str)],
    ) -> Result<Vec<(u32, &'static str)>, String> {
        if self.only.is_empty() {
            return Ok(known
                .iter()
                .filter(|(weight, _)| *weight > 0)
                .copied()
                .collect());
        }
        let named = self.only.iter().map(|wanted| {
            let found = known.iter().find(|(_, name)| name == wanted);
            let (weight, name) = found.ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|(_, name)| *name).collect();
                format!("no edit named {wanted:?}: one of {names:?}")
            })?;
            Ok(((*weight).max(1), *name))
        });
        named.collect()
    }
}

/// What the control endpoints need from a stand-in.
pub(crate) trait System: Send + Sync + 'static {
    fn front(&self) -> &Front;
    /// Kinds of records it holds.
    fn kinds(&self) -> &'static [&'static str];
    /// The records of one kind.
    fn truth(self: Arc<Self>, kind: &str) -> Option<Truth>;
    /// Changes records as a customer's people would; the answer lists what was done.
    fn edit(&self, request: &EditRequest) -> Result<Vec<Value>, String>;
}

/// The control routes of a stand-in.
pub(crate) fn routes<S: System>(system: Arc<S>) -> Router {
    Router::new()
        .route("/_control/ledger", get(ledger::<S>))
        .route("/_control/stats", get(stats::<S>))
        .route("/_control/records", get(records::<S>))
        .route(
            "/_control/faults",
            post(add_faults::<S>)
                .get(list_faults::<S>)
                .delete(clear_faults::<S>),
        )
        .route("/_control/edits", post(edits::<S>))
        .with_state(system)
}

#[derive(Debug, Deserialize)]
struct LedgerQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    10_000
}

async fn ledger<S: System>(
    State(system): State<Arc<S>>,
    Query(query): Query<LedgerQuery>,
) -> Response {
    let entries = system.front().ledger.after(query.after, query.limit);
    Json(json!({ "entries": entries })).into_response()
}

async fn stats<S: System>(State(system): State<Arc<S>>) -> Response {
    Json(system.front().ledger.stats()).into_response()
}

#[derive(Debug, Deserialize)]
struct RecordsQuery {
    kind: Option<String>,
    format: Option<String>,
}

async fn records<S: System>(
    State(system): State<Arc<S>>,
    Query(query): Query<RecordsQuery>,
) -> Response {
    let Some(kind) = query.kind else {
        let counts: serde_json::Map<String, Value> = system
            .kinds()
            .iter()
            .map(|kind| {
                let count = Arc::clone(&system).truth(kind).map_or(0, Iterator::count);
                ((*kind).to_owned(), Value::from(count))
            })
            .collect();
        return Json(json!({ "kinds": counts })).into_response();
    };
    let kinds = system.kinds();
    let Some(truth) = system.truth(&kind) else {
        return refuse(format!("no records of kind {kind:?}: one of {kinds:?}"));
    };
    let lines = query.format.as_deref() == Some("ndjson");
    let content_type = if lines {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    answer(StatusCode::OK, content_type, list_body(truth, lines))
}

/// Streams a list in blocks of about 64 KiB, as a JSON array or one document a line.
fn list_body(truth: Truth, lines: bool) -> Body {
    let (open, separator, close) = if lines {
        ("", "\n", "\n")
    } else {
        ("[", ",\n", "]\n")
    };
    let mut first = true;
    let pieces = truth.map(move |value| {
        let before = if first { "" } else { separator };
        first = false;
        format!("{before}{value}")
    });
    let all = std::iter::once(open.to_owned())
        .chain(pieces)
        .chain(std::iter::once(close.to_owned()));
    blocks_body(all)
}

/// A body from many small pieces, sent in blocks of about 64 KiB while they are made.
pub(crate) fn blocks_body<I>(pieces: I) -> Body
where
    I: Iterator<Item = String> + Send + 'static,
{
    let mut pieces = pieces.fuse();
    let blocks = std::iter::from_fn(move || {
        let mut block = String::new();
        for piece in pieces.by_ref() {
            block.push_str(&piece);
            if block.len() >= 65_536 {
                break;
            }
        }
        (!block.is_empty()).then(|| Ok::<_, std::io::Error>(Bytes::from(block)))
    });
    Body::from_stream(stream::iter(blocks))
}

async fn add_faults<S: System>(State(system): State<Arc<S>>, body: Bytes) -> Response {
    let rules = match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Array(list)) => list,
        Ok(one) => vec![one],
        Err(error) => return refuse(error.to_string()),
    };
    let mut parsed = Vec::new();
    for rule in rules {
        match serde_json::from_value::<FaultRule>(rule) {
            Ok(rule) if rule.count == Some(0) => return refuse("count must be at least 1".into()),
            Ok(rule) => parsed.push(rule),
            Err(error) => return refuse(error.to_string()),
        }
    }
    let ids: Vec<u64> = parsed
        .into_iter()
        .map(|rule| system.front().faults.add(rule))
        .collect();
    Json(json!({ "ids": ids })).into_response()
}

async fn list_faults<S: System>(State(system): State<Arc<S>>) -> Response {
    let list: Vec<Value> = system
        .front()
        .faults
        .list()
        .into_iter()
        .map(|(id, rule, left)| json!({ "id": id, "rule": rule, "left": left }))
        .collect();
    Json(json!({ "faults": list })).into_response()
}

async fn clear_faults<S: System>(State(system): State<Arc<S>>) -> Response {
    system.front().faults.clear();
    StatusCode::NO_CONTENT.into_response()
}

async fn edits<S: System>(State(system): State<Arc<S>>, body: Bytes) -> Response {
    let request: EditRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(error.to_string()),
    };
    match system.edit(&request) {
        Ok(done) => Json(json!({ "applied": done.len(), "edits": done })).into_response(),
        Err(message) => refuse(message),
    }
}

pub(crate) fn refuse(message: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": message }))).into_response()
}
