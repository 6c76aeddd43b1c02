//! A scripted system: what it answers as a source, what it holds as a target, and which calls go
//! wrong.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::{Value, json};

/// What goes wrong with the next write.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Carried out, but the answer is lost.
    AnswerLost,
    /// Carried out, but the answer does not say under which id.
    IdMissing,
    /// Refused with a status, not carried out.
    Status(u16),
}

#[derive(Debug, Default)]
pub struct Script {
    /// Bodies of pages per stream; `Err` is sent as it is, as text.
    pub pages: BTreeMap<String, Vec<Result<Vec<Value>, String>>>,
    pub page_calls: u32,
    /// Records by (entity, id).
    pub records: BTreeMap<(String, String), Value>,
    /// (method, entity, reference or id) of each write that was carried out.
    pub writes: Vec<(&'static str, String, String)>,
    pub faults: VecDeque<Fault>,
    pub lookups: u32,
    /// Creates as they came, with a key, carried out or not.
    pub keyed: Vec<(String, Value)>,
    /// What was carried out under a key, and the answer that it always gets from then on.
    answers: BTreeMap<String, (Value, Value)>,
    /// Writes being worked on now, and the most there ever were.
    next_id: u32,
}

#[derive(Debug, Clone)]
pub struct System {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

type Shared = State<Arc<Mutex<Script>>>;

impl Script {
    /// As if nothing had ever been carried out.
    pub fn forget_all(&mut self) {
        self.records.clear();
        self.answers.clear();
    }
}

impl System {
    pub async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let router = Router::new()
            .route("/source/{stream}", get(page))
            .route("/target/{entity}", get(find).post(create))
            .route("/target/{entity}/{id}", put(update).delete(remove))
            .with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, script }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Sets what a stream holds, cut into pages.
    pub fn holds(&self, stream: &str, items: &[Value], page_size: usize) {
        let pages = items.chunks(page_size).map(|page| Ok(page.to_vec()));
        self.script()
            .pages
            .insert(stream.to_owned(), pages.collect());
    }

    /// Names of the records of an entity type at the target, by our reference.
    pub fn names(&self, entity: &str) -> BTreeMap<String, String> {
        let script = self.script();
        let mut names = BTreeMap::new();
        for ((kind, id), body) in &script.records {
            if kind == entity {
                let reference = body["ref"].as_str().unwrap().to_owned();
                let name = body["name"].as_str().unwrap().to_owned();
                let doubled = names.insert(reference.clone(), name);
                assert!(
                    doubled.is_none(),
                    "{entity} {reference} is there twice, as {id} too"
                );
            }
        }
        names
    }

    pub fn writes(&self, method: &str) -> usize {
        let script = self.script();
        script
            .writes
            .iter()
            .filter(|(done, ..)| *done == method)
            .count()
    }
}

async fn page(
    State(script): Shared,
    Path(stream): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut script = script.lock().unwrap();
    script.page_calls += 1;
    let number: usize = query.get("page").map_or(0, |page| page.parse().unwrap());
    let pages = script.pages.get(&stream).map_or(&[][..], Vec::as_slice);
    let next = (number + 1 < pages.len()).then(|| (number + 1).to_string());
    match pages.get(number) {
        Some(Err(text)) => text.clone().into_response(),
        Some(Ok(items)) => Json(json!({"items": items, "next": next})).into_response(),
        None => Json(json!({"items": [], "next": null})).into_response(),
    }
}

async fn find(
    State(script): Shared,
    Path(entity): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Json<Value> {
    let wanted: Vec<String> = query
        .iter()
        .flat_map(|(_, refs)| refs.split(','))
        .map(str::to_owned)
        .collect();
    let mut script = script.lock().unwrap();
    script.lookups += 1;
    let items: Vec<_> = script
        .records
        .iter()
        .filter(|((kind, _), body)| {
            *kind == entity && wanted.iter().any(|wanted| body["ref"] == **wanted)
        })
        .map(|((_, id), body)| json!({"id": id, "ref": body["ref"]}))
        .collect();
    Json(json!({ "items": items }))
}

/// Carries a write out unless told otherwise, and loses the answer when told so.
fn write(
    script: &Arc<Mutex<Script>>,
    act: impl FnOnce(&mut Script) -> Result<Value, StatusCode>,
) -> Option<Response> {
    let mut script = script.lock().unwrap();
    match script.faults.pop_front() {
        Some(Fault::Status(status)) => {
            Some((StatusCode::from_u16(status).unwrap(), Json(json!({}))).into_response())
        }
        Some(Fault::AnswerLost) => {
            act(&mut script).unwrap();
            None
        }
        Some(Fault::IdMissing) => {
            act(&mut script).unwrap();
            Some(Json(json!({})).into_response())
        }
        None => Some(match act(&mut script) {
            Ok(body) => Json(body).into_response(),
            Err(status) => status.into_response(),
        }),
    }
}

/// An answer that never comes: the caller's time runs out.
async fn answer(response: Option<Response>) -> Response {
    match response {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

async fn create(
    State(script): Shared,
    Path(entity): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let key = headers.get("idempotency-key");
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    if let Some(key) = &key {
        script
            .lock()
            .unwrap()
            .keyed
            .push((key.clone(), body.clone()));
    }
    let response = write(&script, |script| {
        match key.as_ref().and_then(|key| script.answers.get(key)) {
            Some((first, answer)) if *first == body => return Ok(answer.clone()),
            // As systems that know such keys do.
            Some(_) => return Err(StatusCode::UNPROCESSABLE_ENTITY),
            None => {}
        }
        script.next_id += 1;
        let id = format!("E{}", script.next_id);
        let reference = body["ref"].as_str().unwrap().to_owned();
        script.writes.push(("POST", entity.clone(), reference));
        let answer = json!({ "id": id });
        if let Some(key) = key {
            script.answers.insert(key, (body.clone(), answer.clone()));
        }
        script.records.insert((entity, id), body);
        Ok(answer)
    });
    answer(response).await
}

async fn update(
    State(script): Shared,
    Path((entity, id)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let response = write(&script, |script| {
        let record = script.records.get_mut(&(entity.clone(), id.clone()));
        *record.ok_or(StatusCode::NOT_FOUND)? = body;
        script.writes.push(("PUT", entity, id.clone()));
        Ok(json!({ "id": id }))
    });
    answer(response).await
}

async fn remove(State(script): Shared, Path((entity, id)): Path<(String, String)>) -> Response {
    let response = write(&script, |script| {
        script
            .records
            .remove(&(entity.clone(), id.clone()))
            .ok_or(StatusCode::NOT_FOUND)?;
        script.writes.push(("DELETE", entity, id));
        Ok(json!({}))
    });
    answer(response).await
}
