//! Opens a configured connection's connector: files, settings with secrets filled in, HTTP client.

use sluice_connectors::{http::HttpClient, library::Library, source::Source, target::Target};
use sluice_core::{
    Error, Result,
    catalogue::{CatalogueSpec, ConnectionSpec},
    connector::ConnectorFiles,
};
use sluice_runtime::secret;
use sluice_transform::Mapper;

/// The read side of a connection.
pub fn source(library: &Library, spec: &ConnectionSpec) -> Result<Source> {
    let config = secret::resolve(&spec.config).map_err(|error| error.connection(&spec.name))?;
    let http = HttpClient::alone(spec, &config)?;
    Source::load(&*library.get(&spec.connector)?, &spec.name, config, http)
}

/// The write side of a connection.
pub fn target(library: &Library, spec: &ConnectionSpec) -> Result<Target> {
    let config = secret::resolve(&spec.config).map_err(|error| error.connection(&spec.name))?;
    let http = HttpClient::alone(spec, &config)?;
    Target::load(&*library.get(&spec.connector)?, &spec.name, config, http)
}

/// Everything that is wrong with a connection and can be found without calling anybody.
pub fn check(library: &Library, catalogue: &CatalogueSpec, spec: &ConnectionSpec) -> Vec<Error> {
    let files = match library.get(&spec.connector) {
        Ok(files) => files,
        Err(error) => return vec![error.connection(&spec.name)],
    };
    let mut problems = Vec::new();
    if let Err(error) = secret::resolve(&spec.config) {
        return vec![error.connection(&spec.name)];
    }
    let (reads, writes) = uses(catalogue, spec);
    if reads || (!writes && can_read(&files)) {
        problems.extend(source(library, spec).err());
    }
    if writes || (!reads && can_write(&files)) {
        problems.extend(target(library, spec).err());
    }
    problems.extend(Mapper::load(&files).err());
    problems
}

/// Whether some flow reads from the connection, and whether one writes to it.
fn uses(catalogue: &CatalogueSpec, spec: &ConnectionSpec) -> (bool, bool) {
    let flows = || {
        catalogue
            .flows
            .iter()
            .filter(|flow| flow.organization == spec.organization)
    };
    let reads = flows().any(|flow| flow.source == spec.name);
    let writes = flows()
        .flat_map(|flow| &flow.targets)
        .any(|target| target.connection == spec.name);
    (reads, writes)
}

/// Whether a connector describes reading.
pub fn can_read(files: &ConnectorFiles) -> bool {
    files.get("manifest.yaml").is_some()
}

/// Whether a connector describes writing.
pub fn can_write(files: &ConnectorFiles) -> bool {
    files.get("operations.yaml").is_some()
}
