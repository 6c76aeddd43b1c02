//! `sluice doctor`: reaches every backend and connection, says what is wrong and what to do.

use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_connectors::{http::Terms, library::Library};
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
    code: Option<&'static str>,
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
        findings.push(
            check(what, async {
                let files = files?;
                if connections::can_read(&files) {
                    let source = connections::source(&library, spec, shared.as_ref())?;
                    Terms::urgently(source.check()).await?;
                }
                if connections::can_write(&files) {
                    let target = connections::target(&library, spec, shared.as_ref())?;
                    Terms::urgently(target.check()).await?;
                }
                Ok(())
            })
            .await,
        );
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
        Ok(Err(error)) => (Some(error.chain()), Some(error.code())),
        Err(_) => (
            Some(format!("no answer within {} s", TIMEOUT.as_secs())),
            Some("check_timed_out"),
        ),
    };
    Finding {
        what,
        ok: problem.is_none(),
        took_ms,
        problem,
        code,
    }
}
