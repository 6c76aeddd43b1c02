//! The product's own parts, run as the services run them.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use sluice_connectors::{credentials::Fleet, library::Library};
use sluice_core::{
    catalogue::{Catalogue, CatalogueSpec, Connection},
    message::{QueueKind, QueueName},
    run::RunKind,
};
use sluice_embedded::{EmbeddedSql, broker::LocalBroker, raw::SqliteRaw};
use sluice_mongo::MongoRaw;
use sluice_orchestrator::{Orchestrator, plan};
use sluice_postgres::{PoolSettings, PostgresSql};
use sluice_rabbitmq::{RabbitBroker, RabbitOptions};
use sluice_runtime::Shutdown;
use sluice_store::{Backends, task::RescueSettings};
use sluice_sync_in::{Sources, SyncIn};
use sluice_sync_out::{SyncOut, Targets};
use sluice_transform::Schemas;

use crate::{
    Backend, Outcome,
    connect::{RunName, SOURCE, Servers, TARGET},
    measure::{Figures, Stopwatch},
    part::Part,
};

/// Each look costs queries, which should not show in the figures.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// The same for counting what waits.
const COUNT: Duration = Duration::from_millis(50);
const REST: u32 = 20;
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// As the program's own settings have it.
const KEEP_RAW: Duration = Duration::from_secs(30 * 86_400);
pub(crate) const WORKER: &str = "bench";

/// The product with its stores, ready to work.
pub struct Product {
    pub(crate) backends: Backends,
    pub(crate) catalogue: Arc<Catalogue>,
    connectors: Library,
    run: RunName,
}

impl Product {
    /// On the servers, or embedded in `folder`.
    pub async fn open(part: &Part, servers: Option<&Servers>) -> Outcome<Self> {
        let backends = match servers {
            Some(servers) => Self::on_servers(servers).await?,
            None => Self::embedded(&part.folder).await?,
        };
        backends.master.migrate().await?;
        backends.raw.prepare().await?;
        let (run, urls) = (&part.name, &part.urls);
        let organization = run.organization();
        let spec: CatalogueSpec = serde_json::from_value(json!({
            "organizations": [{ "slug": organization, "name": "Bench" }],
            "connections": [
                { "organization": organization, "name": SOURCE, "connector": "bench-source",
                  "config": { "base_url": urls.source } },
                { "organization": organization, "name": TARGET, "connector": "bench-target",
                  "config": { "base_url": urls.target },
                  "limits": urls.limit.map_or_else(Vec::new, |calls| vec![json!({ "calls": calls, "per_seconds": 60 })]),
                  "concurrency": 64 },
            ],
            "flows": [{ "organization": organization, "name": "bench", "source": SOURCE,
                        "targets": [{ "connection": TARGET }] }],
        }))?;
        let catalogue = Arc::new(backends.master.register(&spec).await?);
        let library = Library::new(Some(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/connectors"
        ))))?;
        Ok(Self {
            backends,
            catalogue,
            connectors: library,
            run: run.clone(),
        })
    }

    async fn on_servers(servers: &Servers) -> Outcome<Backends> {
        let pool = PoolSettings {
            max_connections: 10,
            ..PoolSettings::default()
        };
        let sql = Arc::new(PostgresSql::connect(&servers.postgres, pool).await?);
        let raw = MongoRaw::connect(&servers.mongodb, &servers.mongodb_database).await?;
        let broker = RabbitBroker::connect(&servers.rabbitmq, RabbitOptions::default()).await?;
        Ok(Backends {
            raw: Arc::new(raw),
            master: sql.clone(),
            tasks: sql.clone(),
            fleet: sql.clone(),
            credentials: sql,
            broker: Arc::new(broker),
        })
    }

    async fn embedded(folder: &Path) -> Outcome<Backends> {
        let file = |name| format!("sqlite:{}", folder.join(name).display());
        let sql = Arc::new(EmbeddedSql::open(&file("master.db")).await?);
        Ok(Backends {
            raw: Arc::new(SqliteRaw::connect(&file("raw.db")).await?),
            master: sql.clone(),
            tasks: sql.clone(),
            fleet: sql.clone(),
            credentials: sql,
            broker: Arc::new(LocalBroker::default()),
        })
    }

    fn fleet(&self) -> Fleet {
        Fleet {
            limits: self.backends.fleet.clone(),
            vault: None,
        }
    }

    /// One full run: from the first page to the last confirmed publish.
    pub async fn sync_in(
        &self,
        part: &str,
        records: u64,
        expected_messages: u64,
    ) -> Outcome<Figures> {
        let shutdown = Shutdown::manual();
        let (sources, errors) = Sources::open(
            &self.connectors,
            &self.catalogue,
            &Arc::new(Schemas::shipped()?),
            &self.fleet(),
        );
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        let sync_in = SyncIn {
            backends: self.backends.clone(),
            catalogue: self.catalogue.clone(),
            sources: Arc::new(sources),
            settings: sluice_sync_in::Settings {
                keep_raw: Some(KEEP_RAW),
                ..sluice_sync_in::Settings::default()
            },
            worker: WORKER.to_owned(),
        };
        let before = self
            .backends
            .broker
            .depth(&self.push_queue())
            .await
            .unwrap_or_default()
            .ready;
        let watch = Stopwatch::start();
        let services = [
            tokio::spawn(sluice_orchestrator::run(
                self.orchestrator(HOUR),
                shutdown.clone(),
            )),
            tokio::spawn(sluice_sync_in::run(sync_in, shutdown.clone())),
        ];
        let organization = self.organization()?;
        let request = plan::RunRequest::new(organization, "bench", RunKind::Full);
        let streams = ["records".to_owned()];
        let run =
            plan::start_run(&*self.backends.tasks, &self.catalogue, &request, &streams).await?;
        loop {
            let state = self.backends.tasks.run(organization, run.id).await?;
            let state = state.ok_or("the run has gone")?.run;
            if state.state.is_final() {
                if state.counts.read < records {
                    return Err(format!(
                        "the run is {} after {} records",
                        state.state.as_str(),
                        state.counts.read
                    )
                    .into());
                }
                let ready = self.backends.broker.depth(&self.push_queue()).await?.ready;
                if ready >= before + expected_messages {
                    break;
                }
            }
            tokio::time::sleep(POLL).await;
        }
        let figures = watch.stop(part, records);
        shutdown.stop();
        for service in services {
            service.await??;
        }
        Ok(figures)
    }

    /// Everything that waits, from its message to its settled row; begins after `wait`.
    pub async fn sync_out(
        &self,
        part: &str,
        records: u64,
        backend: Backend,
        wait: Duration,
    ) -> Outcome<Figures> {
        let shutdown = Shutdown::manual();
        let sync_out = self.sync_out_service()?;
        if backend == Backend::Embedded {
            // The broker in the process that read is gone, with what was in it.
            self.forget_messages().await?;
        }
        tokio::time::sleep(wait).await;
        let watch = Stopwatch::start();
        let mut services = vec![tokio::spawn(sluice_sync_out::run(
            sync_out,
            shutdown.clone(),
        ))];
        if backend == Backend::Embedded {
            services.push(tokio::spawn(sluice_orchestrator::run(
                self.orchestrator(HOUR),
                shutdown.clone(),
            )));
        }
        self.until_settled().await?;
        let figures = watch.stop(part, records);
        shutdown.stop();
        for service in services {
            service.await??;
        }
        Ok(figures)
    }

    /// Until no task is open. Counting many takes the database's time: nobody does while messages
    /// wait, and there is more of a rest after it.
    pub(crate) async fn until_settled(&self) -> Outcome {
        loop {
            let began = Instant::now();
            let waiting = self.backends.broker.depth(&self.push_queue()).await?;
            if waiting.ready == 0 && self.backends.tasks.backlog().await?.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(COUNT.max(began.elapsed() * REST)).await;
        }
    }

    pub(crate) fn sync_out_service(&self) -> Outcome<SyncOut> {
        let (targets, errors) = Targets::open(&self.connectors, &self.catalogue, &self.fleet());
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        Ok(SyncOut {
            backends: self.backends.clone(),
            targets: Arc::new(targets),
            settings: sluice_sync_out::Settings::default(),
            worker: format!("{WORKER}-{}", std::process::id()),
        })
    }

    pub(crate) fn orchestrator(&self, staged_for: Duration) -> Orchestrator {
        Orchestrator {
            backends: self.backends.clone(),
            catalogue: self.catalogue.clone(),
            streams: Arc::default(),
            settings: sluice_orchestrator::Settings {
                // All of it, so that the last confirmed publish can be seen.
                queue_depth: u32::MAX,
                staged_for,
                ..sluice_orchestrator::Settings::default()
            },
        }
    }

    pub(crate) fn organization(&self) -> Outcome<sluice_core::OrganizationId> {
        self.catalogue
            .organization(&self.run.organization())
            .ok_or_else(|| "the organization is not registered".into())
    }

    /// The source or the target.
    pub(crate) fn connection(&self, name: &str) -> Outcome<&Connection> {
        let mut all = self.catalogue.connections.iter();
        all.find(|connection| connection.spec.name == name)
            .ok_or_else(|| format!("the connection {name} is not registered").into())
    }

    pub(crate) fn push_queue(&self) -> QueueName {
        let kind = QueueKind::Push(sluice_core::Priority::DEFAULT.class());
        self.run.product_queue(kind, TARGET)
    }

    /// Makes pending what was staged: its messages are gone.
    pub(crate) async fn forget_messages(&self) -> Outcome {
        let lost = RescueSettings {
            staged_for: Duration::ZERO,
            limit: 500,
        };
        while self.backends.tasks.rescue(&lost).await?.messages > 0 {}
        Ok(())
    }

    /// Empties the broker's queues of an earlier benchmark.
    pub async fn purge(&self) -> Outcome {
        self.backends.broker.declare(&[self.push_queue()]).await?;
        self.backends.broker.purge(&self.push_queue()).await?;
        Ok(())
    }
}

/// Where source and target listen.
#[derive(Debug, Clone, clap::Args)]
pub struct Urls {
    #[arg(long, default_value = "http://127.0.0.1:9")]
    pub source: String,
    #[arg(long, default_value = "http://127.0.0.1:9")]
    pub target: String,
    /// Calls per minute the target's connection is told
    #[arg(long)]
    pub limit: Option<u32>,
}
