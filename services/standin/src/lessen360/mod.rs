//! Lessen360: signed REST, one record per call, and webhooks.

mod edits;
mod held;
mod read;
mod reply;
mod route;
mod schema;
mod signing;
mod webhooks;
mod write;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::control::{self, EditRequest, System, Truth};
use crate::fault::FaultKind;
use crate::fault_effect::answer;
use crate::front::{Call, Front, Manner, Outcome};
use crate::ledger::{content, lock};
use crate::options::Options;
use held::{Held, Recorded};
use reply::Reply;
use route::Route;
use schema::Resource;
use signing::{Guard, Signed};

/// Largest request body read, in bytes: a file of 10 MiB and its envelope, with room to see
/// that a file is too large.
const MAX_REQUEST: usize = 24 * 1024 * 1024;

/// A stand-in for Lessen360.
pub struct Lessen360State {
    pub(crate) front: Front,
    held: Mutex<Held>,
    guard: Mutex<Guard>,
}

impl Lessen360State {
    /// A stand-in without records.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            front: Front::new(options),
            held: Mutex::new(Held::default()),
            guard: Mutex::new(Guard::default()),
        })
    }

    /// The external id of a record, by which the ledger names it.
    fn key(&self, resource: Resource, id: &str) -> String {
        let held = lock(&self.held);
        let name = held
            .table(resource)
            .by_id(id)
            .map_or(id, |record| record.external_id.as_str());
        format!("{}:{name}", resource.kind())
    }
}

impl System for Lessen360State {
    fn front(&self) -> &Front {
        &self.front
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["property", "resident", "work_order", "attachment"]
    }

    fn truth(self: Arc<Self>, kind: &str) -> Option<Truth> {
        let resource = Resource::ALL.into_iter().find(|one| one.kind() == kind)?;
        let mut at = 0;
        Some(Box::new(std::iter::from_fn(move || {
            let held = lock(&self.held);
            let record = held.table(resource).after(at).next()?;
            at = record.number;
            Some(record.truth(resource))
        })))
    }

    fn edit(&self, request: &EditRequest) -> Result<Vec<Value>, String> {
        edits::edit(
            &mut lock(&self.held),
            self.front.options.seed,
            request,
            &now(),
        )
    }
}

/// The routes of a stand-in for Lessen360: `/v1/..` and `/_control`.
pub fn router(state: Arc<Lessen360State>) -> Router {
    Router::new()
        .route("/_control/webhooks", post(webhooks::send))
        .fallback(rest)
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(&state))
        .merge(control::routes(state))
}

/// Now, RFC 3339 UTC with milliseconds.
fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Now in Unix seconds.
fn unix_now() -> u64 {
    u64::try_from(Utc::now().timestamp()).unwrap_or(0)
}

fn respond(reply: &Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match &reply.body {
        Value::Null => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
        body => answer(status, "application/json", body.to_string()),
    };
    if reply.replayed {
        response
            .headers_mut()
            .insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

struct Lessen360Manner;

impl Manner for Lessen360Manner {
    fn too_many(&self, retry_after: u64) -> Response {
        let mut response = respond(&Reply::error(429, "rate_limited", "too many requests"));
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after.into());
        response
    }

    fn server_error(&self) -> Response {
        let mut response = respond(&Reply::error(500, "internal", "something went wrong"));
        let id = uuid::Uuid::new_v4().to_string();
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    fn bomb(&self) -> String {
        "[".repeat(100_000)
    }
}

async fn rest(State(state): State<Arc<Lessen360State>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_REQUEST).await else {
        return respond(&Reply::error(413, "too_large", "the request is too large"));
    };
    let route = Route::of(&parts.method, parts.uri.path());
    let upload = match &route {
        Route::Attach(_) => Some(upload(&parts, &body).await),
        _ => None,
    };
    let idempotency_key = parts
        .headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let call = Call {
        contents: contents(&route, &body, upload.as_ref()),
        keys: keys(&state, &route, &body, upload.as_ref()),
        writes: route.writes(),
        operation: route.operation(),
        idempotency_key: idempotency_key.clone(),
    };
    state
        .front
        .answer(&Lessen360Manner, call, |fault| {
            let kind = fault.map(|rule| rule.kind);
            if let Err(reply) = believe(&state, &parts, &body, kind) {
                return outcome(reply);
            }
            let hash = request_hash(&parts, &body, upload.as_ref());
            let mut held = lock(&state.held);
            let answers_with_id = route.writes() && parts.method != axum::http::Method::DELETE;
            if kind == Some(FaultKind::LyingSuccess) && answers_with_id {
                return outcome(Reply::read(201, json!({ "status": "ACCEPTED" })));
            }
            let scoped = idempotency_key.filter(|_| route.writes());
            if let Some(recorded) = scoped.as_deref().and_then(|key| held.recorded(key)) {
                return outcome(replay(recorded, hash));
            }
            let reply = carry_out(&mut held, &route, &parts, &body, upload, kind);
            let keep = reply.status < 300 || (400..500).contains(&reply.status);
            if let Some(key) = scoped.filter(|_| keep) {
                let recorded = Recorded {
                    request_hash: hash,
                    status: reply.status,
                    body: reply.body.clone(),
                };
                held.record(&key, recorded);
            }
            outcome(reply)
        })
        .await
}

fn outcome(reply: Reply) -> Outcome {
    Outcome {
        response: respond(&reply),
        effect: reply.effect,
        keys: Vec::new(),
    }
}

fn replay(recorded: &Recorded, hash: [u8; 32]) -> Reply {
    if recorded.request_hash != hash {
        return Reply::error(
            422,
            "idempotency_key_reused",
            "this Idempotency-Key came with another request",
        );
    }
    let mut reply = Reply::read(recorded.status, recorded.body.clone());
    reply.replayed = true;
    reply.effect.replays = 1;
    reply
}

/// What makes two requests the same. The boundary of a multipart body does not count.
fn request_hash(
    parts: &Parts,
    body: &[u8],
    upload: Option<&Result<write::Upload, Reply>>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(parts.method.as_str());
    hash.update(parts.uri.path());
    match upload {
        Some(Ok(upload)) => {
            hash.update(json!(upload.metadata).to_string());
            hash.update(&upload.file_name);
            hash.update(&upload.bytes);
        }
        _ => hash.update(body),
    }
    hash.finalize().into()
}

/// Business keys of the records a request is about.
fn keys(
    state: &Lessen360State,
    route: &Route,
    body: &[u8],
    upload: Option<&Result<write::Upload, Reply>>,
) -> Vec<String> {
    let external = |kind: &str, value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .map(|external| vec![format!("{kind}:{external}")])
            .unwrap_or_default()
    };
    match route {
        Route::Create(resource) => {
            let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            external(resource.kind(), body.get("externalId"))
        }
        Route::Attach(_) => match upload {
            Some(Ok(upload)) => external("attachment", upload.metadata.get("externalId")),
            _ => Vec::new(),
        },
        Route::Single(resource, id) | Route::Change(resource, id) | Route::Delete(resource, id) => {
            vec![state.key(*resource, id)]
        }
        Route::List(_) | Route::Trades | Route::Unknown => Vec::new(),
    }
}

/// A short hash of the record that a request writes.
fn contents(
    route: &Route,
    body: &[u8],
    upload: Option<&Result<write::Upload, Reply>>,
) -> Vec<String> {
    match (route, upload) {
        (Route::Create(_) | Route::Change(..), _) => serde_json::from_slice(body)
            .map(|body| content(&body))
            .into_iter()
            .collect(),
        (Route::Attach(_), Some(Ok(upload))) => vec![content(&json!(upload.metadata))],
        _ => Vec::new(),
    }
}

/// Checks the signature.
fn believe(
    state: &Lessen360State,
    parts: &Parts,
    body: &[u8],
    fault: Option<FaultKind>,
) -> Result<(), Reply> {
    let refuse = |code: &str| {
        Err(Reply::error(
            401,
            code,
            "the request is not signed as it should be",
        ))
    };
    if fault == Some(FaultKind::AuthForm) {
        return refuse("bad_signature");
    }
    let header = |headers: &HeaderMap, name: header::HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_owned()
    };
    let host = header(&parts.headers, header::HOST);
    let path = parts
        .uri
        .path_and_query()
        .map_or(parts.uri.path(), |both| both.as_str());
    let url = format!("http://{host}{path}");
    let what = Signed {
        method: parts.method.as_str(),
        url: &url,
        body,
    };
    let given = header(&parts.headers, header::AUTHORIZATION);
    let with = &state.front.options.lessen360;
    let checked = lock(&state.guard).check(with, what, &given, unix_now());
    checked.or_else(|disbelief| refuse(disbelief.code()))
}

fn carry_out(
    held: &mut Held,
    route: &Route,
    parts: &Parts,
    body: &[u8],
    upload: Option<Result<write::Upload, Reply>>,
    fault: Option<FaultKind>,
) -> Reply {
    let at = now();
    match route {
        Route::Trades => read::trades(),
        Route::Unknown => Reply::not_found(),
        Route::Single(resource, id) => read::single(held, *resource, id),
        Route::List(resource) => {
            let query = parts.uri.query().unwrap_or("");
            let expired = fault == Some(FaultKind::CursorExpiry);
            let mut reply = read::list(held, *resource, query, unix_now(), expired);
            spoil(&mut reply, fault);
            reply
        }
        Route::Create(resource) => match write::object(body) {
            Ok(object) => write::create(held, *resource, object, &at),
            Err(reply) => reply,
        },
        Route::Change(resource, id) => match write::object(body) {
            Ok(object) => write::change(held, *resource, id, object, &at),
            Err(reply) => reply,
        },
        Route::Delete(resource, id) => write::delete(held, *resource, id, &at),
        Route::Attach(work_order) => match upload {
            Some(Ok(upload)) => write::attach(held, work_order, upload, &at),
            Some(Err(reply)) => reply,
            None => Reply::not_found(),
        },
    }
}

/// Applies a page fault to a list.
fn spoil(reply: &mut Reply, fault: Option<FaultKind>) {
    let Some(data) = reply.body.get_mut("data").and_then(Value::as_array_mut) else {
        return;
    };
    match fault {
        Some(FaultKind::DuplicateIds) => data.extend(data.first().cloned()),
        Some(FaultKind::MissingIds) => {
            if let Some(first) = data.first_mut().and_then(Value::as_object_mut) {
                first.remove("id");
            }
        }
        _ => {}
    }
}

/// Takes a multipart body apart.
async fn upload(parts: &Parts, body: &Bytes) -> Result<write::Upload, Reply> {
    let bad = || {
        Reply::error(
            400,
            "validation_failed",
            "the body is not the expected multipart form",
        )
    };
    let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| bad())?;
    let mut upload = write::Upload {
        metadata: serde_json::Map::new(),
        file_name: String::new(),
        content_type: String::new(),
        bytes: Bytes::new(),
    };
    while let Some(field) = form.next_field().await.map_err(|_| bad())? {
        match field.name() {
            Some("metadata") => {
                let bytes = field.bytes().await.map_err(|_| bad())?;
                upload.metadata = write::object(&bytes)?;
            }
            Some("file") => {
                field
                    .file_name()
                    .unwrap_or("")
                    .clone_into(&mut upload.file_name);
                field
                    .content_type()
                    .unwrap_or("")
                    .clone_into(&mut upload.content_type);
                upload.bytes = field.bytes().await.map_err(|_| bad())?;
            }
            _ => return Err(bad()),
        }
    }
    Ok(upload)
}
