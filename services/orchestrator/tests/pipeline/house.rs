//! A whole Sluice in one process over embedded backends, for one test.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use sluice_connectors::{credentials::Fleet, library::Library};
use sluice_core::{
    OrganizationId, RunId,
    catalogue::{Catalogue, CatalogueSpec},
    run::RunKind,
};
use sluice_embedded::{EmbeddedSql, LocalBroker, SqliteRaw};
use sluice_orchestrator::{
    Orchestrator, SourceStreams,
    plan::{self, RunRequest},
    replay,
};
use sluice_runtime::Shutdown;
use sluice_store::{
    Backends, Broker, MasterStore, RawStore,
    dead_letter::DeadLetterFilter,
    master::{MasterQuery, RecordHistory},
    raw::{RawRecord, RawRecordQuery},
    replay::{NewReplay, ReplayDetail, ReplayState},
    run::{NewRun, Run},
};
use sluice_sync_in::{Sources, SyncIn};
use sluice_sync_out::{SyncOut, Targets};
use sluice_testkit::wait_until;
use sluice_transform::Schemas;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{connector, system::System};

/// Nothing in these tests takes longer unless it is stuck.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct House {
    pub system: System,
    pub backends: Backends,
    pub catalogue: Arc<Catalogue>,
    pub organization: OrganizationId,
    pub sources: Arc<Sources>,
    targets: Arc<Targets>,
    fleet: Fleet,
    pub shutdown: Shutdown,
    pub lease: Duration,
    pub rescue_interval: Duration,
    crew: JoinSet<()>,
    dir: TempDir,
}

impl House {
    /// Stores, connectors and a scripted system; no service runs yet. `source` and `target` are
    /// the connectors of the two connections.
    pub async fn build(source: &str, target: &str) -> Self {
        let dir = TempDir::new().unwrap();
        connector::write(&dir.path().join("connectors"));
        let system = System::start().await;
        let file = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
        let sql = Arc::new(EmbeddedSql::open(&file("master.db")).await.unwrap());
        let raw = Arc::new(SqliteRaw::connect(&file("raw.db")).await.unwrap());
        sql.migrate().await.unwrap();
        raw.prepare().await.unwrap();
        let spec: CatalogueSpec = serde_json::from_value(json!({
            "organizations": [{"slug": "acme", "name": "Acme"}],
            "connections": [
                {
                    "organization": "acme", "name": "src", "connector": source,
                    "config": {"base_url": format!("http://{}", system.address)},
                    "retry": {"max_retries": 2, "base_delay_ms": 10, "max_delay_ms": 20},
                },
                {
                    "organization": "acme", "name": "dst", "connector": target,
                    "config": {
                        "base_url": format!("http://{}", system.address),
                        "http": {"timeout_seconds": 1},
                    },
                    "retry": {"max_retries": 2, "base_delay_ms": 10, "max_delay_ms": 20},
                },
            ],
            "flows": [{
                "organization": "acme", "name": "main", "source": "src",
                "targets": [{"connection": "dst"}],
            }],
        }))
        .unwrap();
        let catalogue = Arc::new(sql.register(&spec).await.unwrap());
        let library = Library::new(Some(&dir.path().join("connectors"))).unwrap();
        let schemas = Arc::new(Schemas::shipped().unwrap());
        let fleet = Fleet {
            limits: sql.clone(),
            vault: None,
        };
        let (sources, errors) = Sources::open(&library, &catalogue, &schemas, &fleet);
        assert!(errors.is_empty(), "{errors:?}");
        let (targets, errors) = Targets::open(&library, &catalogue, &fleet);
        assert!(errors.is_empty(), "{errors:?}");
        let broker: Arc<dyn Broker> = Arc::new(LocalBroker::default());
        Self {
            system,
            backends: Backends {
                raw,
                master: sql.clone(),
                tasks: sql.clone(),
                fleet: sql.clone(),
                credentials: sql,
                broker,
            },
            organization: catalogue.organization("acme").unwrap(),
            catalogue,
            sources: Arc::new(sources),
            targets: Arc::new(targets),
            fleet,
            shutdown: Shutdown::manual(),
            lease: Duration::from_secs(75),
            rescue_interval: Duration::from_millis(10),
            crew: JoinSet::new(),
            dir,
        }
    }

    /// A house in which everything works.
    pub async fn open(target: &str) -> Self {
        let mut house = Self::build("scripted", target).await;
        house.start();
        house
    }

    pub fn start(&mut self) {
        self.start_orchestrator();
        self.start_sync_in();
        self.start_sync_out();
    }

    pub fn start_orchestrator(&mut self) {
        let context = Orchestrator {
            backends: self.backends.clone(),
            catalogue: self.catalogue.clone(),
            streams: Arc::new(self.streams()),
            settings: sluice_orchestrator::Settings {
                idle: Duration::from_millis(5),
                rescue_interval: self.rescue_interval,
                // What dies between staging and publishing is published again after this.
                staged_for: Duration::from_secs(2),
                mirror_interval: Duration::from_millis(50),
                ..Default::default()
            },
        };
        let shutdown = self.shutdown.clone();
        self.crew
            .spawn(async move { sluice_orchestrator::run(context, shutdown).await.unwrap() });
    }

    fn streams(&self) -> SourceStreams {
        let mut streams = SourceStreams::default();
        for source in self.sources.all() {
            let named = source.source.streams().iter();
            let named = named.filter_map(|s| Some((s.name.clone(), s.entity_type.clone()?)));
            streams.insert(source.connection.id, named.collect());
        }
        streams
    }

    pub fn sync_in(&self) -> SyncIn {
        SyncIn {
            backends: self.backends.clone(),
            catalogue: self.catalogue.clone(),
            sources: self.sources.clone(),
            settings: sluice_sync_in::Settings {
                lease: self.lease,
                recovery_interval: Duration::from_millis(20),
                ..Default::default()
            },
            worker: "test-in".into(),
        }
    }

    pub fn start_sync_in(&mut self) {
        let (context, shutdown) = (self.sync_in(), self.shutdown.clone());
        self.crew
            .spawn(async move { sluice_sync_in::run(context, shutdown).await.unwrap() });
    }

    pub fn start_sync_out(&mut self) {
        let context = SyncOut {
            backends: self.backends.clone(),
            targets: self.targets.clone(),
            settings: sluice_sync_out::Settings {
                lease: self.lease,
                ..Default::default()
            },
            worker: "test-out".into(),
        };
        let shutdown = self.shutdown.clone();
        self.crew
            .spawn(async move { sluice_sync_out::run(context, shutdown).await.unwrap() });
    }

    /// Stops what runs, softly, and waits for it; services can be started again afterwards.
    pub async fn stop(&mut self) {
        self.shutdown.stop();
        let crew = &mut self.crew;
        tokio::time::timeout(PATIENCE, async {
            while let Some(ended) = crew.join_next().await {
                ended.unwrap();
            }
        })
        .await
        .expect("services stop softly in time");
        self.shutdown = Shutdown::manual();
    }

    /// The mapping for the target changes while nothing runs.
    pub fn change_mapping(&mut self) {
        let folder = self.dir.path().join("connectors");
        connector::change_mapping(&folder);
        let library = Library::new(Some(&folder)).unwrap();
        let (targets, errors) = Targets::open(&library, &self.catalogue, &self.fleet);
        assert!(errors.is_empty(), "{errors:?}");
        self.targets = Arc::new(targets);
    }

    /// Drops everything that runs, in the middle of whatever it does.
    pub async fn crash(&mut self) {
        self.shutdown.abort();
        self.crew.shutdown().await;
        self.shutdown = Shutdown::manual();
    }

    pub fn new_run(&self, request: &RunRequest) -> NewRun {
        let source = self.sources.all().next().unwrap();
        plan::plan(&self.catalogue, request, &source.stream_names()).unwrap()
    }

    pub fn request(&self, kind: RunKind) -> RunRequest {
        RunRequest::new(self.organization, "main", kind)
    }

    pub async fn start_run(&self, request: &RunRequest) -> RunId {
        let run = self.new_run(request);
        self.backends.tasks.start_run(&run).await.unwrap().id
    }

    /// Runs a request to its end.
    pub async fn run(&self, request: &RunRequest) -> Run {
        let id = self.start_run(request).await;
        self.ended(id).await
    }

    pub async fn full(&self) -> Run {
        self.run(&self.request(RunKind::Full)).await
    }

    pub async fn ended(&self, id: RunId) -> Run {
        wait_until(PATIENCE, || async { self.look(id).await.state.is_final() }).await;
        self.look(id).await
    }

    pub async fn look(&self, id: RunId) -> Run {
        let detail = self.backends.tasks.run(self.organization, id).await;
        detail.unwrap().unwrap().run
    }

    /// Orders a replay and waits until every letter is put back or skipped.
    pub async fn replay(&self, filter: &DeadLetterFilter, edit: Option<Value>) -> ReplayDetail {
        let tasks = &*self.backends.tasks;
        let new = NewReplay {
            filter: filter.clone(),
            rate: None,
            edit,
            actor: "tester".into(),
            note: "mended".into(),
            idempotency_key: None,
        };
        let schemas = Schemas::shipped().unwrap();
        let id = replay::order(tasks, &schemas, &new).await.unwrap().id;
        let look = async || tasks.replay(self.organization, id).await.unwrap().unwrap();
        wait_until(PATIENCE, || async {
            look().await.replay.state == ReplayState::Done
        })
        .await;
        look().await
    }

    /// Waits until no task is owed.
    pub async fn quiet(&self) {
        wait_until(PATIENCE, || async {
            self.backends.tasks.backlog().await.unwrap().is_empty()
        })
        .await;
    }

    pub async fn history(&self, entity: &str, source_id: &str) -> RecordHistory {
        self.backends
            .master
            .history(
                self.organization,
                &entity.into(),
                &format!("src:{source_id}"),
            )
            .await
            .unwrap()
            .expect("the record is known")
    }

    pub async fn master_count(&self) -> usize {
        let query = MasterQuery {
            limit: 1_000,
            ..MasterQuery::default()
        };
        self.backends.master.records(&query).await.unwrap().len()
    }

    pub async fn raw_records(&self) -> Vec<RawRecord> {
        let query = RawRecordQuery {
            limit: 1_000,
            ..RawRecordQuery::default()
        };
        self.backends.raw.records(&query).await.unwrap().records
    }
}
