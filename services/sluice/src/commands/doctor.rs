//! `sluice doctor`: reaches every backend and connection, says what is wrong and what to do.

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sluice_connectors::{http::Terms, library::Library, limiter::state::CallState};
use sluice_core::Result;
use sluice_runtime::Settings;

use crate::{
    backends,
    cli::Cli,
    connections::{self, Shared},
    exit::Exit,
    output,
};

/// Longest time one check may take; slow vendors answer within two minutes.
const TIMEOUT: Duration = Duration::from_secs(130);

#[derive(Serialize)]
struct Finding {
    what: String,
    ok: bool,
    took_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Since when nobody is let through but probes, and when the next one is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe: Option<DateTime<Utc>>,
}

pub async fn run(cli: &Cli) -> Result<Exit> {
    let settings = Settings::load(cli.config.as_deref())?;
    let store = &settings.store;
    let mut findings = vec![
        check(
            format!("master store ({}:)", store.master.scheme()),
            async {
                let (master, ..) = backends::open_sql(store).await?;
                master.ping().await?;
                let pending = master
                    .migrations()
                    .await?
                    .iter()
                    .filter(|row| !row.applied)
                    .count();
                if pending > 0 && !store.migrate_on_start {
                    return Err(sluice_core::Error::config(
                        "migrations_pending",
                        format!("{pending} migrations are pending"),
                    )
                    .hint("run `sluice migrate up`"));
                }
                Ok(())
            },
        )
        .await,
        check(format!("raw store ({}:)", store.raw.scheme()), async {
            backends::open_raw(store).await?.ping().await
        })
        .await,
        check(format!("broker ({}:)", store.broker.scheme()), async {
            backends::open_broker(store).await?.ping().await
        })
        .await,
    ];
    let library = Library::new(settings.connectors.dir.as_deref())?;
    let catalogue = settings.catalogue()?;
    // Calls count towards the limits that the services keep. Without the store, which is a finding of
    // its own, each connection is at least called within its limits.
    let shared = Shared::open(store).await.ok();
    for spec in &catalogue.connections {
        let what = format!(
            "connection {}/{} ({})",
            spec.organization, spec.name, spec.connector
        );
        let files = library.get(&spec.connector);
        let mut finding = check(what, async {
            let files = files?;
            if connections::can_read(&files) {
                let source = connections::source(&library, spec, shared.as_ref())?;
                Terms::probing(source.check()).await?;
            }
            if connections::can_write(&files) {
                let target = connections::target(&library, spec, shared.as_ref())?;
                Terms::probing(target.check()).await?;
            }
            Ok(())
        })
        .await;
        if let (Some("breaker_open"), Some(shared)) = (finding.code.as_deref(), &shared)
            && let Ok(Some(state)) = shared.state(spec).await
        {
            finding.explain(&state);
        }
        findings.push(finding);
    }
    output::list(
        cli.output,
        &findings,
        &["CHECK", "RESULT", "MS", "PROBLEM"],
        "nothing to check",
        |finding| {
            vec![
                finding.what.clone(),
                if finding.ok { "ok" } else { "FAILED" }.to_owned(),
                finding.took_ms.to_string(),
                finding.problem.clone().unwrap_or_default(),
            ]
        },
    )?;
    Ok(if findings.iter().all(|finding| finding.ok) {
        Exit::Done
    } else {
        Exit::Failed
    })
}

async fn check(what: String, work: impl Future<Output = Result<()>>) -> Finding {
    let started = Instant::now();
    let outcome = tokio::time::timeout(TIMEOUT, work).await;
    let took_ms = started.elapsed().as_millis();
    let (problem, code) = match outcome {
        Ok(Ok(())) => (None, None),
        Ok(Err(error)) => (Some(error.chain()), Some(error.code().to_owned())),
        Err(_) => (
            Some(format!("no answer within {} s", TIMEOUT.as_secs())),
            Some("check_timed_out".to_owned()),
        ),
    };
    Finding {
        what,
        ok: problem.is_none(),
        took_ms,
        problem,
        code,
        open_since: None,
        next_probe: None,
    }
}

impl Finding {
    /// Says what opened the breaker, instead of that it is open.
    fn explain(&mut self, state: &CallState) {
        let (Some(since), Some(cause)) = (state.open_since, &state.cause) else {
            return;
        };
        let probe = match state.next_probe.filter(|probe| *probe > Utc::now()) {
            Some(probe) => format!("at {}", time(probe)),
            None => "now".to_owned(),
        };
        self.problem = Some(format!(
            "{} [{}]; so the breaker is open since {} and probes next {probe}; {}; \
             `sluice connection resume {}` lets calls through at once",
            cause.message,
            cause.code,
            time(since),
            cause.advice(),
            state.connection,
        ));
        self.code = Some(cause.code.clone());
        self.open_since = state.open_since;
        self.next_probe = state.next_probe;
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
