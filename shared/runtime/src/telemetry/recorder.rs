//! The process's metrics.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metrics::{DESCRIPTIONS, Kind, SYNC_LAG};

/// Network calls and batches: 5 milliseconds to a minute.
const SECONDS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// From an edit at the source to its confirmation at a target: a second to a day.
const LAG_SECONDS: [f64; 12] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0,
];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// The handle that renders `/metrics`, in Prometheus text form. Before [`super::init`] it renders
/// nothing but the same handle serves afterwards.
pub fn prometheus() -> PrometheusHandle {
    HANDLE.get_or_init(start).clone()
}

pub(super) fn install() {
    let _handle = prometheus();
}

fn start() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    // Both lists are constant and not empty, the only thing that can be refused.
    let builder = match builder.set_buckets(&SECONDS).and_then(|builder| {
        builder.set_buckets_for_metric(Matcher::Full(SYNC_LAG.into()), &LAG_SECONDS)
    }) {
        Ok(builder) => builder,
        Err(_) => PrometheusBuilder::new(),
    };
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
    }
    handle
}

fn describe() {
    for (name, kind, text) in DESCRIPTIONS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *text),
            Kind::Gauge => metrics::describe_gauge!(*name, *text),
            Kind::Histogram => metrics::describe_histogram!(*name, metrics::Unit::Seconds, *text),
        }
    }
}
