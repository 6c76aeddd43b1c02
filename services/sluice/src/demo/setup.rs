//! The demo's stage: stand-ins on free loopback ports, and settings that point at them.

use std::path::Path;

use serde_json::{Value, json};
use sluice_core::{Error, Result};
use sluice_runtime::Settings;
use sluice_standin::{Handle, Kind, Options, compare::EDITS_WITHOUT_DELETION};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::cli::DemoArgs;

pub const ORGANIZATION: &str = "demo";
pub const FLOW: &str = "residential";
/// Name of the source connection; part of every planted reference.
pub const SOURCE: &str = "yardi";
pub const ONE: &str = "one";
pub const LESSEN360: &str = "lessen360";

/// Running stand-ins and the folder that holds the demo's databases and secrets.
pub struct Stage {
    pub yardi: Handle,
    pub one: Handle,
    pub lessen360: Handle,
    folder: TempDir,
    target_limit: u32,
    http: reqwest::Client,
}

impl Stage {
    /// Starts the stand-ins.
    pub async fn start(args: &DemoArgs) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sluice-demo-")
            .tempdir()
            .map_err(|error| failed("the demo's folder could not be made", error))?;
        let source = Options {
            records: usize::try_from(args.records).unwrap_or(usize::MAX),
            seed: args.seed,
            ..Options::new(Kind::Yardi)
        };
        let target = |kind| Options {
            limit_per_minute: Some(args.target_limit),
            seed: args.seed,
            ..Options::new(kind)
        };
        let secrets = [
            ("yardi_password", source.yardi.password.clone()),
            ("yardi_license", source.yardi.license.clone()),
            ("one_secret", target(Kind::One).one.client_secret),
            ("lessen360_secret", target(Kind::Lessen360).lessen360.secret),
        ];
        for (name, value) in secrets {
            std::fs::write(folder.path().join(name), value)
                .map_err(|error| failed("a secret file could not be written", error))?;
        }
        Ok(Self {
            yardi: serve(source).await?,
            one: serve(target(Kind::One)).await?,
            lessen360: serve(target(Kind::Lessen360)).await?,
            folder,
            target_limit: args.target_limit,
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .map_err(control_failed)?,
        })
    }

    /// Where databases and secrets are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The settings of the demo, as a user would write them.
    pub fn settings(&self) -> Result<Settings> {
        let yardi = Options::new(Kind::Yardi).yardi;
        let secret = |name: &str| format!("file:{}", self.folder.path().join(name).display());
        let limits = json!([{ "calls": self.target_limit, "per_seconds": 60 }]);
        let connection = |name: &str, config: Value, limits: &Value| {
            json!({
                "organization": ORGANIZATION, "name": name, "connector": name, "config": config,
                "limits": limits, "concurrency": 8,
            })
        };
        let settings = json!({
            "store": { "data_dir": self.folder.path() },
            "telemetry": { "log_level": "warn" },
            "organizations": [{ "slug": ORGANIZATION, "name": "Demo" }],
            "connections": [
                connection(
                    SOURCE,
                    json!({
                        "url": format!("{}/demo/Webservices", self.yardi.url()),
                        "credentials": {
                            "user_name": yardi.user, "password": secret("yardi_password"),
                            "server_name": yardi.server, "database": yardi.database, "platform": "SQL Server",
                            "interface_entity": yardi.entity, "interface_license": secret("yardi_license"),
                        },
                        // The stand-in answers large windows as readily as small ones.
                        "window": "P5Y",
                    }),
                    &json!([{ "calls": 100_000, "per_seconds": 60 }]),
                ),
                connection(ONE, json!({
                    "base_url": self.one.url(), "client_id": "sluice", "client_secret": secret("one_secret"),
                }), &limits),
                connection(LESSEN360, json!({
                    "base_url": self.lessen360.url(), "app_id": "sluice-app", "app_secret": secret("lessen360_secret"),
                }), &limits),
            ],
            "flows": [{
                "organization": ORGANIZATION, "name": FLOW, "source": SOURCE,
                "targets": [{ "connection": ONE }, { "connection": LESSEN360 }],
            }],
        });
        let text = toml::to_string(&settings).map_err(|error| {
            Error::internal("demo_failed", "the demo's settings are no TOML").caused_by(error)
        })?;
        Settings::from_toml(&text)
    }

    /// Lets the source's people make edits; returns how many were made.
    pub async fn edit(&self, count: u64) -> Result<usize> {
        let url = format!("{}/_control/edits", self.yardi.url());
        let answer = self
            .http
            .post(url)
            .json(&json!({ "count": count, "only": EDITS_WITHOUT_DELETION }))
            .send()
            .await;
        let answer: Value = match answer {
            Ok(answer) => answer.json().await.map_err(control_failed)?,
            Err(error) => return Err(control_failed(error)),
        };
        Ok(answer
            .get("edits")
            .and_then(Value::as_array)
            .map_or(0, Vec::len))
    }

    /// What a stand-in holds now, of one kind.
    pub async fn records(&self, standin: &Handle, kind: &str) -> Result<Vec<Value>> {
        let url = format!("{}/_control/records?kind={kind}", standin.url());
        let answer = self.http.get(url).send().await.map_err(control_failed)?;
        answer.json().await.map_err(control_failed)
    }

    /// A stand-in's own statistics.
    pub async fn stats(&self, standin: &Handle) -> Result<Value> {
        let url = format!("{}/_control/stats", standin.url());
        let answer = self.http.get(url).send().await.map_err(control_failed)?;
        answer.json().await.map_err(control_failed)
    }

    pub async fn stop(self) {
        self.yardi.shutdown().await;
        self.one.shutdown().await;
        self.lessen360.shutdown().await;
    }
}

async fn serve(options: Options) -> Result<Handle> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|error| failed("no free loopback port for a stand-in", error))?;
    sluice_standin::serve(options, listener)
        .map_err(|error| failed("a stand-in did not start", error))
}

fn failed(message: &str, error: std::io::Error) -> Error {
    Error::internal("demo_failed", message).caused_by(error)
}

fn control_failed(error: reqwest::Error) -> Error {
    Error::internal(
        "demo_failed",
        "a stand-in's control endpoint did not answer",
    )
    .caused_by(error)
}
