//! The HTTP side of every process: liveness, readiness and metrics; in the `api` role also the
//! intake of webhooks and the management API.

pub mod health;
pub mod problem;
pub mod signature;
pub mod v1;
pub mod webhook;

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit, routing};
use sluice_core::{Error, Result, catalogue::Catalogue};
use sluice_runtime::Shutdown;
use sluice_store::Backends;
use tokio::net::TcpListener;

pub use health::ConnectionHealth;
pub use v1::{Management, Token, Tokens};
pub use webhook::{WebhookSecrets, WebhookStreams};

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    pub backends: Backends,
    pub catalogue: Arc<Catalogue>,
    /// Outcome of each connection's last probe.
    pub connections: Arc<ConnectionHealth>,
    /// Renders the process's metrics in Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Webhook intake; `None` in roles that take none.
    pub intake: Option<Arc<Intake>>,
    /// The management API; `None` in roles that offer none.
    pub management: Option<Arc<Management>>,
}

/// Settings of the webhook intake.
pub struct Intake {
    /// Signing secrets per connection; a connection without one takes no webhooks.
    pub secrets: WebhookSecrets,
    /// Streams of the connections whose connector could be opened here; those of others are not
    /// known before sync-in looks at what came.
    pub streams: WebhookStreams,
    /// Largest accepted body, in bytes.
    pub max_body: usize,
    /// How far a time stamp may be from now, either way.
    pub replay_window: Duration,
    /// Raw payloads are kept this long.
    pub retention: Duration,
}

/// All routes of one process.
pub fn router(api: Api) -> Router {
    let mut router = Router::new()
        .route("/livez", routing::get(health::livez))
        .route("/readyz", routing::get(health::readyz))
        .route("/metrics", routing::get(health::metrics));
    if let Some(intake) = &api.intake {
        let limit = DefaultBodyLimit::max(intake.max_body);
        router = router.route(
            "/webhooks/{organization}/{connection}/{stream}",
            routing::post(webhook::receive).layer(limit),
        );
    }
    if api.management.is_some() {
        router = router.merge(v1::router(&api));
    }
    router.with_state(api)
}

/// Serves until the soft stop; answers in hand are finished.
///
/// # Errors
/// `http_serve_failed` when the listener breaks.
pub async fn serve(api: Api, listener: TcpListener, shutdown: Shutdown) -> Result<()> {
    axum::serve(listener, router(api))
        .with_graceful_shutdown(async move { shutdown.soft.cancelled().await })
        .await
        .map_err(|error| {
            Error::internal("http_serve_failed", "the HTTP listener broke").caused_by(error)
        })
}
