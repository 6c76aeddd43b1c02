//! Trace contexts: made for every span, carried over process borders, exported when asked.

use std::{collections::HashMap, sync::OnceLock};

use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider},
};
use sluice_core::{Error, Result};
use tracing::{Span, dispatcher::WeakDispatch, span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The usual variables; one of them set means that spans are exported.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

const TRACEPARENT: &str = "traceparent";

static DISPATCH: OnceLock<WeakDispatch> = OnceLock::new();

/// W3C `traceparent` of the current span; `None` outside of any span or before
/// [`super::init`]. Works whether or not spans are exported.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let context: &SpanContext = span.span_context();
    context.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags()
        )
    })
}

/// The current span's `traceparent` when it belongs to the trace of `parent`, otherwise `parent`:
/// a span that was filtered out, or begun before its trace was known, must not break the trace.
pub fn traceparent_within(parent: Option<&str>) -> Option<String> {
    let trace = |text: &str| text.split('-').nth(1).map(str::to_owned);
    match (traceparent(), parent) {
        (Some(current), Some(parent)) if trace(&current) != trace(parent) => {
            Some(parent.to_owned())
        }
        (Some(current), _) => Some(current),
        (None, parent) => parent.map(str::to_owned),
    }
}

/// The start of a trace of its own, for work that nothing else asked for: whatever follows from it
/// carries its trace id, also where spans are filtered out.
pub fn new_traceparent() -> String {
    let ids = RandomIdGenerator::default();
    format!("00-{}-{}-01", ids.new_trace_id(), ids.new_span_id())
}

/// Makes a span continue the trace that a `traceparent` names. Call it right after making the
/// span and before entering it; text that is no valid `traceparent` is ignored.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else {
        return;
    };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if parent.span().span_context().is_valid()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::trace!(%error, "a span was begun before its trace was known");
    }
}

/// The trace of a span, from inside of a log formatter.
pub(super) fn trace_id(span: &span::Id) -> Option<String> {
    let dispatch = DISPATCH.get()?.upgrade()?;
    let context = tracing_opentelemetry::get_otel_context(span, &dispatch)?;
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| context.trace_id().to_string())
}

pub(super) fn remember_dispatch() {
    tracing::dispatcher::get_default(|dispatch| {
        let _first = DISPATCH.set(dispatch.downgrade());
    });
}

/// With an endpoint spans are sent there in batches; without one they have ids and nothing else.
pub(super) fn provider(role: &str) -> Result<SdkTracerProvider> {
    let wanted = ENDPOINTS
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()));
    let builder = SdkTracerProvider::builder().with_resource(resource(role));
    Ok(if wanted {
        builder.with_batch_exporter(exporter(None)?).build()
    } else {
        builder.with_sampler(Sampler::AlwaysOff).build()
    })
}

pub(super) fn resource(role: &str) -> Resource {
    Resource::builder()
        .with_service_name(format!("sluice-{role}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The exporter; `None` takes the endpoint from the `OTEL_*` variables.
pub(super) fn exporter(endpoint: Option<&str>) -> Result<SpanExporter> {
    let mut builder = SpanExporter::builder()
        .with_http()
        .with_http_client(OnRuntime::new()?);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build().map_err(|error| {
        Error::config(
            "telemetry_invalid",
            "the OTEL_* variables are not understood",
        )
        .caused_by(error)
    })
}

/// Sends on the process's Tokio runtime: the exporter's own thread has none, and the client needs
/// one.
#[derive(Debug)]
struct OnRuntime {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl OnRuntime {
    fn new() -> Result<Self> {
        // Whoever comes first installs the same provider.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let unusable = |text: &str| Error::internal("telemetry_unusable", text.to_owned());
        Ok(Self {
            client: reqwest::Client::builder()
                .timeout(std::time::Duration::from_secs(10))
                .build()
                .map_err(|error| unusable("no HTTP client for spans").caused_by(error))?,
            runtime: tokio::runtime::Handle::try_current()
                .map_err(|_| unusable("exporting spans needs a Tokio runtime"))?,
        })
    }
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { client.send_bytes(request).await })
            .await?
    }
}
