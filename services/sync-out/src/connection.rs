//! Target connections, opened: what a connector's files and a connection's settings make of them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use sluice_connectors::{
    credentials::Fleet, http::HttpClient, library::Library, opening::Opening, target::Target,
};
use sluice_core::{
    ConnectionId, EntityType, Error, Result,
    catalogue::{Catalogue, Connection},
};
use sluice_transform::Mapper;

/// One target connection, ready to be written to.
pub struct TargetConnection {
    pub connection: Connection,
    /// Slug of the organization.
    pub organization: String,
    pub target: Target,
    pub mapper: Mapper,
    /// Limits, pool and call counter of the connection.
    pub http: HttpClient,
    receives: HashSet<(ConnectionId, EntityType)>,
}

impl std::fmt::Debug for TargetConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TargetConnection")
            .field("organization", &self.organization)
            .field("name", &self.connection.spec.name)
            .finish_non_exhaustive()
    }
}

impl TargetConnection {
    /// Opens a connection: resolves its secrets, loads and checks its connector's files, and
    /// finds out what the flows bring it. Makes no call.
    ///
    /// # Errors
    /// Class Config, from the part that is wrong, scoped to the connection.
    pub fn open(
        library: &Library,
        catalogue: &Catalogue,
        connection: &Connection,
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
        let target = Target::load(&files, name, config, http.clone()).map_err(scoped)?;
        let mapper = Mapper::load(&files).map_err(scoped)?;
        let writable: Vec<_> = mapper.entities().cloned().collect();
        let receives = catalogue
            .sources()
            .into_iter()
            .flat_map(|source| {
                catalogue
                    .receivers(source.id, None, |_| writable.clone())
                    .into_iter()
                    .filter(|receiver| receiver.connection_id == connection.id)
                    .map(|receiver| (source.id, receiver.entity_type))
            })
            .collect();
        Ok(Self {
            connection: connection.clone(),
            organization,
            target,
            mapper,
            http,
            receives,
        })
    }

    /// Whether a flow brings this entity type from that source here. A parent that never comes is
    /// not waited for.
    pub fn receives(&self, source: ConnectionId, entity: &EntityType) -> bool {
        self.receives.contains(&(source, entity.clone()))
    }
}

/// The opened target connections of a process.
#[derive(Debug, Default)]
pub struct Targets(BTreeMap<ConnectionId, Arc<TargetConnection>>);

impl Targets {
    /// Opens every connection that a flow writes to. One that cannot be opened does not keep the
    /// others from working: its error is returned beside them.
    pub fn open(library: &Library, catalogue: &Catalogue, fleet: &Fleet) -> (Self, Vec<Error>) {
        let mut opened = BTreeMap::new();
        let mut errors = Vec::new();
        for connection in catalogue.targets() {
            match TargetConnection::open(library, catalogue, connection, fleet) {
                Ok(target) => {
                    opened.insert(connection.id, Arc::new(target));
                }
                Err(error) => errors.push(error),
            }
        }
        (Self(opened), errors)
    }

    pub fn get(&self, id: ConnectionId) -> Option<&Arc<TargetConnection>> {
        self.0.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<TargetConnection>> {
        self.0.values()
    }
}
