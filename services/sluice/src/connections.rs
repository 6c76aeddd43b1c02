//! Opens a configured connection's connector: files, settings with secrets filled in, HTTP client.

use sluice_connectors::{
    credentials::{Fleet, Vault},
    http::HttpClient,
    library::Library,
    limiter::{
        manage,
        state::{self, CallState},
    },
    source::Source,
    target::Target,
};
use sluice_core::{
    Result,
    catalogue::{Catalogue, Connection, ConnectionSpec},
    connector::ConnectorFiles,
    secret::SecretConfig,
};
use sluice_runtime::{config::StoreSettings, secret};

use crate::backends;

/// What the processes of the fleet share about connections, for a command that calls them.
pub struct Shared {
    fleet: Fleet,
    catalogue: Catalogue,
}

impl Shared {
    /// Looks into the store, and changes nothing there.
    ///
    /// # Errors
    /// When the store cannot be reached, or was never set up.
    pub async fn open(store: &StoreSettings) -> Result<Self> {
        let (master, _, limits, credentials) = backends::open_sql(store).await?;
        let keys = store.credential_keys.clone();
        Ok(Self {
            catalogue: master.catalogue().await?,
            fleet: Fleet {
                limits,
                vault: keys.map(|keys| Vault::new(credentials, keys)),
            },
        })
    }

    /// How a connection may be called now, as all processes see it; `None` when nobody knows it.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn state(&self, spec: &ConnectionSpec) -> Result<Option<CallState>> {
        let Some(connection) = self.connection(spec) else {
            return Ok(None);
        };
        let (known, now) = manage::look(&*self.fleet.limits).await?;
        let traffic = known.iter().find(|(id, _)| *id == connection.id);
        let traffic = traffic.map(|(_, traffic)| traffic);
        Ok(Some(state::of(&connection, traffic, now)))
    }

    /// The registered connection, with the settings of this process.
    fn connection(&self, spec: &ConnectionSpec) -> Option<Connection> {
        let organization = self.catalogue.organization(&spec.organization)?;
        let known = self.catalogue.connection(organization, &spec.name)?;
        Some(Connection {
            spec: spec.clone(),
            ..known.clone()
        })
    }
}

/// A client that shares limits and tokens with the fleet, where there is one that knows the
/// connection.
fn client(
    spec: &ConnectionSpec,
    config: &SecretConfig,
    shared: Option<&Shared>,
) -> Result<HttpClient> {
    let known = shared.and_then(|shared| Some((shared.connection(spec)?, &shared.fleet)));
    match known {
        Some((connection, fleet)) => HttpClient::for_connection(&connection, config, fleet),
        None => HttpClient::alone(spec, config),
    }
}

/// The read side of a connection.
pub fn source(library: &Library, spec: &ConnectionSpec, shared: Option<&Shared>) -> Result<Source> {
    let config = secret::resolve(&spec.config).map_err(|error| error.connection(&spec.name))?;
    let http = client(spec, &config, shared)?;
    Source::load(&*library.get(&spec.connector)?, &spec.name, config, http)
}

/// The write side of a connection.
pub fn target(library: &Library, spec: &ConnectionSpec, shared: Option<&Shared>) -> Result<Target> {
    let config = secret::resolve(&spec.config).map_err(|error| error.connection(&spec.name))?;
    let http = client(spec, &config, shared)?;
    Target::load(&*library.get(&spec.connector)?, &spec.name, config, http)
}

/// Whether a connector describes reading.
pub fn can_read(files: &ConnectorFiles) -> bool {
    files.get("manifest.yaml").is_some()
}

/// Whether a connector describes writing.
pub fn can_write(files: &ConnectorFiles) -> bool {
    files.get("operations.yaml").is_some()
}
