//! Logs, traces and metrics of a process.
//!
//! - Logs go to standard error: JSON lines, or human text at a terminal.
//! - Traces: every span of Sluice has a W3C trace id that travels with tasks and messages, whether
//!   or not anybody collects spans. They are exported by OTLP over HTTP when
//!   `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set.
//! - Metrics are recorded in the process and rendered by [`prometheus`].

mod json;
mod recorder;
mod trace;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use sluice_core::{Error, Result};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::DynFilterFn, layer::SubscriberExt, util::SubscriberInitExt,
};

pub use recorder::prometheus;
pub use trace::{continue_from, new_traceparent, traceparent, traceparent_within};

use crate::config::{LogFormat, TelemetrySettings};

/// The variable that sets the log level, above the settings.
pub const LOG_VARIABLE: &str = "SLUICE_LOG";

/// Keeps telemetry alive. Dropping it sends the spans that are still waiting.
#[derive(Debug)]
#[must_use = "spans that wait are lost unless the guard lives as long as the process"]
pub struct TelemetryGuard {
    provider: SdkTracerProvider,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Starts logs, traces and metrics. `role` names the process in traces, such as `sync-in`. Once
/// per process; later calls keep the first's logs. Needs a Tokio runtime when spans are exported.
///
/// # Errors
/// `telemetry_invalid` when the log level or the exporter's variables are not understood.
pub fn init(settings: &TelemetrySettings, role: &str) -> Result<TelemetryGuard> {
    recorder::install();
    let filter = filter(settings)?;
    let provider = trace::provider(role)?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("sluice"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(our_spans());
    let started = Registry::default()
        .with(spans)
        .with(logs(settings.log_format).with_filter(filter))
        .try_init();
    if started.is_ok() {
        trace::remember_dispatch();
    }
    Ok(TelemetryGuard { provider })
}

/// Spans of libraries cost more than they tell; events belong into logs.
///
/// Asked for each span: what drivers ask through the `log` crate leaves a thread's answer behind,
/// and a span of a call site that counts as always enabled would take it for its own and be lost.
fn our_spans<S>() -> DynFilterFn<S> {
    DynFilterFn::new(|metadata, _| {
        metadata.is_span()
            && *metadata.level() <= tracing::Level::INFO
            && metadata.target().starts_with("sluice")
    })
}

fn filter(settings: &TelemetrySettings) -> Result<EnvFilter> {
    let text = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| settings.log_level.clone());
    EnvFilter::builder().parse(&text).map_err(|_| {
        Error::config(
            "telemetry_invalid",
            format!("`{text}` is no log level or filter"),
        )
        .hint("use error, warn, info, debug, trace, or a list such as info,sluice_sync_in=debug")
    })
}

type LogLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn logs<S>(format: LogFormat) -> LogLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    if human {
        tracing_subscriber::fmt::layer()
            .with_ansi(terminal)
            .with_writer(|| json::OneLine(std::io::stderr()))
            .boxed()
    } else {
        tracing_subscriber::fmt::layer()
            .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
            .event_format(json::JsonLine)
            .with_writer(std::io::stderr)
            .boxed()
    }
}

#[cfg(test)]
mod tests;
