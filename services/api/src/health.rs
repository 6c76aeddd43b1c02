//! `/livez`, `/readyz`, `/metrics`.
//!
//! Liveness touches nothing. Readiness checks what the next piece of work needs; an external
//! system that is down makes the process *degraded*, not unready, because waiting is what Sluice
//! does then.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use sluice_core::Result;
use sluice_runtime::metrics as names;

use crate::Api;

/// Longest time one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Outcome of each connection's last probe, by `organization/connection`.
#[derive(Debug, Default)]
pub struct ConnectionHealth(Mutex<BTreeMap<String, Option<&'static str>>>);

impl ConnectionHealth {
    /// Keeps the outcome of a probe: `None` is fine, otherwise the error's code.
    pub fn record(&self, name: &str, failure: Option<&'static str>) {
        self.lock().insert(name.to_owned(), failure);
    }

    fn snapshot(&self) -> BTreeMap<String, Option<&'static str>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<&'static str>>> {
        // A panic while holding it leaves a map of outcomes, which is still a map of outcomes.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct Check {
    status: &'static str,
    critical: bool,
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

pub(crate) async fn livez() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

pub(crate) async fn readyz(State(api): State<Api>) -> Response {
    let stores = &api.backends;
    let (raw, master, queue, broker) = tokio::join!(
        check(stores.raw.ping()),
        check(stores.master.ping()),
        // The cheapest look at the queue's tables: counting what waits would cost more the more waits.
        check(async { stores.tasks.reader_cursor("readiness").await.map(|_| ()) }),
        check(stores.broker.ping()),
    );
    let mut checks = BTreeMap::from([
        ("raw_store".to_owned(), raw),
        ("master_store".to_owned(), master),
        ("queue".to_owned(), queue),
        ("broker".to_owned(), broker),
    ]);
    let ready = checks.values().all(|check| check.status == "ok");
    for (name, failure) in api.connections.snapshot() {
        let status = if failure.is_some() { "failed" } else { "ok" };
        checks.insert(
            format!("connection:{name}"),
            Check {
                status,
                critical: false,
                took_ms: 0,
                code: failure,
            },
        );
    }
    let status = match (ready, checks.values().all(|check| check.status == "ok")) {
        (false, _) => "unready",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(json!({ "status": status, "checks": checks }))).into_response()
}

async fn check(work: impl Future<Output = Result<()>>) -> Check {
    let started = Instant::now();
    let outcome = tokio::time::timeout(CHECK_TIMEOUT, work).await;
    let code = match &outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.code()),
        Err(_) => Some("check_timed_out"),
    };
    Check {
        status: if code.is_none() { "ok" } else { "failed" },
        critical: true,
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        code,
    }
}

pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let open = api.backends.master.connections();
    for (state, count) in [("idle", open.idle), ("used", open.used)] {
        metrics::gauge!(names::DATABASE_CONNECTIONS, "state" => state).set(count as f64);
    }
    let headers = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (headers, (api.metrics)()).into_response()
}
