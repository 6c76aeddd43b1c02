//! Settings: compiled defaults (`default.toml`), then a file, then `SLUICE_SECTION__KEY` variables.
//!
//! Every fault is reported, all at once, with the place it came from; unknown keys with the nearest
//! known one. Secrets are references, resolved for store addresses here and for connections by
//! [`crate::secret::resolve`].

mod access;
mod catalogue;
mod layers;
mod problems;
mod read;
mod sections;
mod show;
mod units;

use std::path::Path;

use config::Value;
use sluice_core::{Result, catalogue::CatalogueSpec};

pub use access::ApiTokenSettings;
pub use problems::nearest;
pub use sections::{
    ConnectorSettings, HttpSettings, LogFormat, OrchestratorSettings, RetentionSettings,
    ServiceSettings, StoreSettings, StoreUrl, SyncInSettings, SyncOutSettings, TelemetrySettings,
};
pub use show::Origin;

use problems::Problems;

/// The commented defaults, as text: every key with its meaning, for people.
pub const DEFAULTS: &str = include_str!("../../default.toml");

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sluice.toml";

/// All settings of a process, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub store: StoreSettings,
    pub http: HttpSettings,
    pub telemetry: TelemetrySettings,
    pub services: ServiceSettings,
    pub retention: RetentionSettings,
    pub connectors: ConnectorSettings,
    /// Callers of the management API, with references to their tokens.
    pub api_tokens: Vec<ApiTokenSettings>,
    catalogue: CatalogueSpec,
    shown: Vec<Origin>,
    masked: serde_json::Value,
}

impl Settings {
    /// Loads the compiled defaults, then `path` (or `sluice.toml` where it exists), then the
    /// environment.
    ///
    /// # Errors
    /// `config_unreadable` when the file cannot be read or is no TOML; `config_invalid` with all
    /// faults at once.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let default_file = Path::new(DEFAULT_FILE);
        let path = path.or_else(|| default_file.is_file().then_some(default_file));
        let file = path.map(layers::File::read).transpose()?;
        Self::from_layers(file, layers::environment(std::env::vars_os()))
    }

    /// The compiled defaults, then a text in the form of `sluice.toml`; no environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::from_layers(Some(layers::File::text("settings", text)), Vec::new())
    }

    /// Organizations, connections and flows; their names and references have been checked.
    /// Connections that set no limits have their connector's.
    ///
    /// # Errors
    /// None today: faults are found by [`Settings::load`]. Callers keep handling them, because a
    /// catalogue may come from elsewhere one day.
    pub fn catalogue(&self) -> Result<CatalogueSpec> {
        let mut catalogue = self.catalogue.clone();
        for connection in &mut catalogue.connections {
            self.connectors.bound_calls(&mut connection.config);
        }
        Ok(catalogue)
    }

    /// Every setting with its value, secrets masked, and where it came from; sorted by key.
    pub fn origins(&self) -> &[Origin] {
        &self.shown
    }

    /// All settings as one object, secrets masked.
    pub fn masked(&self) -> &serde_json::Value {
        &self.masked
    }

    fn from_layers(file: Option<layers::File>, environment: Vec<(String, String)>) -> Result<Self> {
        let defaults = layers::merge(None, &[])?;
        let merged = layers::merge(file.as_ref(), &environment)?;
        let mut problems = Problems::default();
        let known = show::origins(&defaults);
        let known = known.iter().map(|origin| origin.key.as_str());
        for (name, meant) in layers::one_underscore(known, &environment) {
            problems.add(name, format!("read by nothing, did you mean `{meant}`?"));
        }
        let settings = Self::build(defaults, merged, &mut problems);
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems.into_error()),
        }
    }

    fn build(defaults: Value, merged: Value, problems: &mut Problems) -> Option<Self> {
        read::unknown_keys(&defaults, &merged, problems);
        let shown = show::origins(&merged);
        let masked = show::tree("", "", &merged);
        let mut reader = read::Reader::new(defaults, merged);
        let store = reader.section::<sections::StoreKeys>("store", problems);
        let http = reader.section::<HttpSettings>("http", problems);
        let telemetry = reader.section::<TelemetrySettings>("telemetry", problems);
        let services = reader.section::<sections::ServiceKeys>("services", problems);
        let sync_in = reader.section::<SyncInSettings>("services.sync_in", problems);
        let sync_out = reader.section::<SyncOutSettings>("services.sync_out", problems);
        let orchestrator =
            reader.section::<OrchestratorSettings>("services.orchestrator", problems);
        let retention = reader.section::<RetentionSettings>("retention", problems);
        let connectors = reader.section::<ConnectorSettings>("connectors", problems);
        let organizations = reader.list("organizations", problems);
        let connections = reader.list("connections", problems);
        let flows = reader.list("flows", problems);
        let tokens = reader.list("api_tokens", problems);

        let store = StoreSettings::from_keys(store?, problems);
        let services = services?;
        let catalogue = catalogue::check(
            organizations,
            connections,
            flows,
            &connectors.as_ref()?.limits,
            problems,
        );
        let settings = Self {
            store: store?,
            http: http?,
            telemetry: telemetry?,
            services: ServiceSettings {
                grace: services.grace,
                lease: services.lease,
                sync_in: sync_in?,
                sync_out: sync_out?,
                orchestrator: orchestrator?,
            },
            retention: retention?,
            api_tokens: access::check(tokens, &catalogue, problems),
            catalogue,
            connectors: connectors?,
            shown,
            masked,
        };
        settings.check(problems);
        Some(settings)
    }

    /// Rules over several settings, and bounds of single ones.
    fn check(&self, problems: &mut Problems) {
        let services = &self.services;
        for (key, value) in [
            ("store.pool_size", self.store.pool_size),
            ("services.sync_in.concurrency", services.sync_in.concurrency),
            ("services.sync_in.apply_batch", services.sync_in.apply_batch),
            (
                "services.sync_out.concurrency",
                services.sync_out.concurrency,
            ),
            ("services.sync_out.batch", services.sync_out.batch),
            (
                "services.orchestrator.stage_batch",
                services.orchestrator.stage_batch,
            ),
        ] {
            if value == 0 {
                problems.add(key, "must be at least 1");
            }
        }
        for (key, value) in [
            ("http.replay_window", self.http.replay_window),
            ("services.lease", services.lease),
            (
                "services.orchestrator.interval",
                services.orchestrator.interval,
            ),
            (
                "services.orchestrator.rescue_interval",
                services.orchestrator.rescue_interval,
            ),
            ("retention.raw", self.retention.raw),
            ("connectors.timeout", self.connectors.timeout),
        ] {
            if value.is_zero() {
                problems.add(key, "must be longer than nothing");
            }
        }
        if self.connectors.timeout > sections::LONGEST_CALL {
            problems.add("connectors.timeout", "is at most 120 s");
        }
        if !(1..=sections::LARGEST_RESPONSE).contains(&self.connectors.max_response) {
            problems.add("connectors.max_response", "must be 1 byte to 1 GiB");
        }
        if services.sync_in.apply_batch > 500 {
            problems.add(
                "services.sync_in.apply_batch",
                "is at most 500: one transaction must stay short",
            );
        }
        if services.orchestrator.queue_depth < services.orchestrator.stage_batch {
            problems.add(
                "services.orchestrator.queue_depth",
                "must not be smaller than services.orchestrator.stage_batch",
            );
        }
        if services.lease <= self.connectors.timeout {
            problems.add(
                "services.lease",
                "must be longer than connectors.timeout, or tasks are taken away in mid-call",
            );
        }
        if services.lease <= services.orchestrator.rescue_interval {
            problems.add(
                "services.lease",
                "must be longer than services.orchestrator.rescue_interval",
            );
        }
    }
}

#[cfg(test)]
mod tests;
