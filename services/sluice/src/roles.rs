//! The service roles, alone or all in one process.

use std::{sync::Arc, time::Duration};

use sluice_api::{
    Api, ConnectionHealth, Intake, Management, Token, Tokens, WebhookSecrets, WebhookStreams,
};
use sluice_connectors::http::Terms;
use sluice_core::{Error, Result, catalogue::Catalogue};
use sluice_orchestrator::{Orchestrator, SourceStreams};
use sluice_runtime::{Settings, Shutdown, failpoint, secret, telemetry};
use sluice_sync_in::{Sources, SyncIn};
use sluice_sync_out::{SyncOut, Targets};
use sluice_transform::Schemas;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{cli::Cli, connections, context::Context, exit::Exit};

/// Pause between two probes of a connection; each costs calls of its limit.
const PROBE_INTERVAL: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    SyncIn,
    SyncOut,
    Orchestrator,
    Api,
    All,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::SyncIn => "sync-in",
            Self::SyncOut => "sync-out",
            Self::Orchestrator => "orchestrator",
            Self::Api => "api",
            Self::All => "all",
        }
    }

    fn includes(self, other: Self) -> bool {
        self == Self::All || self == other
    }
}

/// Runs a role until it is told to stop: SIGTERM or Ctrl-C finishes what is in hand, a second one
/// or the end of the grace period stops at once.
pub async fn run(cli: &Cli, role: Role) -> Result<Exit> {
    let settings = Settings::load(cli.config.as_deref())?;
    needs_others(&settings, role)?;
    let guard = telemetry(&settings, role.name())?;
    failpoint::arm()?;
    let shutdown = Shutdown::on_signals(settings.services.grace)?;
    let context = Context::serving(settings).await?;
    let listener = listen(&context.settings).await?;
    let services = spawn(&context, role, &shutdown, Some(listener)).await?;
    let outcome = services.join().await;
    context.backends.broker.close().await;
    drop(guard);
    outcome.map(|()| Exit::Done)
}

/// A part of the work alone, with a broker that nobody else can reach, would wait for ever.
fn needs_others(settings: &Settings, role: Role) -> Result<()> {
    let alone = matches!(role, Role::SyncIn | Role::SyncOut | Role::Orchestrator);
    if !alone || settings.store.broker.scheme() != "local" {
        return Ok(());
    }
    let what = format!(
        "`sluice {}` needs a broker that other processes reach",
        role.name()
    );
    Err(Error::config("broker_local", what)
        .hint("set store.broker to an amqp: address, or run everything in one process: sluice up"))
}

/// Logs, traces and metrics of this process.
pub fn telemetry(settings: &Settings, role: &str) -> Result<telemetry::TelemetryGuard> {
    telemetry::init(&settings.telemetry, role)
}

/// The running parts of a process.
pub struct Services(JoinSet<Result<()>>);

impl Services {
    /// Waits for all parts; the first failure ends the process.
    pub async fn join(mut self) -> Result<()> {
        while let Some(ended) = self.0.join_next().await {
            ended.map_err(|error| {
                Error::internal("service_died", "a service task died").caused_by(error)
            })??;
        }
        Ok(())
    }
}

/// Starts the parts of a role. Without a listener nothing is served over HTTP.
pub async fn spawn(
    context: &Context,
    role: Role,
    shutdown: &Shutdown,
    listener: Option<TcpListener>,
) -> Result<Services> {
    let mut set = JoinSet::new();
    let settings = &context.settings;
    let health = Arc::new(ConnectionHealth::default());
    let worker = worker_name(role);
    if role.includes(Role::SyncIn) {
        let schemas = Arc::new(Schemas::shipped()?);
        let (sources, errors) = Sources::open(
            &context.connectors,
            &context.catalogue,
            &schemas,
            &context.fleet,
        );
        report(&errors);
        let sources = Arc::new(sources);
        set.spawn(probe_sources(
            sources.clone(),
            health.clone(),
            shutdown.clone(),
        ));
        let sync_in = SyncIn {
            backends: context.backends.clone(),
            catalogue: context.catalogue.clone(),
            sources,
            settings: sluice_sync_in::Settings {
                lease: settings.services.lease,
                concurrency: settings.services.sync_in.concurrency as usize,
                apply_batch: settings.services.sync_in.apply_batch as usize,
                keep_raw: Some(settings.retention.raw),
                ..sluice_sync_in::Settings::default()
            },
            worker: worker.clone(),
        };
        set.spawn(sluice_sync_in::run(sync_in, shutdown.clone()));
    }
    if role.includes(Role::SyncOut) {
        let (targets, errors) =
            Targets::open(&context.connectors, &context.catalogue, &context.fleet);
        report(&errors);
        let targets = Arc::new(targets);
        set.spawn(probe_targets(
            targets.clone(),
            health.clone(),
            shutdown.clone(),
        ));
        let sync_out = SyncOut {
            backends: context.backends.clone(),
            targets,
            settings: sluice_sync_out::Settings {
                lease: settings.services.lease,
                batch: settings.services.sync_out.batch as usize,
                slots: settings.services.sync_out.concurrency as usize,
                linger: settings.services.sync_out.linger,
            },
            worker: worker.clone(),
        };
        set.spawn(sluice_sync_out::run(sync_out, shutdown.clone()));
    }
    if role.includes(Role::Orchestrator) {
        let orchestrator = Orchestrator {
            backends: context.backends.clone(),
            catalogue: context.catalogue.clone(),
            streams: Arc::new(source_streams(context)),
            settings: sluice_orchestrator::Settings {
                idle: settings.services.orchestrator.interval,
                publish_batch: settings.services.orchestrator.stage_batch as usize,
                queue_depth: settings.services.orchestrator.queue_depth,
                rescue_interval: settings.services.orchestrator.rescue_interval,
                staged_for: lost_after(settings.services.lease),
                ..sluice_orchestrator::Settings::default()
            },
        };
        set.spawn(sluice_orchestrator::run(orchestrator, shutdown.clone()));
    }
    if let Some(listener) = listener {
        let prometheus = telemetry::prometheus();
        let (intake, management) = match role.includes(Role::Api) {
            true => (
                Some(Arc::new(intake(context)?)),
                Some(Arc::new(management(settings, &context.catalogue)?)),
            ),
            false => (None, None),
        };
        let api = Api {
            backends: context.backends.clone(),
            catalogue: context.catalogue.clone(),
            connections: health,
            metrics: Arc::new(move || prometheus.render()),
            intake,
            management,
        };
        tracing::info!(role = role.name(), worker, "started");
        set.spawn(sluice_api::serve(api, listener, shutdown.clone()));
    }
    Ok(Services(set))
}

/// What the sources' streams hold. A source that cannot be opened here is left out: its missing
/// parents wait for an ordinary run.
fn source_streams(context: &Context) -> SourceStreams {
    let mut streams = SourceStreams::default();
    for connection in context.catalogue.sources() {
        match connections::source(&context.connectors, &connection.spec, None) {
            Ok(source) => {
                let named = source.streams().iter();
                let named = named.filter_map(|s| Some((s.name.clone(), s.entity_type.clone()?)));
                streams.insert(connection.id, named.collect());
            }
            Err(error) => tracing::warn!(
                error = error.chain(),
                "missing parents cannot be fetched from this source"
            ),
        }
    }
    streams
}

/// A staged task that nobody claimed for this long has lost its message: its orchestrator died
/// between staging and publishing, or the broker lost it. Longer than a worker may keep a message
/// while it finishes a batch; 5 minutes with the default lease.
fn lost_after(lease: Duration) -> Duration {
    lease * 5 / 2
}

async fn listen(settings: &Settings) -> Result<TcpListener> {
    let address = settings.http.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::config("listen_failed", format!("cannot listen on {address}"))
            .hint("another process may hold the port; set http.listen")
            .caused_by(error)
    })?;
    if let Ok(bound) = listener.local_addr() {
        eprintln!("listening on http://{bound}");
    }
    Ok(listener)
}

/// A connection that cannot be opened does not keep the others from working.
fn report(errors: &[Error]) {
    for error in errors {
        tracing::error!(error = %error.chain(), code = error.code(), "connection left out");
    }
}

/// Host and process, for people who look at leases.
fn worker_name(role: Role) -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned());
    format!("{host}/{}/{}", role.name(), std::process::id())
}

/// Signing secrets of the connections that take webhooks: `webhook_secrets` in their config.
fn intake(context: &Context) -> Result<Intake> {
    let settings = &context.settings;
    let (mut secrets, mut streams) = (WebhookSecrets::new(), WebhookStreams::new());
    for connection in &context.catalogue.connections {
        let Some(references) = connection
            .spec
            .config
            .get("webhook_secrets")
            .and_then(|list| list.as_array())
        else {
            continue;
        };
        let mut opened = Vec::new();
        for reference in references.iter().filter_map(|reference| reference.as_str()) {
            let secret = secret::reference(reference)
                .and_then(|text| sluice_api::signature::parse_secret(&text))
                .map_err(|error| error.connection(&connection.spec.name))?;
            opened.push(secret);
        }
        secrets.insert(connection.id, opened);
        match connections::source(&context.connectors, &connection.spec, None) {
            Ok(source) => {
                let names = source.streams().iter().map(|stream| stream.name.clone());
                streams.insert(connection.id, names.collect());
            }
            Err(error) => tracing::warn!(
                error = error.chain(),
                "webhooks of unknown streams cannot be refused for this connection"
            ),
        }
    }
    Ok(Intake {
        secrets,
        streams,
        max_body: usize::try_from(settings.http.max_body).unwrap_or(usize::MAX),
        replay_window: settings.http.replay_window,
        retention: settings.retention.raw,
    })
}

/// The management API with its callers' tokens.
fn management(settings: &Settings, catalogue: &Catalogue) -> Result<Management> {
    let tokens = settings.api_tokens.iter().filter_map(|entry| {
        let organization = catalogue.organization(&entry.organization)?;
        let token = secret::reference(&entry.token)
            .and_then(|text| Token::new(&entry.name, organization, entry.role, &text));
        Some(token)
    });
    Ok(Management {
        tokens: Tokens(tokens.collect::<Result<_>>()?),
        schemas: Arc::new(Schemas::shipped()?),
    })
}

async fn probe_sources(
    sources: Arc<Sources>,
    health: Arc<ConnectionHealth>,
    shutdown: Shutdown,
) -> Result<()> {
    loop {
        for source in sources.all() {
            let name = format!("{}/{}", source.organization, source.connection.spec.name);
            tokio::select! {
                outcome = Terms::probing(source.source.check()) => health.record(&name, outcome.err().map(|error| error.code())),
                () = shutdown.soft.cancelled() => return Ok(()),
            }
        }
        if stopped_while_waiting(&shutdown).await {
            return Ok(());
        }
    }
}

async fn probe_targets(
    targets: Arc<Targets>,
    health: Arc<ConnectionHealth>,
    shutdown: Shutdown,
) -> Result<()> {
    loop {
        for target in targets.all() {
            let name = format!("{}/{}", target.organization, target.connection.spec.name);
            tokio::select! {
                outcome = Terms::probing(target.target.check()) => health.record(&name, outcome.err().map(|error| error.code())),
                () = shutdown.soft.cancelled() => return Ok(()),
            }
        }
        if stopped_while_waiting(&shutdown).await {
            return Ok(());
        }
    }
}

async fn stopped_while_waiting(shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = tokio::time::sleep(PROBE_INTERVAL) => false,
        () = shutdown.soft.cancelled() => true,
    }
}
