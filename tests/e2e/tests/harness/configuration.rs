//! The settings of a system under test.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_standin::{Kind, Options};

use super::{API_TOKEN, CREDENTIAL_KEY, FLOW, ORGANIZATION, Setup, WEBHOOK_SECRET};

/// Addresses that a configuration ties together. Stores without one are the embedded ones.
#[derive(Default)]
pub struct Places {
    pub raw: String,
    pub master: String,
    pub broker: String,
    pub yardi: String,
    pub one: String,
    pub lessen360: String,
    /// Connectors that override what is shipped.
    pub connectors: Option<PathBuf>,
}

/// Writes the settings file.
pub fn write(file: &Path, setup: &Setup, places: &Places) {
    let credentials = Options::new(Kind::Yardi);
    let limits = json!([{ "calls": setup.target_limit, "per_seconds": 60 }]);
    let [one_limits, lessen360_limits] = setup
        .limits
        .clone()
        .unwrap_or_else(|| [limits.clone(), limits]);
    let retry = json!({
        "max_retries": setup.retries, "base_delay": "200ms", "max_delay": "2s",
        "max_outage": setup.outage,
    });
    let connection = |name: &str, config: Value, limits: &Value| {
        json!({
            "organization": ORGANIZATION, "name": name, "connector": name, "config": config,
            "limits": limits, "retry": retry, "concurrency": 4,
            // Outages here last seconds.
            "breaker": { "first_wait": "1s", "longest_wait": "4s" },
        })
    };
    // Shorter than the lease, as every configuration must have it.
    let mut connectors = json!({ "timeout": "4s" });
    if let Some(folder) = &places.connectors {
        connectors["dir"] = json!(folder);
    }
    let configuration = json!({
        "store": { "raw": places.raw, "master": places.master, "broker": places.broker,
            "credential_keys": "env:E2E_CREDENTIAL_KEY" },
        "http": { "listen": "127.0.0.1:0" },
        "telemetry": { "log_format": "json", "log_level": "info" },
        "services": {
            "grace": "20s", "lease": setup.lease,
            "orchestrator": { "interval": "100ms", "rescue_interval": "500ms" },
        },
        "connectors": connectors,
        "api_tokens": [{
            "name": "test", "organization": ORGANIZATION, "role": "operator",
            "token": "env:E2E_API_TOKEN",
        }],
        "organizations": [{ "slug": ORGANIZATION, "name": "Acme Homes" }],
        "connections": [
            connection("yardi", json!({
                "url": format!("{}/acme/Webservices", places.yardi),
                "credentials": {
                    "user_name": credentials.yardi.user, "password": "env:E2E_YARDI_PASSWORD",
                    "server_name": credentials.yardi.server, "database": credentials.yardi.database,
                    "platform": "SQL Server", "interface_entity": credentials.yardi.entity,
                    "interface_license": "env:E2E_YARDI_LICENSE",
                },
                "window": "P5Y",
                "webhook_secrets": ["env:E2E_WEBHOOK_SECRET"],
            }), &json!([{ "calls": 600_000, "per_seconds": 60 }])),
            connection("one", json!({
                "base_url": places.one, "client_id": "sluice", "client_secret": "env:E2E_ONE_SECRET",
            }), &one_limits),
            connection("lessen360", json!({
                "base_url": places.lessen360, "app_id": "sluice-app", "app_secret": "env:E2E_LESSEN360_SECRET",
            }), &lessen360_limits),
        ],
        "flows": [{
            "organization": ORGANIZATION, "name": FLOW, "source": "yardi",
            "targets": [{ "connection": "one" }, { "connection": "lessen360" }],
        }],
    });
    std::fs::write(file, toml::to_string(&configuration).unwrap()).unwrap();
}

/// Variables of every process that reads this file.
pub fn environment(file: &Path) -> Vec<(&'static str, String)> {
    let options = Options::new(Kind::Yardi);
    vec![
        ("SLUICE_CONFIG", file.display().to_string()),
        ("E2E_YARDI_PASSWORD", options.yardi.password),
        ("E2E_YARDI_LICENSE", options.yardi.license),
        ("E2E_ONE_SECRET", options.one.client_secret),
        ("E2E_LESSEN360_SECRET", options.lessen360.secret),
        ("E2E_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
        ("E2E_API_TOKEN", API_TOKEN.to_owned()),
        ("E2E_CREDENTIAL_KEY", CREDENTIAL_KEY.to_owned()),
    ]
}
