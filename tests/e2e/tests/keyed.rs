//! A target that knows nothing but idempotency keys, through the whole program: a worker that dies
//! before it has kept a create has not sent it, and leaves no doubt behind (promise O1).

mod harness;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing,
};
use harness::{MongoDatabase, ORGANIZATION, Process, VirtualHost};
use serde_json::{Value, json};
use sluice_testkit::{PostgresDatabase, wait_until};
use tempfile::TempDir;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(120);
const RECORD: [&str; 6] = ["record", "show", "Location", "shop:L1", "--output", "json"];

/// Source and target in one: what it shows, and what it was sent.
#[derive(Default)]
struct Shop {
    name: &'static str,
    /// Creates, with their keys.
    creates: Vec<(String, Value)>,
    updates: Vec<Value>,
}

type Shared = Arc<Mutex<Shop>>;

fn lock(shop: &Shared) -> MutexGuard<'_, Shop> {
    shop.lock().unwrap()
}

async fn items(State(shop): State<Shared>) -> Json<Value> {
    Json(json!({ "items": [{ "id": "L1", "name": lock(&shop).name }] }))
}

async fn create(
    State(shop): State<Shared>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut shop = lock(&shop);
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    shop.creates.push((key, body));
    let answer = json!({ "id": format!("place-{}", shop.creates.len()) });
    (StatusCode::CREATED, Json(answer))
}

async fn update(State(shop): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    lock(&shop).updates.push(body);
    Json(json!({ "id": "place-1" }))
}

async fn serve() -> (Shared, String) {
    let shop = Shared::default();
    let router = Router::new()
        .route("/items", routing::get(items))
        .route("/places", routing::post(create))
        .route("/places/{id}", routing::put(update))
        .with_state(shop.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shop, url)
}

const READ: &str = r#"
{
  "entity_type": "Location",
  "source_id": to_string(.id) ?? "",
  "data": {
    "kind": "property", "number": "1", "name": .name, "property_code": "1", "address": {},
    "active": true,
  },
}
"#;

/// The connectors and the settings. Stores without an address are the embedded ones.
fn configure(folder: &Path, url: &str, stores: [&str; 3]) {
    let write = |path: &str, text: &str| {
        let path = folder.join("connectors").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let base = "{{ config['url'] }}";
    let manifest = json!({
        "type": "DeclarativeSource", "version": "6.0.0",
        "check": { "type": "CheckStream", "stream_names": ["items"] },
        "streams": [{
            "name": "items", "primary_key": [["id"]],
            "retriever": {
                "record_selector": { "extractor": { "field_path": ["items"] } },
                "requester": { "url_base": base, "path": "/items" },
            },
        }],
        "metadata": { "sluice": { "streams": [{ "name": "items", "entity_type": "Location" }] } },
    });
    write("shop/manifest.yaml", &manifest.to_string());
    write("shop/to_canonical/items.vrl", READ);
    let operations = json!({
        "type": "DeclarativeTarget", "version": 1,
        "defaults": { "type": "HttpRequester", "url_base": base, "http_method": "POST" },
        "check": { "requester": { "http_method": "GET", "path": "/items" } },
        "entities": { "Location": {
            "create": {
                "type": "RecordWrite", "id_path": ["id"],
                "requester": {
                    "path": "/places", "request_body_json": "{{ body }}",
                    "request_headers": { "Idempotency-Key": "{{ idempotency_key }}" },
                },
            },
            "update": {
                "type": "RecordWrite", "id_path": ["id"],
                "requester": {
                    "http_method": "PUT", "path": "/places/{{ external_id }}",
                    "request_body_json": "{{ body }}",
                },
            },
        } },
    });
    write("keyed/operations.yaml", &operations.to_string());
    write(
        "keyed/from_canonical/Location.vrl",
        r#"{"name": .data.name}"#,
    );
    let connection = |name: &str| {
        json!({
            "organization": ORGANIZATION, "name": name, "connector": name, "config": { "url": url },
        })
    };
    let [raw, master, broker] = stores;
    let settings = json!({
        "store": { "raw": raw, "master": master, "broker": broker },
        "http": { "listen": "127.0.0.1:0" },
        "telemetry": { "log_format": "json", "log_level": "info" },
        "services": {
            "lease": "5s",
            "orchestrator": { "interval": "100ms", "rescue_interval": "500ms" },
        },
        "connectors": { "timeout": "4s", "dir": folder.join("connectors") },
        "organizations": [{ "slug": ORGANIZATION, "name": "Acme Homes" }],
        "connections": [connection("shop"), connection("keyed")],
        "flows": [{
            "organization": ORGANIZATION, "name": "main", "source": "shop",
            "targets": [{ "connection": "keyed" }],
        }],
    });
    let text = toml::to_string(&settings).unwrap();
    fs::write(folder.join("sluice.toml"), text).unwrap();
}

struct Case {
    folder: TempDir,
    shop: Shared,
}

impl Case {
    async fn start(stores: [&str; 3]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (shop, url) = serve().await;
        configure(folder.path(), &url, stores);
        Self { folder, shop }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let file = self.folder.path().join("sluice.toml");
        vec![("SLUICE_CONFIG", file.display().to_string())]
    }

    async fn up(&self, fail_points: Option<String>) -> Process {
        let mut environment = self.environment();
        environment.extend(fail_points.map(|rules| ("SLUICE_FAIL_POINTS", rules)));
        Process::start("up", environment, self.folder.path()).await
    }

    async fn command(&self, arguments: &[&str]) -> (i32, Value) {
        let folder = self.folder.path();
        harness::process::command(arguments, self.environment(), folder).await
    }

    /// Reads the source, which by now shows this name.
    async fn read(&self, name: &'static str) {
        lock(&self.shop).name = name;
        let run = ["run", "start", "main", "--full", "--wait"];
        let (status, answer) = self.command(&run).await;
        assert_eq!(status, 0, "{answer}");
    }

    /// The push, with its attempts.
    async fn push(&self) -> Value {
        let (status, mut record) = self.command(&RECORD).await;
        assert_eq!(status, 0, "{record}");
        record["history"]["pushes"][0].take()
    }
}

/// A worker reaches the fail point with the record and goes no further. The record is edited at its
/// source and read again, then the worker is killed.
async fn killed_before_keeping(point: &str, stores: [&str; 3]) {
    harness::install_tls();
    let case = Case::start(stores).await;
    let dying = case.up(Some(format!("{point}=pause:10m"))).await;
    case.read("old").await;
    let reached = format!(r#""point":"{point}""#);
    wait_until(PATIENCE, || async { dying.text().contains(&reached) }).await;
    case.read("new").await;
    dying.kill().await;
    let living = case.up(None).await;
    wait_until(PATIENCE, || async {
        let push = case.push().await;
        ["completed", "unknown", "dead"].contains(&push["state"].as_str().unwrap())
    })
    .await;
    let push = case.push().await;
    assert_eq!(push["state"], "completed", "{push}\n{}", living.text());
    let shop = lock(&case.shop);
    let [(key, body)] = &*shop.creates else {
        panic!("created once: {:?}", shop.creates)
    };
    assert_eq!(*body, json!({ "name": "new" }));
    assert!(key.ends_with("-2"), "the key of version 2: {key}");
    assert!(shop.updates.is_empty(), "{:?}", shop.updates);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_after_its_claim_leaves_no_doubt() {
    killed_before_keeping("sync_out.claimed", [""; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_after_mapping_leaves_no_doubt() {
    killed_before_keeping("sync_out.mapped", [""; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_after_its_claim_leaves_no_doubt_on_the_servers() {
    let (mongo, postgres) = (MongoDatabase::new(), PostgresDatabase::create().await);
    let rabbit = VirtualHost::create().await;
    let stores = [mongo.url(), postgres.url(), rabbit.url()];
    killed_before_keeping("sync_out.claimed", stores).await;
}
