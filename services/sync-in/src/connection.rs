//! Source connections, opened: what a connector's files and a connection's settings make of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sluice_connectors::{
    credentials::Fleet,
    http::HttpClient,
    library::Library,
    opening::Opening,
    source::{Source, StreamInfo},
};
use sluice_core::{
    ConnectionId, EntityType, Error, Result,
    catalogue::{Catalogue, Connection},
};
use sluice_store::master::Route;
use sluice_transform::{Mapper, Schemas};

/// One source connection, ready to be read.
pub struct SourceConnection {
    pub connection: Connection,
    /// Slug of the organization.
    pub organization: String,
    pub source: Source,
    pub mapper: Mapper,
    pub schemas: Arc<Schemas>,
    /// Limits, pool and call counter of the connection.
    pub http: HttpClient,
    routes: HashMap<String, Vec<Route>>,
}

impl std::fmt::Debug for SourceConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceConnection")
            .field("organization", &self.organization)
            .field("name", &self.connection.spec.name)
            .finish_non_exhaustive()
    }
}

impl SourceConnection {
    /// Opens a connection: resolves its secrets, loads and checks its connector's files, and
    /// finds out who receives its records. Makes no call.
    ///
    /// # Errors
    /// Class Config, from the part that is wrong, scoped to the connection.
    pub fn open(
        library: &Library,
        catalogue: &Catalogue,
        connection: &Connection,
        schemas: Arc<Schemas>,
        fleet: &Fleet,
    ) -> Result<Self> {
        let Opening {
            organization,
            files,
            config,
            http,
        } = Opening::new(library, catalogue, connection, fleet)?;
        let name = &connection.spec.name;
        let scoped = |error: Error| error.connection(name);
        let source = Source::load(&files, name, config, http.clone()).map_err(scoped)?;
        let mapper = Mapper::load(&files).map_err(scoped)?;
        let routes = source
            .streams()
            .iter()
            .map(|stream| {
                let routes = routes(library, catalogue, connection.id, &stream.name);
                (stream.name.clone(), routes)
            })
            .collect();
        Ok(Self {
            connection: connection.clone(),
            organization,
            source,
            mapper,
            schemas,
            http,
            routes,
        })
    }

    /// Who receives what comes from a stream; nobody when the stream is unknown.
    pub fn routes(&self, stream: &str) -> &[Route] {
        self.routes.get(stream).map_or(&[], Vec::as_slice)
    }

    /// A stream by name.
    ///
    /// # Errors
    /// `stream_unknown`, with the names of those there are.
    pub fn stream(&self, name: &str) -> Result<&StreamInfo> {
        let streams = self.source.streams();
        streams
            .iter()
            .find(|stream| stream.name == name)
            .ok_or_else(|| {
                let known: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
                Error::config(
                    "stream_unknown",
                    format!(
                        "connector `{}` has no stream `{name}`",
                        self.connection.spec.connector
                    ),
                )
                .hint(format!("it has: {}", known.join(", ")))
                .connection(&self.connection.spec.name)
            })
    }

    /// Names of the streams in the connector's order, which lists parents first.
    pub fn stream_names(&self) -> Vec<String> {
        self.source
            .streams()
            .iter()
            .map(|stream| stream.name.clone())
            .collect()
    }
}

/// Entity types a connector can write: it has a mapping for each.
pub fn writable(library: &Library, connector: &str) -> Vec<EntityType> {
    library.get(connector).map_or_else(
        |_| Vec::new(),
        |files| {
            files
                .in_folder("from_canonical", ".vrl")
                // Names that begin so are shared parts of the others.
                .filter(|(name, _)| !name.starts_with('_'))
                .map(|(name, _)| EntityType::from(name))
                .collect()
        },
    )
}

fn routes(
    library: &Library,
    catalogue: &Catalogue,
    source: ConnectionId,
    stream: &str,
) -> Vec<Route> {
    catalogue
        .receivers(source, Some(stream), |connection| {
            writable(library, &connection.spec.connector)
        })
        .into_iter()
        .filter_map(|receiver| {
            let target = catalogue.connection_by_id(receiver.connection_id)?;
            Some(Route {
                entity_type: receiver.entity_type,
                connection_id: target.id,
                target: target.spec.name.clone(),
                priority: receiver.priority,
                max_retries: target.spec.retry.max_retries,
            })
        })
        .collect()
}

/// The opened source connections of a process.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<ConnectionId, Arc<SourceConnection>>);

impl Sources {
    /// Opens every connection that a flow reads. One that cannot be opened does not keep the
    /// others from working: its error is returned beside them.
    pub fn open(
        library: &Library,
        catalogue: &Catalogue,
        schemas: &Arc<Schemas>,
        fleet: &Fleet,
    ) -> (Self, Vec<Error>) {
        let mut opened = BTreeMap::new();
        let mut errors = Vec::new();
        for connection in catalogue.sources() {
            match SourceConnection::open(library, catalogue, connection, schemas.clone(), fleet) {
                Ok(source) => {
                    opened.insert(connection.id, Arc::new(source));
                }
                Err(error) => errors.push(error),
            }
        }
        (Self(opened), errors)
    }

    pub fn get(&self, id: ConnectionId) -> Option<&Arc<SourceConnection>> {
        self.0.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<SourceConnection>> {
        self.0.values()
    }
}

impl FromIterator<SourceConnection> for Sources {
    fn from_iter<I: IntoIterator<Item = SourceConnection>>(sources: I) -> Self {
        Self(
            sources
                .into_iter()
                .map(|source| (source.connection.id, Arc::new(source)))
                .collect(),
        )
    }
}
