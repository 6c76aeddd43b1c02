//! Tokens that several processes share, of a system that changes the refresh token with each use
//! and takes the old one for theft: one process renews, all use the result, and what happens when
//! the one that renews is killed.

mod harness;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing,
};
use harness::{ORGANIZATION, Process, Setup, System};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(120);
/// Streams, each read by a flow of its own, so that processes read at once.
const STREAMS: [&str; 3] = ["east", "north", "west"];
const PAGES: usize = 12;
const REFRESH_TOKEN: &str = "CRM_REFRESH_TOKEN";

/// The system, as it sees itself.
#[derive(Default)]
struct Crm {
    renewals: usize,
    /// Refresh tokens that were good once and came again.
    stolen: usize,
    /// Calls for a token.
    asked: usize,
    /// The access token ends after so many calls; never when 0.
    calls_per_token: usize,
    calls_left: usize,
    /// Pages given, over all streams.
    pages: usize,
}

type Shared = Arc<Mutex<Crm>>;

impl Crm {
    fn access(&self) -> String {
        format!("Bearer access-{}", self.renewals)
    }

    fn refresh(&self) -> String {
        format!("refresh-{}", self.renewals)
    }
}

fn lock(crm: &Shared) -> MutexGuard<'_, Crm> {
    crm.lock().unwrap()
}

async fn token(State(crm): State<Shared>, form: String) -> (StatusCode, Json<Value>) {
    let mut crm = lock(&crm);
    crm.asked += 1;
    let newest = format!("refresh_token={}", crm.refresh());
    if !form.split('&').any(|field| field == newest) {
        crm.stolen += 1;
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": "invalid_grant" })),
        );
    }
    crm.renewals += 1;
    crm.calls_left = crm.calls_per_token;
    let answer = json!({
        "access_token": format!("access-{}", crm.renewals), "refresh_token": crm.refresh(),
        "expires_in": 3600,
    });
    (StatusCode::OK, Json(answer))
}

async fn page(
    State(crm): State<Shared>,
    Path(stream): Path<String>,
    Query(query): Query<HashMap<String, usize>>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    let mut crm = lock(&crm);
    let sent = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let over = crm.calls_per_token > 0 && crm.calls_left == 0;
    if sent != Some(&*crm.access()) || over {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    crm.calls_left = crm.calls_left.saturating_sub(1);
    crm.pages += 1;
    let page = query.get("page").copied().unwrap_or(0);
    let items: Vec<_> = (0..2)
        .filter(|_| page < PAGES)
        .map(|item| json!({ "id": format!("{stream}-{page}-{item}") }))
        .collect();
    (StatusCode::OK, Json(json!({ "items": items })))
}

async fn serve() -> (Shared, String) {
    let crm = Shared::default();
    let router = Router::new()
        .route("/token", routing::post(token))
        .route("/items/{stream}", routing::get(page))
        .with_state(crm.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (crm, url)
}

/// The connector, a connection to the system, and a flow per stream.
fn configure(system: &System, url: &str) {
    let folder = system.folder.path().join("connectors/crm/to_canonical");
    std::fs::create_dir_all(&folder).unwrap();
    let streams: Vec<_> = STREAMS
        .iter()
        .map(|stream| {
            let rules = r#"{"skip": "only read"}"#;
            std::fs::write(folder.join(format!("{stream}.vrl")), rules).unwrap();
            json!({
                "name": stream, "primary_key": [["id"]],
                "retriever": {
                    "record_selector": { "extractor": { "field_path": ["items"] } },
                    "paginator": {
                        "type": "DefaultPaginator",
                        "pagination_strategy": { "type": "PageIncrement", "page_size": 2 },
                        "page_token_option": {
                            "type": "RequestOption", "inject_into": "request_parameter", "field_name": "page",
                        },
                    },
                    "requester": {
                        "url_base": "{{ config['url'] }}", "path": format!("/items/{stream}"),
                        "error_handler": {
                            "type": "DefaultErrorHandler",
                            "response_filters": [{
                                "type": "HttpResponseFilter", "http_codes": [401],
                                "action": "REFRESH_TOKEN_THEN_RETRY",
                            }],
                        },
                        "authenticator": {
                            "type": "OAuthAuthenticator",
                            "token_refresh_endpoint": "{{ config['url'] }}/token",
                            "client_id": "acme", "client_secret": "{{ config['client_secret'] }}",
                            "refresh_token_updater": {
                                "refresh_token_config_path": ["refresh_token"],
                                "access_token_config_path": ["access_token"],
                                "token_expiry_date_config_path": ["expires"],
                            },
                        },
                    },
                },
            })
        })
        .collect();
    let order: Vec<_> = STREAMS
        .iter()
        .map(|stream| json!({ "name": stream, "entity_type": "Location" }))
        .collect();
    let manifest = json!({
        "type": "DeclarativeSource", "version": "6.0.0",
        "check": { "type": "CheckStream", "stream_names": [STREAMS[0]] },
        "streams": streams,
        "metadata": { "sluice": { "streams": order } },
    });
    let file = system.folder.path().join("connectors/crm/manifest.yaml");
    std::fs::write(file, manifest.to_string()).unwrap();
    let text = std::fs::read_to_string(system.configuration()).unwrap();
    let mut settings: Value = toml::from_str(&text).unwrap();
    settings["connectors"]["dir"] = json!(system.folder.path().join("connectors"));
    let connections = settings["connections"].as_array_mut().unwrap();
    connections.push(json!({
        "organization": ORGANIZATION, "name": "crm", "connector": "crm",
        "config": {
            "url": url, "client_secret": "env:CRM_SECRET",
            "refresh_token": format!("env:{REFRESH_TOKEN}"), "access_token": "", "expires": "",
        },
        "retry": { "max_retries": 2, "base_delay": "200ms", "max_delay": "1s" },
    }));
    let flows = settings["flows"].as_array_mut().unwrap();
    flows.extend(STREAMS.map(|stream| {
        json!({
            "organization": ORGANIZATION, "name": stream, "source": "crm", "streams": [stream],
            "targets": [{ "connection": "one" }],
        })
    }));
    std::fs::write(system.configuration(), toml::to_string(&settings).unwrap()).unwrap();
}

/// A system with the crm, whose refresh token is the named one.
struct Case {
    system: System,
    crm: Shared,
    refresh_token: String,
}

impl Case {
    /// Until the process has died at this fail point.
    async fn until_killed(&self, dying: &mut Process, point: &str) {
        self.system
            .until(PATIENCE, || {
                let ended = !dying.is_running();
                async move { ended }
            })
            .await;
        let text = dying.text();
        assert!(
            text.contains(&format!("fail point {point}: killed")),
            "{text}"
        );
    }

    async fn start(seed: u64) -> Self {
        let system = System::start(Setup {
            seed,
            records: 60,
            ..Setup::default()
        })
        .await;
        let (crm, url) = serve().await;
        configure(&system, &url);
        Self {
            system,
            crm,
            refresh_token: "refresh-0".to_owned(),
        }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = self.system.environment();
        variables.push(("CRM_SECRET", "planted".to_owned()));
        variables.push((REFRESH_TOKEN, self.refresh_token.clone()));
        variables
    }

    async fn spawn(&self, role: &'static str, fail_point: Option<&str>) -> Process {
        let mut variables = self.variables();
        variables.extend(fail_point.map(|rule| ("SLUICE_FAIL_POINTS", rule.to_owned())));
        Process::start(role, variables, self.system.folder.path()).await
    }

    /// What `doctor`, a process of its own, says about the connection.
    async fn doctor(&self) -> Value {
        let (_, findings) = harness::process::command(
            &["doctor", "--output", "json"],
            self.variables(),
            self.system.folder.path(),
        )
        .await;
        let findings = findings.as_array().unwrap_or_else(|| panic!("{findings}"));
        let about = |finding: &&Value| finding["what"].as_str().unwrap().contains("/crm ");
        findings.iter().find(about).unwrap().clone()
    }

    async fn command(&self, arguments: &[&str]) -> Value {
        let folder = self.system.folder.path();
        let (status, answer) = harness::process::command(arguments, self.variables(), folder).await;
        assert_eq!(status, 0, "{answer}");
        answer
    }

    /// Reads all streams at once; returns the states of the runs.
    async fn read_all(&self) -> Vec<String> {
        let mut runs = Vec::new();
        for stream in STREAMS {
            let start = ["run", "start", stream, "--full", "--output", "json"];
            runs.push(self.command(&start).await["run"].as_i64().unwrap());
        }
        let mut states = Vec::new();
        for run in runs {
            states.push(self.system.until_over(run, PATIENCE).await);
        }
        states
    }
}

/// Three services and three commands, and tokens that end while they read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_renews_for_all() {
    let case = Case::start(51).await;
    lock(&case.crm).calls_per_token = 7;
    let roles = ["sync-in", "sync-in", "sync-in", "orchestrator"];
    let mut processes = futures::future::join_all(roles.map(|role| case.spawn(role, None))).await;
    let (states, ..) = tokio::join!(case.read_all(), case.doctor(), case.doctor(), case.doctor());
    assert_eq!(states, ["done"; 3], "{}", case.system.standing().await);
    let crm = lock(&case.crm);
    assert!(crm.pages >= STREAMS.len() * PAGES, "{} pages", crm.pages);
    assert!(crm.renewals >= crm.pages / 7, "{} renewals", crm.renewals);
    assert!(
        crm.renewals <= crm.pages / 7 + 1,
        "{} renewals for {} calls: some were made in vain",
        crm.renewals,
        crm.pages
    );
    assert_eq!(crm.stolen, 0, "a refresh token was used twice");
    for process in &mut processes {
        assert!(process.is_running(), "{}", process.text());
    }
}

/// Killed with a kept token in hand: the others use it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_token_outlives_who_renewed_it() {
    let case = Case::start(52).await;
    let mut dying = case.spawn("sync-in", Some("token.kept=kill")).await;
    case.until_killed(&mut dying, "token.kept").await;
    let _processes = [
        case.spawn("sync-in", None).await,
        case.spawn("orchestrator", None).await,
    ];
    assert_eq!(case.doctor().await["ok"], true);
    assert_eq!(case.read_all().await, ["done"; 3]);
    let crm = lock(&case.crm);
    assert_eq!((crm.renewals, crm.stolen), (1, 0));
}

/// Killed between the answer and the keeping: nobody can know the new refresh token. That is said
/// once it is sure, with what to do, and nobody asks the system again and again; a new login in
/// the settings ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_refresh_token_is_told_and_not_tried_again() {
    let mut case = Case::start(53).await;
    let mut dying = case.spawn("sync-in", Some("token.renewed=kill")).await;
    case.until_killed(&mut dying, "token.renewed").await;
    assert_eq!(lock(&case.crm).renewals, 1);
    let survivors = [
        case.spawn("sync-in", None).await,
        case.spawn("sync-in", None).await,
        case.spawn("orchestrator", None).await,
    ];
    let lost = async || {
        let finding = case.doctor().await;
        assert_eq!(finding["ok"], false, "{finding}");
        finding["code"] == "refresh_token_lost"
    };
    // The turn of the dead one has to end first.
    case.system.until(PATIENCE, || async { lost().await }).await;
    let finding = case.doctor().await;
    let problem = finding["problem"].as_str().unwrap();
    assert!(
        problem.contains("put the new refresh token into the connection's settings"),
        "{problem}"
    );
    assert_eq!(case.read_all().await, ["failed"; 3]);
    for _ in 0..3 {
        assert!(lost().await);
    }
    {
        let crm = lock(&case.crm);
        assert_eq!(
            (crm.asked, crm.stolen),
            (2, 1),
            "asked again with what was refused"
        );
    }
    // Somebody logs in and tells the settings.
    drop(survivors);
    case.refresh_token = lock(&case.crm).refresh();
    let _processes = [
        case.spawn("sync-in", None).await,
        case.spawn("orchestrator", None).await,
    ];
    assert_eq!(case.read_all().await, ["done"; 3]);
    assert_eq!(lock(&case.crm).renewals, 2);
}
