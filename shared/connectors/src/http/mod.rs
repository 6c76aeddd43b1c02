//! The one way out: every HTTP call of every connector goes through [`HttpClient`].
//!
//! It takes a slot of the connection's limiter before each call, counts the call, calls only
//! hosts that the configuration or the connector names, follows no redirects, uses no proxy of
//! the environment, repeats nothing by itself, and bounds time and size of every answer.

mod access;
mod calls;
mod failure;
mod message;
mod observe;
mod options;
mod retry_after;
mod terms;

use std::sync::{
    Arc, Mutex, MutexGuard, Once, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use reqwest::{Url, redirect};
use sluice_core::{
    Error, ErrorClass, Result,
    catalogue::{Connection, ConnectionSpec},
    secret::SecretConfig,
    traffic::{Nanos, breaker::Ended, congestion::Congestion},
};
use tracing::Instrument as _;

pub use access::Hosts;
pub use calls::Calls;
pub use message::{Request, Response};
pub use options::HttpOptions;
pub use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
pub use retry_after::{MAX_PAUSE, retry_after};
pub use terms::Terms;

use crate::{
    credentials::{Credentials, Fleet},
    limiter::{Limiter, LimiterSettings, Permit},
};

/// Client of one connection. Clones share the limiter, the pool and the call counter.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
    hosts: Hosts,
}

struct Shared {
    connection: String,
    client: reqwest::Client,
    limiter: Limiter,
    options: HttpOptions,
    credentials: Option<Credentials>,
    calls: AtomicU64,
    congestion: Mutex<Congestion>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient")
            .field("connection", &self.shared.connection)
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    /// The client of a registered connection, which shares limits and breaker with every process
    /// of the fleet. Hosts and the `http` section come from its settings.
    ///
    /// # Errors
    /// `http_settings_invalid`; `http_client_failed` when the system has no usable TLS roots.
    pub fn for_connection(
        connection: &Connection,
        config: &SecretConfig,
        fleet: &Fleet,
    ) -> Result<Self> {
        let spec = &connection.spec;
        let options = HttpOptions::of_connection(spec, config)?;
        let limiter = Limiter::shared(LimiterSettings {
            fleet: Arc::clone(&fleet.limits),
            connection: connection.id,
            name: spec.name.clone(),
            limits: spec.limits.clone(),
            breaker: spec.breaker.clone(),
            call_lasts: options.timeout,
        });
        let shared = fleet.vault.as_ref();
        let credentials = shared.map(|vault| vault.of(connection.id, options.timeout));
        Self::build(&spec.name, config, limiter, options, credentials)
    }

    /// The client of a connection outside the fleet, for tools that look at one before anything
    /// is registered: it keeps the limits by itself.
    ///
    /// # Errors
    /// As [`Self::for_connection`].
    pub fn alone(spec: &ConnectionSpec, config: &SecretConfig) -> Result<Self> {
        let options = HttpOptions::of_connection(spec, config)?;
        let limiter = Limiter::new(&spec.limits);
        Self::new(&spec.name, config, limiter, options)
    }

    /// A client that may call the hosts named in `config`; see [`Hosts::of_config`].
    ///
    /// # Errors
    /// `http_client_failed` when the system has no usable TLS roots.
    pub fn new(
        connection: &str,
        config: &SecretConfig,
        limiter: Limiter,
        options: HttpOptions,
    ) -> Result<Self> {
        Self::build(connection, config, limiter, options, None)
    }

    fn build(
        connection: &str,
        config: &SecretConfig,
        limiter: Limiter,
        options: HttpOptions,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        install_crypto();
        let hosts = Hosts::of_config(config);
        let client = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            // Shorter than what servers and balancers commonly keep, so that a call seldom meets
            // a connection the other side is just closing.
            .pool_idle_timeout(std::time::Duration::from_secs(15))
            .dns_resolver(access::Resolver::new(hosts.clone()))
            .build()
            .map_err(|error| {
                Error::config("http_client_failed", "cannot set up the HTTP client")
                    .connection(connection)
                    .caused_by(error.without_url())
            })?;
        Ok(Self {
            shared: Arc::new(Shared {
                connection: connection.to_owned(),
                client,
                limiter,
                calls: AtomicU64::new(0),
                congestion: Mutex::new(Congestion::new(options.concurrency)),
                options,
                credentials,
            }),
            hosts,
        })
    }

    /// The same client, which may also call the hosts of these URLs: fixed addresses that the
    /// connector's files name. They must be `https` and resolve to public addresses.
    #[must_use]
    pub fn allowing<'a>(mut self, urls: impl IntoIterator<Item = &'a Url>) -> Self {
        self.hosts.add_public(urls);
        self
    }

    /// Makes one call and reads the whole answer, whatever its status. A 429 or 503 with
    /// `Retry-After` pauses the limiter for everybody.
    ///
    /// # Errors
    /// - What [`Limiter::acquire`] returns (RateLimit): nothing was sent.
    /// - `host_not_allowed` (Config): nothing was sent.
    /// - `connection_failed` (Network): nothing was sent.
    /// - `no_answer` (Timeout): the call may have been carried out.
    /// - `answer_broken` (Timeout): it was answered, but the body did not arrive in full.
    /// - `response_too_large` (TargetError): more bytes than allowed, counted when unpacked.
    pub async fn send(&self, request: Request) -> Result<Response> {
        let span = observe::span(&self.shared.connection, &request);
        let answer = self.checked_and_paced(request).instrument(span).await;
        answer.map_err(|error| error.connection(&self.shared.connection))
    }

    /// Everything before the call: whether it may be made, whether it can be, and when.
    async fn checked_and_paced(&self, request: Request) -> Result<Response> {
        let shared = &*self.shared;
        self.hosts.check(&request.url)?;
        let host = failure::place(&request.url);
        let mut call = shared
            .client
            .request(request.method, request.url)
            .headers(request.headers);
        if !request.body.is_empty() {
            call = call.body(request.body);
        }
        if let Some(timeout) = request.timeout {
            call = call.timeout(timeout.min(options::MAX_TIMEOUT));
        }
        let call = call.build().map_err(failure::not_built)?;
        let terms = Terms::current();
        let permit = shared.limiter.acquire(call.url().path(), &terms).await?;
        shared.calls.fetch_add(1, Ordering::Relaxed);
        let started = std::time::Instant::now();
        let answer = self.exchange(call, &host, &permit).await;
        match failure::cause(&answer, &host) {
            Some(cause) => {
                Terms::note(permit.probe());
                permit.failed(cause);
            }
            None => {
                Terms::note(None);
                permit.ended(ended(&answer));
            }
        }
        self.learn(started.elapsed(), &answer);
        observe::done(&shared.connection, started, &answer);
        answer
    }

    async fn exchange(
        &self,
        call: reqwest::Request,
        host: &str,
        permit: &Permit,
    ) -> Result<Response> {
        let mut answer = self
            .shared
            .client
            .execute(call)
            .await
            .map_err(|error| failure::of_transport(error, host))?;
        permit.answered();
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        if let Some(wait) = retry_after::pause_asked_for(status, &headers) {
            self.shared.limiter.pause(wait);
        }
        let body = self.read(answer, host).await?;
        Ok(Response {
            status,
            headers,
            body,
        })
    }

    /// Reads the body chunk by chunk, counting unpacked bytes, so that a small packed answer
    /// cannot fill the memory.
    async fn read(&self, mut answer: reqwest::Response, host: &str) -> Result<Bytes> {
        let limit = self.shared.options.max_response_bytes;
        let mut body = BytesMut::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    return Err(failure::too_large(host, limit));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body.freeze()),
                Err(error) => return Err(failure::of_body(error, host)),
            }
        }
    }

    fn learn(&self, took: std::time::Duration, answer: &Result<Response>) {
        let mut congestion = self.congestion();
        match answer {
            Ok(answer) if matches!(answer.status.as_u16(), 429 | 503) => congestion.congested(),
            Err(error) if error.class() == ErrorClass::Timeout => congestion.congested(),
            Ok(_) => congestion.answered(Nanos::try_from(took.as_nanos()).unwrap_or(Nanos::MAX)),
            Err(_) => {}
        }
    }

    fn congestion(&self) -> MutexGuard<'_, Congestion> {
        // Nothing panics while the lock is held.
        let lock = self.shared.congestion.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that may be made at once, by what the last ones told. It begins low.
    pub fn concurrency(&self) -> usize {
        self.congestion().calls() as usize
    }

    /// How long calls took lately, on average; `None` before some were answered.
    pub fn call_lasts(&self) -> Option<std::time::Duration> {
        let lasts = self.congestion().lasts()?;
        Some(std::time::Duration::from_nanos(
            u64::try_from(lasts).unwrap_or(0),
        ))
    }

    /// HTTP calls made so far by this client and its clones.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    pub fn limiter(&self) -> &Limiter {
        &self.shared.limiter
    }

    /// Where the fleet keeps tokens of this connection, if it has a place for them.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.shared.credentials.as_ref()
    }

    pub fn connection(&self) -> &str {
        &self.shared.connection
    }
}

/// What the breaker makes of an answer that is no failure.
fn ended(answer: &Result<Response>) -> Ended {
    match answer {
        Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => Ended::Unknown,
        _ => Ended::Answered,
    }
}

/// One cryptography library for the process: ring. A second installation changes nothing.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only when another one is installed already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests;
