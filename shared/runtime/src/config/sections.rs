//! The sections of the settings.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};
use sluice_core::catalogue::RateLimit;

use super::{problems::Problems, units};
use crate::{seal::SealKeys, secret};

/// A backend's address. It may hold a password and is shown without it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The address as it is.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole address with its password, for the driver only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The part before the first colon, such as `postgres`.
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The address without user, password and query.
    pub fn masked(&self) -> String {
        match url::Url::parse(&self.0) {
            Ok(url) if url.has_host() => {
                let port = url.port().map_or(String::new(), |port| format!(":{port}"));
                let host = url.host_str().unwrap_or_default();
                format!("{}://{host}{port}{}", url.scheme(), url.path())
            }
            // No host, no password: a file or `local:`. Query parameters stay hidden all the same.
            _ if matches!(self.scheme(), "sqlite" | "local") => {
                self.0.split('?').next().unwrap_or_default().to_owned()
            }
            _ => format!("{}:***", self.scheme()),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// `[store]`: where data lives.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Folder of the embedded stores.
    pub data_dir: PathBuf,
    /// Raw payloads: `mongodb:` or `sqlite:`.
    pub raw: StoreUrl,
    /// Master data and tasks: `postgres:` or `sqlite:`.
    pub master: StoreUrl,
    /// References to ready tasks: `amqp:`, `amqps:` or `local:`.
    pub broker: StoreUrl,
    /// Seal credentials that change while they are used; without them none is kept.
    pub credential_keys: Option<SealKeys>,
    /// Connections a store's pool may open, per process.
    pub pool_size: u32,
    /// Applies pending migrations when a service starts.
    pub migrate_on_start: bool,
}

/// `[store]` as written.
#[derive(Deserialize)]
pub(super) struct StoreKeys {
    data_dir: PathBuf,
    raw: String,
    master: String,
    broker: String,
    credential_keys: String,
    pool_size: u32,
    migrate_on_start: bool,
}

impl StoreSettings {
    /// Resolves references, fills in the embedded defaults and checks the schemes.
    pub(super) fn from_keys(keys: StoreKeys, problems: &mut Problems) -> Option<Self> {
        let embedded = |file: &str| format!("sqlite:{}", keys.data_dir.join(file).display());
        let mut address = |key: &str, text: &str, default: String, schemes: &[&str]| {
            let url = match secret::reference(text) {
                Ok(url) if url.is_empty() => StoreUrl(default),
                Ok(url) => StoreUrl(url),
                Err(error) => {
                    problems.add(key, error.message());
                    return None;
                }
            };
            // MongoDB's can name several hosts, and a file's path may be anything.
            let strict = ["postgres", "postgresql", "amqp", "amqps"].contains(&url.scheme());
            if strict && let Err(error) = url::Url::parse(url.expose()) {
                problems.add(key, format!("is no address: {error}"));
                None
            } else if schemes.contains(&url.scheme()) {
                Some(url)
            } else {
                problems.add(
                    key,
                    format!("must begin with {}", schemes.join(": or ") + ":"),
                );
                None
            }
        };
        let raw = address(
            "store.raw",
            &keys.raw,
            embedded("raw.db"),
            &["mongodb", "mongodb+srv", "sqlite"],
        );
        let master = address(
            "store.master",
            &keys.master,
            embedded("master.db"),
            &["postgres", "postgresql", "sqlite"],
        );
        let broker = address(
            "store.broker",
            &keys.broker,
            "local:".into(),
            &["amqp", "amqps", "local"],
        );
        let credential_keys = match SealKeys::from_references(&keys.credential_keys) {
            Ok(keys) => keys,
            Err(error) => {
                problems.add("store.credential_keys", error.message());
                None
            }
        };
        Some(Self {
            credential_keys,
            raw: raw?,
            master: master?,
            broker: broker?,
            data_dir: keys.data_dir,
            pool_size: keys.pool_size,
            migrate_on_start: keys.migrate_on_start,
        })
    }
}

/// `[http]`: the API's listener, and limits of intake.
#[derive(Debug, Clone, Deserialize)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    /// Largest accepted body of a webhook or a file, in bytes.
    #[serde(deserialize_with = "units::bytes")]
    pub max_body: u64,
    /// Largest accepted distance of a webhook's time stamp from now.
    #[serde(deserialize_with = "units::duration")]
    pub replay_window: Duration,
}

/// `[telemetry]`: logs. Traces follow the usual `OTEL_*` variables.
#[derive(Debug, Clone, Deserialize)]
pub struct TelemetrySettings {
    pub log_format: LogFormat,
    /// A level, or a filter such as `info,sluice_sync_in=debug`; `SLUICE_LOG` wins over it.
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

/// `[services]` and its sub-sections: pace and batch sizes.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Time between the first stop signal and the hard stop.
    pub grace: Duration,
    /// A worker that stays silent this long loses its tasks to others.
    pub lease: Duration,
    pub sync_in: SyncInSettings,
    pub sync_out: SyncOutSettings,
    pub orchestrator: OrchestratorSettings,
}

/// The keys directly in `[services]`.
#[derive(Deserialize)]
pub(super) struct ServiceKeys {
    #[serde(deserialize_with = "units::duration")]
    pub(super) grace: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub(super) lease: Duration,
}

/// `[services.sync_in]`.
#[derive(Debug, Clone, Deserialize)]
pub struct SyncInSettings {
    /// Pull tasks worked on at once, per process.
    pub concurrency: u32,
    /// Canonical records applied in one transaction, 1 to 500.
    pub apply_batch: u32,
}

/// `[services.sync_out]`.
#[derive(Debug, Clone, Deserialize)]
pub struct SyncOutSettings {
    /// Batches in flight at once, per process; a connection's own bound holds too.
    pub concurrency: u32,
    /// Tasks claimed and settled together.
    pub batch: u32,
    /// Longest wait for a batch to fill.
    #[serde(deserialize_with = "units::duration")]
    pub linger: Duration,
}

/// `[services.orchestrator]`.
#[derive(Debug, Clone, Deserialize)]
pub struct OrchestratorSettings {
    /// Time between two looks for due tasks, retries too.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// References published together.
    pub stage_batch: u32,
    /// References waiting in one queue; further tasks stay in SQL, where priority is exact.
    pub queue_depth: u32,
    /// Time between two looks for expired leases and lost messages.
    #[serde(deserialize_with = "units::duration")]
    pub rescue_interval: Duration,
}

/// `[retention]`.
#[derive(Debug, Clone, Deserialize)]
pub struct RetentionSettings {
    /// Raw payloads and records are deleted this long after they were last seen, at the next
    /// midnight (UTC).
    #[serde(deserialize_with = "units::duration")]
    pub raw: Duration,
}

/// The bounds that the HTTP client accepts.
pub(super) const LONGEST_CALL: Duration = Duration::from_secs(120);
pub(super) const LARGEST_RESPONSE: u64 = 1 << 30;

/// `[connectors]`.
#[derive(Debug, Clone, Deserialize)]
pub struct ConnectorSettings {
    /// Folder whose sub-folders add or override the shipped connectors.
    #[serde(deserialize_with = "optional_path")]
    pub dir: Option<PathBuf>,
    /// Largest accepted response, in bytes, for connections that set none.
    #[serde(deserialize_with = "units::bytes")]
    pub max_response: u64,
    /// Longest wait for one call, for connections that set none.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Limits by connector, for connections that set none.
    pub limits: BTreeMap<String, Vec<RateLimit>>,
}

impl ConnectorSettings {
    /// Writes the bounds of calls into the `http` section of a connection's settings, where it has
    /// none of its own: from there the HTTP client reads them.
    pub(super) fn bound_calls(&self, config: &mut serde_json::Value) {
        let Some(http) = config.as_object_mut().and_then(|config| {
            let http = config
                .entry("http")
                .or_insert_with(|| serde_json::json!({}));
            http.as_object_mut()
        }) else {
            return;
        };
        // Whole seconds there; a part of one counts as one.
        let seconds = u64::try_from(self.timeout.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
        http.entry("timeout_seconds").or_insert(seconds.into());
        http.entry("max_response_bytes")
            .or_insert(self.max_response.into());
    }
}

fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
