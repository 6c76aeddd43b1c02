//! `sluice demo`: the main job on realistic data, embedded, from one command.
//!
//! Full sync, live edits, incremental sync, then a comparison of source, master data and both
//! targets, record by record. What is expected at each place is computed here from what the
//! stand-in source holds, without the connector's mapping rules, so that a fault in the rules
//! shows as a mismatch.

mod compare;
mod report;
mod setup;
mod watch;

use std::time::Instant;

use sluice_core::{Result, run::RunKind};
use sluice_orchestrator::plan::{self, RunRequest};
use sluice_runtime::Shutdown;

use crate::{
    cli::{DemoArgs, OutputFormat},
    commands,
    context::Context,
    exit::Exit,
    roles::{self, Role},
};

/// Runs the demo. Exit status 1 when anything differs.
pub async fn run(args: &DemoArgs) -> Result<Exit> {
    let started = Instant::now();
    let stage = setup::Stage::start(args).await?;
    let context = Context::serving(stage.settings()?).await?;
    let telemetry = roles::telemetry(&context.settings, "demo")?;
    let shutdown = Shutdown::manual();
    let services = roles::spawn(&context, Role::All, &shutdown, None).await?;
    eprintln!(
        "stand-ins: Yardi {} ({} records wanted, seed {}), ONE {}, Lessen360 {}",
        stage.yardi.url(),
        args.records,
        args.seed,
        stage.one.url(),
        stage.lessen360.url()
    );
    eprintln!(
        "the stand-in targets allow {} calls per minute here; the vendors' limits are 60 (ONE) and 30 (Lessen360)",
        args.target_limit
    );

    let mut runs = vec![sync(&context, RunKind::Full, args).await?];
    if args.edits > 0 {
        let edited = stage.edit(args.edits).await?;
        eprintln!("{edited} edits made at the source");
        runs.push(sync(&context, RunKind::Incremental, args).await?);
    }
    let duration = started.elapsed();
    let comparison = compare::compare(&context, &stage).await?;
    let report =
        report::Report::collect(&context, &stage, args, &runs, comparison, duration).await?;
    report.print(args.output)?;
    let exit = if report.mismatches == 0 {
        Exit::Done
    } else {
        Exit::Failed
    };

    if args.keep {
        eprintln!(
            "everything keeps running; data in {}; Ctrl-C stops it",
            stage.folder().display()
        );
        // Whether waiting works or not, stopping is what comes next.
        let _ = tokio::signal::ctrl_c().await;
    }
    shutdown.stop();
    services.join().await?;
    stage.stop().await;
    drop(telemetry);
    Ok(exit)
}

/// Starts a run and waits until it has ended and its pushes are settled.
async fn sync(context: &Context, kind: RunKind, args: &DemoArgs) -> Result<sluice_store::run::Run> {
    let organization = context
        .catalogue
        .organization(setup::ORGANIZATION)
        .unwrap_or(sluice_core::OrganizationId(0));
    let request = RunRequest {
        requested_by: "demo".to_owned(),
        ..RunRequest::new(organization, setup::FLOW, kind)
    };
    let flow = context.catalogue.flow(organization, setup::FLOW);
    let available = match flow {
        Some(flow) => commands::run::streams(context, flow.source)?,
        None => Vec::new(),
    };
    let started = plan::start_run(
        &*context.backends.tasks,
        &context.catalogue,
        &request,
        &available,
    )
    .await?;
    watch::until_quiet(
        context,
        organization,
        started.id,
        args.output != OutputFormat::Json,
    )
    .await
}
