//! What most commands need: settings, stores, the registered catalogue, and one organization.

use std::sync::Arc;

use sluice_connectors::{
    credentials::{Fleet, Vault},
    library::Library,
    limiter::manage,
};
use sluice_core::{
    Error, ErrorClass, OrganizationId, Result,
    catalogue::{Catalogue, Connection},
};
use sluice_runtime::Settings;
use sluice_store::Backends;

use crate::{backends, cli::Cli};

/// Everything opened and registered.
pub struct Context {
    pub settings: Settings,
    pub backends: Backends,
    pub catalogue: Arc<Catalogue>,
    pub connectors: Arc<Library>,
    /// What connections share with every process.
    pub fleet: Fleet,
}

impl Context {
    /// Loads settings, opens the stores, applies migrations where that is allowed, and registers
    /// what is configured.
    pub async fn open(cli: &Cli) -> Result<Self> {
        Self::with(Settings::load(cli.config.as_deref())?).await
    }

    pub async fn with(settings: Settings) -> Result<Self> {
        let library = Arc::new(Library::new(settings.connectors.dir.as_deref())?);
        let spec = settings.catalogue()?;
        let backends = backends::open(&settings.store).await?;
        if settings.store.migrate_on_start {
            backends.master.migrate().await?;
        }
        backends.raw.prepare().await?;
        let catalogue = Arc::new(backends.master.register(&spec).await?);
        manage::configure(&*backends.fleet, &catalogue).await?;
        let keys = settings.store.credential_keys.clone();
        let fleet = Fleet {
            limits: backends.fleet.clone(),
            vault: keys.map(|keys| Vault::new(backends.credentials.clone(), keys)),
        };
        Ok(Self {
            settings,
            backends,
            catalogue,
            connectors: library,
            fleet,
        })
    }

    /// The organization a command works in.
    pub fn organization(&self, cli: &Cli) -> Result<OrganizationId> {
        organization(&self.catalogue, cli.organization.as_deref())
    }

    /// A connection of an organization by name.
    pub fn connection(&self, organization: OrganizationId, name: &str) -> Result<&Connection> {
        self.catalogue
            .connection(organization, name)
            .ok_or_else(|| {
                let known: Vec<_> = self
                    .catalogue
                    .connections
                    .iter()
                    .filter(|connection| connection.organization_id == organization)
                    .map(|connection| connection.spec.name.as_str())
                    .collect();
                Error::new(
                    ErrorClass::NotFound,
                    "connection_unknown",
                    format!("there is no connection `{name}`"),
                )
                .hint(format!("configured: {}", known.join(", ")))
            })
    }
}

fn organization(catalogue: &Catalogue, wanted: Option<&str>) -> Result<OrganizationId> {
    let known = || {
        let slugs: Vec<_> = catalogue
            .organizations
            .iter()
            .map(|(_, spec)| spec.slug.as_str())
            .collect();
        format!("configured: {}", slugs.join(", "))
    };
    match (wanted, catalogue.organizations.as_slice()) {
        (Some(slug), _) => catalogue.organization(slug).ok_or_else(|| {
            Error::new(
                ErrorClass::NotFound,
                "organization_unknown",
                format!("there is no organization `{slug}`"),
            )
            .hint(known())
        }),
        (None, [(id, _)]) => Ok(*id),
        (None, []) => Err(
            Error::config("organization_missing", "no organization is configured").hint(
                "add an [[organizations]] table to sluice.toml; docs/configuration.md shows one",
            ),
        ),
        (None, _) => Err(Error::config(
            "organization_needed",
            "more than one organization is configured",
        )
        .hint(format!("name one with --organization; {}", known()))),
    }
}
