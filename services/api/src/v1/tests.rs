//! What holds for every endpoint, and what each one does, on the embedded stores.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sluice_core::{ErrorClass, access::Role};
use sluice_embedded::{EmbeddedSql, broker::LocalBroker, raw::SqliteRaw};
use sluice_store::{
    Backends, CredentialStore, FleetStore, MasterStore, TaskStore,
    conformance::sql::{SqlFixture, World, location, request},
    task::PushNext,
};
use sluice_transform::Schemas;
use tower::ServiceExt;

use super::{Management, Token, Tokens, endpoints};
use crate::{Api, ConnectionHealth};

const OPERATOR: &str = "operator-of-acme-0123456789abcdef";
const VIEWER: &str = "viewer-of-acme-0123456789abcdef01";
const STRANGER: &str = "operator-of-other-0123456789abcdef";

struct Memory(EmbeddedSql);

#[async_trait]
impl SqlFixture for Memory {
    async fn open(&self) -> (Arc<dyn MasterStore>, Arc<dyn TaskStore>) {
        let store = Arc::new(self.0.clone());
        (store.clone(), store)
    }

    async fn open_fleet(&self) -> Arc<dyn FleetStore> {
        Arc::new(self.0.clone())
    }

    async fn open_credentials(&self) -> Arc<dyn CredentialStore> {
        Arc::new(self.0.clone())
    }

    async fn execute(&self, _: &'static str) -> u64 {
        unreachable!("no statement is run by hand here")
    }

    async fn number(&self, _: &'static str) -> i64 {
        unreachable!("no statement is run by hand here")
    }

    async fn remove(&self) {}
}

/// The API over an embedded database with the organizations `acme` and `other`.
struct Server {
    world: World,
    router: Router,
}

/// An answer: status, headers as text, body.
struct Answer {
    status: StatusCode,
    headers: HashMap<String, String>,
    body: Value,
}

impl Server {
    async fn start() -> Self {
        Self::with(|acme, other| {
            vec![
                Token::new("ann", acme, Role::Operator, OPERATOR).unwrap(),
                Token::new("vic", acme, Role::Viewer, VIEWER).unwrap(),
                Token::new("eve", other, Role::Operator, STRANGER).unwrap(),
            ]
        })
        .await
    }

    async fn with(
        tokens: impl FnOnce(sluice_core::OrganizationId, sluice_core::OrganizationId) -> Vec<Token>,
    ) -> Self {
        let sql = EmbeddedSql::open("sqlite::memory:").await.unwrap();
        let world = World::new(Arc::new(Memory(sql))).await;
        let api = Api {
            backends: Backends {
                raw: Arc::new(SqliteRaw::connect("sqlite::memory:").await.unwrap()),
                master: world.master.clone(),
                tasks: world.tasks.clone(),
                fleet: world.fixture.open_fleet().await,
                credentials: world.fixture.open_credentials().await,
                broker: Arc::new(LocalBroker::default()),
            },
            catalogue: Arc::new(world.master.catalogue().await.unwrap()),
            connections: Arc::new(ConnectionHealth::default()),
            metrics: Arc::new(String::new),
            intake: None,
            management: Some(Arc::new(Management {
                tokens: Tokens(tokens(world.organization, world.other)),
                schemas: Arc::new(Schemas::shipped().unwrap()),
            })),
        };
        Self {
            router: crate::router(api),
            world,
        }
    }

    async fn send(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("x-request-id", "test-1");
        let request = match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        self.raw(request.body(body).unwrap()).await
    }

    async fn raw(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = |value: &header::HeaderValue| value.to_str().unwrap().to_owned();
        Answer {
            status: parts.status,
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, Method::GET, path, &Value::Null).await
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send(token, Method::POST, path, body).await
    }

    /// Dead letters of `acme` for `one`: as many, all of this class.
    async fn kill(&self, records: std::ops::Range<i64>, class: ErrorClass) {
        let records = records.map(|n| location(&format!("p{n}"), n, 100));
        self.world.apply(records.collect()).await;
        for task in self.world.claim_all().await {
            assert!(self.world.fail(&task, class, PushNext::Dead).await);
        }
    }
}

impl Answer {
    /// Asserts a problem of this status and code.
    fn refused(&self, status: StatusCode, code: &str) {
        let found = (self.status, self.body["type"].as_str());
        let wanted = format!("urn:sluice:problem:{code}");
        assert_eq!(found, (status, Some(&*wanted)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["instance"], self.headers["x-request-id"]);
    }
}

/// C4: no endpoint answers without a token, changes anything for a viewer, or shows another
/// organization's dead letter.
#[tokio::test]
async fn every_endpoint_refuses_the_wrong_callers() {
    let server = Server::start().await;
    server.kill(0..1, ErrorClass::Validation).await;
    let replay = server
        .post(OPERATOR, "/replays", &json!({ "filter": {} }))
        .await;
    assert_eq!(replay.body["id"], 1, "{}", replay.body);
    for endpoint in endpoints() {
        let (method, path) = (&endpoint.method, endpoint.path.replace("{id}", "1"));
        let send = |token| server.send(token, method.clone(), &path, &Value::Null);
        let answer = send("").await;
        answer.refused(StatusCode::UNAUTHORIZED, "token_missing");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        let answer = send("a-token-that-nobody-configured-000").await;
        answer.refused(StatusCode::UNAUTHORIZED, "token_unknown");
        let viewed = send(VIEWER).await;
        if method == Method::GET {
            assert_eq!(viewed.status, StatusCode::OK, "{path}: {}", viewed.body);
        } else {
            viewed.refused(StatusCode::FORBIDDEN, "operator_needed");
        }
        let theirs = send(STRANGER).await;
        if endpoint.path.contains("{id}") {
            assert_eq!(
                theirs.status,
                StatusCode::NOT_FOUND,
                "{path}: {}",
                theirs.body
            );
        } else if method == Method::GET {
            assert_eq!(theirs.body["items"], json!([]), "{path}");
        }
    }
    let page = include_str!("../../../../docs/api.md");
    for endpoint in endpoints() {
        let line = format!("`{} {}`", endpoint.method, endpoint.path);
        assert!(page.contains(&line), "{line} is not in docs/api.md");
    }
}

#[tokio::test]
async fn without_tokens_the_answer_says_how_to_set_one() {
    let server = Server::with(|_, _| Vec::new()).await;
    let answer = server.get(OPERATOR, "/dead-letters").await;
    answer.refused(StatusCode::UNAUTHORIZED, "api_tokens_missing");
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("[[api_tokens]]")
    );
    let weak = Token::new("ann", server.world.organization, Role::Viewer, "short");
    assert_eq!(weak.err().unwrap().code(), "api_token_weak");
}

#[tokio::test]
async fn requests_have_names_and_unknown_things_are_refused() {
    let server = Server::start().await;
    let answer = server.get(VIEWER, "/dead-letters?colour=red").await;
    answer.refused(StatusCode::BAD_REQUEST, "query_invalid");
    let answer = server.get(VIEWER, "/dead-letters?class=red").await;
    answer.refused(StatusCode::BAD_REQUEST, "query_invalid");
    let answer = server.get(VIEWER, "/dead-letters?limit=201").await;
    answer.refused(StatusCode::BAD_REQUEST, "limit_invalid");
    let answer = server.get(VIEWER, "/dead-letters?cursor=%20").await;
    answer.refused(StatusCode::BAD_REQUEST, "cursor_invalid");
    let answer = server.get(VIEWER, "/dead-letters?target=nobody").await;
    answer.refused(StatusCode::NOT_FOUND, "connection_unknown");
    let answer = server.get(VIEWER, "/dead-letters/one").await;
    answer.refused(StatusCode::BAD_REQUEST, "id_invalid");
    let answer = server.get(VIEWER, "/nothing").await;
    answer.refused(StatusCode::NOT_FOUND, "endpoint_unknown");
    let answer = server
        .send(OPERATOR, Method::PUT, "/dead-letters", &Value::Null)
        .await;
    answer.refused(StatusCode::METHOD_NOT_ALLOWED, "method_unknown");

    let named = server.get(VIEWER, "/dead-letters").await;
    assert_eq!(named.headers["x-request-id"], "test-1");
    let unfit = Request::builder()
        .uri("/api/v1/dead-letters")
        .header("x-request-id", "a b")
        .body(Body::empty())
        .unwrap();
    let unfit = server.raw(unfit).await;
    assert_eq!(unfit.headers["x-request-id"].len(), 36, "one of our own");
}

/// O6.
#[tokio::test]
async fn dead_letters_are_listed_by_filter_in_pages_and_shown() {
    let server = Server::start().await;
    server.kill(0..3, ErrorClass::Validation).await;
    server.kill(3..4, ErrorClass::Timeout).await;
    let mut seen = Vec::new();
    let mut path = "/dead-letters?limit=3".to_owned();
    loop {
        let page = server.get(VIEWER, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let items = page.body["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
        let Some(next) = page.body["next_cursor"].as_str() else {
            break;
        };
        path = format!("/dead-letters?limit=3&cursor={next}");
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|a, b| a > b));
    let some = "/dead-letters?class=validation&target=one&state=open&entity_type=Location";
    let some = server.get(VIEWER, some).await;
    assert_eq!(some.body["items"].as_array().unwrap().len(), 3);
    let one = server
        .get(VIEWER, &format!("/dead-letters/{}", seen[0]))
        .await;
    assert_eq!(one.body["class"], "timeout");
    assert_eq!(one.body["attempts"][0]["outcome"], "dead");
    let none = server.get(VIEWER, "/dead-letters/999").await;
    none.refused(StatusCode::NOT_FOUND, "dead_letter_unknown");
}

/// O6: what is discarded is closed for good, with who and why; another organization's stays.
#[tokio::test]
async fn dead_letters_are_discarded_with_a_reason() {
    let server = Server::start().await;
    server.kill(0..3, ErrorClass::Validation).await;
    let discard =
        async |token, body: Value| server.post(token, "/dead-letters/discard", &body).await;
    let some = json!({ "filter": { "ids": [1, 2] }, "reason": "test units" });
    let theirs = discard(STRANGER, some.clone()).await;
    assert_eq!(theirs.body, json!({ "discarded": 0 }));
    let rehearsal = json!({ "filter": {}, "reason": "test units", "dry_run": true });
    let rehearsal = discard(OPERATOR, rehearsal).await;
    assert_eq!(rehearsal.body, json!({ "matched": 3 }));
    let mine = discard(OPERATOR, some).await;
    assert_eq!(mine.body, json!({ "discarded": 2 }));
    let closed = server
        .get(VIEWER, "/dead-letters?state=discarded&ids=1,3")
        .await;
    let items = closed.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(
        (&items[0]["actor"], &items[0]["note"]),
        (&json!("api:ann"), &json!("test units"))
    );
    for unfit in [
        json!({ "filter": {}, "reason": " " }),
        json!({ "filter": {} }),
        json!({ "filter": { "cursor": "1" }, "reason": "x" }),
        json!({ "filter": { "colour": "red" }, "reason": "x" }),
    ] {
        let answer = discard(OPERATOR, unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let large = json!({ "filter": {}, "reason": "x".repeat(1 << 20) });
    let answer = discard(OPERATOR, large).await;
    answer.refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
}

/// O1: what nobody knows is settled once, by its organization, with who and why.
#[tokio::test]
async fn unknown_pushes_are_listed_and_settled() {
    let server = Server::start().await;
    let world = &server.world;
    world.apply_one(location("p1", 1, 100)).await;
    let task = world.claim_single().await;
    assert!(
        world
            .fail(&task, ErrorClass::Timeout, PushNext::Unknown)
            .await
    );
    let listed = server.get(VIEWER, "/unknown-pushes?target=one").await;
    let id = &listed.body["items"][0]["task_id"];
    assert_eq!(id, &json!(task.lease.task_id), "{}", listed.body);
    assert_eq!(listed.body["items"][0]["version"], 1);
    let settle =
        async |token, body: &Value| server.post(token, "/unknown-pushes/settle", body).await;
    for unfit in [
        json!({ "task_id": id, "verdict": "applied", "reason": "x" }),
        json!({ "task_id": id, "verdict": "not_applied", "external_id": "9", "reason": "x" }),
        json!({ "task_id": id, "verdict": "maybe", "reason": "x" }),
        json!({ "task_id": id, "verdict": "given_up", "reason": " " }),
    ] {
        let answer = settle(OPERATOR, &unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let applied =
        json!({ "task_id": id, "verdict": "applied", "external_id": "9", "reason": "seen" });
    let theirs = settle(STRANGER, &applied).await;
    theirs.refused(StatusCode::NOT_FOUND, "task_not_unknown");
    let mine = settle(OPERATOR, &applied).await;
    assert_eq!(mine.body, json!({ "task_id": id, "settled": "applied" }));
    let again = settle(OPERATOR, &applied).await;
    again.refused(StatusCode::NOT_FOUND, "task_not_unknown");
    let activity = server.get(VIEWER, "/activity").await;
    assert_eq!(activity.body["items"][0]["actor"], "api:ann");
    assert_eq!(activity.body["items"][0]["event"], "unknown_settled");
}

/// O7.
#[tokio::test]
async fn blockers_are_shown_with_their_reasons() {
    let server = Server::start().await;
    let world = &server.world;
    world.apply_one(request("r1", 1, "p1")).await;
    let task = world.claim_single().await;
    let on = task.parents[0].parent.clone();
    assert!(world.settle(&task, PushNext::Blocked { on }).await);
    let blockers = server.get(VIEWER, "/blockers?target=one&limit=5").await;
    let first = &blockers.body["items"][0];
    assert_eq!(first["record"], "yardi/Location/p1", "{}", blockers.body);
    assert_eq!(
        (&first["waiting"], &first["reason"]),
        (&json!(1), &json!("unseen"))
    );
}

/// O6: ordered, watched, paused, resumed, cancelled; all of it kept with who and why.
#[tokio::test]
async fn replays_are_ordered_watched_and_stopped() {
    let server = Server::start().await;
    server.kill(0..3, ErrorClass::Validation).await;
    let rehearsal = json!({ "filter": { "target": "one" }, "dry_run": true });
    let rehearsal = server.post(OPERATOR, "/replays", &rehearsal).await;
    assert_eq!(rehearsal.status, StatusCode::OK, "{}", rehearsal.body);
    assert_eq!(rehearsal.body["replayable"], 3);
    let order = json!({ "filter": { "ids": [1, 2] }, "rate": 50, "note": "mended" });
    let started = server.post(OPERATOR, "/replays", &order).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.body);
    assert_eq!(started.headers["location"], "/api/v1/replays/1");
    assert_eq!(
        (&started.body["matched"], &started.body["waiting"]),
        (&json!(2), &json!(2))
    );
    for (verb, state) in [
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
    ] {
        let path = format!("/replays/1/{verb}");
        let changed = server
            .post(OPERATOR, &path, &json!({ "note": "lunch" }))
            .await;
        assert_eq!(changed.body["state"], state, "{}", changed.body);
        let theirs = server.post(STRANGER, &path, &Value::Null).await;
        theirs.refused(StatusCode::NOT_FOUND, "replay_unknown");
    }
    let again = server
        .post(OPERATOR, "/replays/1/resume", &Value::Null)
        .await;
    again.refused(StatusCode::CONFLICT, "replay_transition_refused");
    let found = server.get(VIEWER, "/replays?state=cancelled&limit=1").await;
    assert_eq!(found.body["items"][0]["note"], "mended");
    assert_eq!(found.body["next_cursor"], Value::Null);
    let log = server.get(VIEWER, "/activity?limit=1").await;
    assert_eq!(log.body["items"][0]["event"], "replays.cancelled");
    assert_eq!(log.body["items"][0]["actor"], "api:ann");
    let next = log.body["next_cursor"].as_str().unwrap();
    let log = server
        .get(VIEWER, &format!("/activity?limit=200&cursor={next}"))
        .await;
    assert_eq!(log.body["items"].as_array().unwrap().len(), 3);
    for unfit in [
        json!({ "filter": {}, "speed": 1 }),
        json!({ "filter": { "cursor": "1" } }),
        json!({}),
    ] {
        let answer = server.post(OPERATOR, "/replays", &unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let still = json!({ "filter": {}, "rate": 0 });
    let answer = server.post(OPERATOR, "/replays", &still).await;
    answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "replay_rate_invalid");
}

/// The same key orders one replay, whoever retries.
#[tokio::test]
async fn an_order_with_a_key_is_carried_out_once() {
    let server = Server::start().await;
    server.kill(0..2, ErrorClass::Validation).await;
    let order = async |key: &str| {
        let request = Request::post("/api/v1/replays")
            .header(header::AUTHORIZATION, format!("Bearer {OPERATOR}"))
            .header("idempotency-key", key)
            .body(Body::from(json!({ "filter": {} }).to_string()))
            .unwrap();
        server.raw(request).await
    };
    let first = order("k1").await;
    let again = order("k1").await;
    assert_eq!(
        (&first.body["id"], &again.body["id"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(order("k2").await.body["id"], 2);
    let unfit = order(&"k".repeat(201)).await;
    unfit.refused(StatusCode::BAD_REQUEST, "idempotency_key_invalid");
}

/// Edited data passes the schema first, and the one letter must be named.
#[tokio::test]
async fn edited_data_is_checked_before_it_is_taken() {
    let server = Server::start().await;
    server.kill(0..2, ErrorClass::Validation).await;
    let order = async |filter: Value, data: Value, dry_run: bool| {
        let order = json!({ "filter": filter, "data": data, "dry_run": dry_run });
        server.post(OPERATOR, "/replays", &order).await
    };
    for dry_run in [true, false] {
        let answer = order(json!({ "ids": [1] }), json!({ "name": 7 }), dry_run).await;
        answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "edit_invalid");
        let told = answer.body["detail"].as_str().unwrap();
        assert!(
            told.contains("Location") && told.contains("required"),
            "{told}"
        );
        let answer = order(json!({}), json!({}), dry_run).await;
        answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "edit_needs_one");
        let answer = order(json!({ "ids": [99] }), json!({}), dry_run).await;
        answer.refused(StatusCode::NOT_FOUND, "dead_letter_unknown");
    }
    let sound = json!({
        "kind": "property", "number": "1", "name": "Oak Court", "property_code": "oak",
        "address": {}, "active": true
    });
    let answer = order(json!({ "ids": [1] }), sound.clone(), false).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert_eq!(answer.body["edited"], true);
    let shown = server.get(VIEWER, "/dead-letters/1").await;
    assert_eq!(shown.body["edits"][0]["data"], sound);
    assert_eq!(shown.body["edits"][0]["actor"], "api:ann");
}
