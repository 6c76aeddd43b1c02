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

/// Everything opened.
pub struct Context {
    pub settings: Settings,
    pub backends: Backends,
    pub catalogue: Arc<Catalogue>,
    pub connectors: Arc<Library>,
    /// What connections share with every process.
    pub fleet: Fleet,
}

/// Where the catalogue of a process comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Catalogued {
    /// As the last process registered it.
    AsRegistered,
    /// Its own configuration, registered.
    Registered,
}

impl Context {
    /// For a command that looks or settles: loads settings, opens the stores, applies migrations
    /// where that is allowed, and takes what is registered. What the file says of organizations,
    /// connections and flows is in force once a service has started with it, not before.
    pub async fn open(cli: &Cli) -> Result<Self> {
        Self::with(
            Settings::load(cli.config.as_deref())?,
            Catalogued::AsRegistered,
        )
        .await
    }

    /// For a command that starts work: registers what is configured, so that it may name what is
    /// new. Limits stay as they are.
    pub async fn registering(cli: &Cli) -> Result<Self> {
        Self::with(
            Settings::load(cli.config.as_deref())?,
            Catalogued::Registered,
        )
        .await
    }

    /// For the services: registers what is configured and puts its limits in force for all.
    pub async fn serving(settings: Settings) -> Result<Self> {
        let context = Self::with(settings, Catalogued::Registered).await?;
        manage::configure(&*context.backends.fleet, &context.catalogue).await?;
        Ok(context)
    }

    async fn with(settings: Settings, catalogued: Catalogued) -> Result<Self> {
        let library = Arc::new(Library::new(settings.connectors.dir.as_deref())?);
        let spec = settings.catalogue()?;
        let backends = backends::open(&settings.store).await?;
        if settings.store.migrate_on_start {
            backends.master.migrate().await?;
        }
        backends.raw.prepare().await?;
        let catalogue = match catalogued {
            Catalogued::AsRegistered => backends.master.catalogue().await?,
            Catalogued::Registered => backends.master.register(&spec).await?,
        };
        let keys = settings.store.credential_keys.clone();
        let fleet = Fleet {
            limits: backends.fleet.clone(),
            vault: keys.map(|keys| Vault::new(backends.credentials.clone(), keys)),
        };
        Ok(Self {
            settings,
            backends,
            catalogue: Arc::new(catalogue),
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
                .hint(known_are(&known))
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
        known_are(&slugs)
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
            Error::config("organization_missing", "no organization is known").hint(
                "sluice.toml names them in [[organizations]], as docs/configuration.md shows; \
                they are known once a service has started with it (`sluice up`)",
            ),
        ),
        (None, _) => Err(Error::config(
            "organization_needed",
            "there is more than one organization",
        )
        .hint(format!("name one with --organization; {}", known()))),
    }
}

fn known_are(names: &[&str]) -> String {
    format!(
        "known are: {}; what is new in the configuration is known once a service has started with it",
        names.join(", ")
    )
}
