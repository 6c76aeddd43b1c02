//! What the read side and the write side of a connection are both made of.

use std::sync::Arc;

use sluice_core::{
    Error, Result,
    catalogue::{Catalogue, Connection},
    connector::ConnectorFiles,
    secret::SecretConfig,
};
use sluice_runtime::secret;

use crate::{credentials::Fleet, http::HttpClient, library::Library};

/// A registered connection, its secrets filled in.
pub struct Opening {
    /// Slug of the organization.
    pub organization: String,
    pub files: Arc<ConnectorFiles>,
    pub config: SecretConfig,
    /// Limits, pool and call counter of the connection.
    pub http: HttpClient,
}

impl Opening {
    /// Finds the connector, resolves the secrets and makes the client. Makes no call.
    ///
    /// # Errors
    /// Class Config, from the part that is wrong, scoped to the connection.
    pub fn new(
        library: &Library,
        catalogue: &Catalogue,
        connection: &Connection,
        fleet: &Fleet,
    ) -> Result<Self> {
        let spec = &connection.spec;
        let scoped = |error: Error| error.connection(&spec.name);
        let files = library.get(&spec.connector).map_err(scoped)?;
        let config = secret::resolve(&spec.config).map_err(scoped)?;
        let organization = catalogue
            .organization_slug(connection.organization_id)
            .ok_or_else(|| {
                scoped(Error::config(
                    "organization_unknown",
                    "the connection's organization is not configured",
                ))
            })?;
        Ok(Self {
            organization: organization.to_owned(),
            http: HttpClient::for_connection(connection, &config, fleet)?,
            files,
            config,
        })
    }
}
