//! The one way out: every HTTP call of every connector goes through [`HttpClient`].
//!
//! It takes a slot of the connection's limiter before each call, counts the call, calls only
//! hosts that the configuration or the connector names, follows no redirects, uses no proxy of
//! the environment, repeats nothing by itself, and bounds time and size of every answer.

mod access;
mod failure;
mod message;
mod observe;
mod options;
mod retry_after;

use std::sync::{
    Arc, Once,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use reqwest::{Url, redirect};
use sluice_core::{Error, Result, catalogue::ConnectionSpec, secret::SecretConfig};
use tracing::Instrument as _;

pub use access::Hosts;
pub use message::{Request, Response};
pub use options::HttpOptions;
pub use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
pub use retry_after::{MAX_PAUSE, retry_after};

use crate::limiter::Limiter;

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
    calls: AtomicU64,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient")
            .field("connection", &self.shared.connection)
            .finish_non_exhaustive()
    }
}

impl HttpClient {
    /// The client of a registered connection: limits from its spec, hosts and the `http` section
    /// from its settings.
    ///
    /// # Errors
    /// `http_settings_invalid`; `http_client_failed` when the system has no usable TLS roots.
    pub fn for_connection(spec: &ConnectionSpec, config: &SecretConfig) -> Result<Self> {
        let options = HttpOptions::from_config(config).map_err(|e| e.connection(&spec.name))?;
        Self::new(&spec.name, config, Limiter::new(&spec.limits), options)
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
                options,
                calls: AtomicU64::new(0),
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
        let host = request.url.host_str().unwrap_or_default().to_owned();
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
        shared.limiter.acquire().await?;
        shared.calls.fetch_add(1, Ordering::Relaxed);
        let started = std::time::Instant::now();
        let answer = self.exchange(call, &host).await;
        observe::done(&shared.connection, started, &answer);
        answer
    }

    async fn exchange(&self, call: reqwest::Request, host: &str) -> Result<Response> {
        let mut answer = self
            .shared
            .client
            .execute(call)
            .await
            .map_err(|error| failure::of_transport(error, host))?;
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

    /// HTTP calls made so far by this client and its clones.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    pub fn limiter(&self) -> &Limiter {
        &self.shared.limiter
    }

    pub fn connection(&self) -> &str {
        &self.shared.connection
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
