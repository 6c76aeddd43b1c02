//! Chooses the backends: the URL scheme decides, here and nowhere else.

use std::{path::Path, sync::Arc};

use sluice_core::{Error, Result};
use sluice_embedded::{EmbeddedSql, broker::LocalBroker, raw::SqliteRaw};
use sluice_mongo::MongoRaw;
use sluice_postgres::{PoolSettings, PostgresSql};
use sluice_rabbitmq::{RabbitBroker, RabbitOptions};
use sluice_runtime::config::{StoreSettings, StoreUrl};
use sluice_store::{
    Backends, Broker, CredentialStore, FleetStore, MasterStore, RawStore, TaskStore,
};

/// Opens all four stores. Embedded ones create their files; servers must be reachable.
pub async fn open(settings: &StoreSettings) -> Result<Backends> {
    let (master, tasks, fleet, credentials) = open_sql(settings).await?;
    Ok(Backends {
        raw: open_raw(settings).await?,
        master,
        tasks,
        fleet,
        credentials,
        broker: open_broker(settings).await?,
    })
}

/// The SQL store's contracts.
pub type Sql = (
    Arc<dyn MasterStore>,
    Arc<dyn TaskStore>,
    Arc<dyn FleetStore>,
    Arc<dyn CredentialStore>,
);

/// Opens the SQL store alone; master data, tasks and what the fleet agrees on share one database.
pub async fn open_sql(settings: &StoreSettings) -> Result<Sql> {
    let url = &settings.master;
    match url.scheme() {
        "sqlite" => {
            make_data_dir(settings, url)?;
            let store = Arc::new(EmbeddedSql::open(url.expose()).await?);
            Ok((store.clone(), store.clone(), store.clone(), store))
        }
        "postgres" | "postgresql" => {
            let pool = PoolSettings {
                max_connections: settings.pool_size,
                ..PoolSettings::default()
            };
            let store = Arc::new(PostgresSql::connect(url.expose(), pool).await?);
            Ok((store.clone(), store.clone(), store.clone(), store))
        }
        _ => Err(unknown("store.master", url, "sqlite: or postgres:")),
    }
}

/// Opens the raw store alone.
pub async fn open_raw(settings: &StoreSettings) -> Result<Arc<dyn RawStore>> {
    let url = &settings.raw;
    match url.scheme() {
        "sqlite" => {
            make_data_dir(settings, url)?;
            Ok(Arc::new(SqliteRaw::connect(url.expose()).await?))
        }
        "mongodb" | "mongodb+srv" => Ok(Arc::new(
            MongoRaw::connect(url.expose(), &mongo_database(url)).await?,
        )),
        _ => Err(unknown("store.raw", url, "sqlite: or mongodb:")),
    }
}

/// Opens the broker alone.
pub async fn open_broker(settings: &StoreSettings) -> Result<Arc<dyn Broker>> {
    let url = &settings.broker;
    match url.scheme() {
        "local" => Ok(Arc::new(LocalBroker::default())),
        "amqp" | "amqps" => Ok(Arc::new(
            RabbitBroker::connect(url.expose(), RabbitOptions::default()).await?,
        )),
        _ => Err(unknown("store.broker", url, "local: or amqp:")),
    }
}

/// Makes the folder of the embedded stores when this one lies in it.
fn make_data_dir(settings: &StoreSettings, url: &StoreUrl) -> Result<()> {
    let path = url.expose().trim_start_matches("sqlite:");
    if !Path::new(path).starts_with(&settings.data_dir) {
        return Ok(());
    }
    std::fs::create_dir_all(&settings.data_dir).map_err(|error| {
        Error::config(
            "data_dir_unusable",
            format!("cannot make the folder {}", settings.data_dir.display()),
        )
        .hint("set store.data_dir to a folder that may be written")
        .caused_by(error)
    })
}

/// The database named in a MongoDB URL's path; `sluice` without one.
fn mongo_database(url: &StoreUrl) -> String {
    url::Url::parse(url.expose())
        .ok()
        .map(|url| url.path().trim_matches('/').to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "sluice".to_owned())
}

fn unknown(key: &str, url: &StoreUrl, expected: &str) -> Error {
    Error::config(
        "backend_unknown",
        format!("`{key}` has the scheme `{}:`", url.scheme()),
    )
    .hint(format!("use {expected}"))
}
