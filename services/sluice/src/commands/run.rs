//! `sluice run start|list|show|watch|pause|resume|cancel`.

use std::time::Duration;

use serde_json::json;
use sluice_core::{
    OrganizationId, Result, RunId,
    run::{RunKind, RunState},
};
use sluice_orchestrator::plan::{self, RunRequest};
use sluice_store::run::{Run, RunDetail, RunQuery};

use crate::{
    cli::{Cli, OutputFormat, RunCommand, RunStartArgs},
    connections,
    context::Context,
    exit::Exit,
    output::{self, out},
};

/// Pause between two looks while watching.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

pub async fn run(cli: &Cli, command: &RunCommand) -> Result<Exit> {
    let context = match command {
        RunCommand::Start(_) => Context::registering(cli).await?,
        _ => Context::open(cli).await?,
    };
    let organization = context.organization(cli)?;
    let tasks = &context.backends.tasks;
    match command {
        RunCommand::Start(args) => start(cli, &context, organization, args).await,
        RunCommand::List { limit } => {
            let query = RunQuery {
                organization_id: organization,
                flow: None,
                state: None,
                after: None,
                limit: *limit,
            };
            let runs = tasks.runs(&query).await?;
            output::list(
                cli.output,
                &runs,
                &[
                    "ID", "FLOW", "KIND", "STATE", "READ", "CREATED", "UPDATED", "REJECTED",
                    "STARTED",
                ],
                "no runs yet; `sluice run start FLOW` starts one",
                |run| {
                    vec![
                        run.id.to_string(),
                        run.flow.clone(),
                        kind(run),
                        run.state.as_str().to_owned(),
                        run.counts.read.to_string(),
                        run.counts.created.to_string(),
                        run.counts.updated.to_string(),
                        run.counts.rejected.to_string(),
                        run.started_at.unwrap_or(run.created_at).to_rfc3339(),
                    ]
                },
            )?;
            Ok(Exit::Done)
        }
        RunCommand::Show { id } => match tasks.run(organization, RunId(*id)).await? {
            Some(detail) => {
                show(cli, &detail)?;
                Ok(Exit::Done)
            }
            None => {
                eprintln!("there is no run {id}");
                Ok(Exit::NotFound)
            }
        },
        RunCommand::Watch { id } => watch(cli, &context, organization, RunId(*id)).await,
        RunCommand::Pause { id } => {
            change(cli, &context, organization, *id, RunState::Paused).await
        }
        RunCommand::Resume { id } => {
            change(cli, &context, organization, *id, RunState::Running).await
        }
        RunCommand::Cancel { id } => {
            change(cli, &context, organization, *id, RunState::Cancelled).await
        }
    }
}

async fn start(
    cli: &Cli,
    context: &Context,
    organization_id: OrganizationId,
    args: &RunStartArgs,
) -> Result<Exit> {
    let kind = match args {
        RunStartArgs {
            reprocess: true, ..
        } => RunKind::Reprocess,
        RunStartArgs {
            record: Some(_), ..
        } => RunKind::Single,
        RunStartArgs { full: true, .. } => RunKind::Full,
        _ => RunKind::Incremental,
    };
    let request = RunRequest {
        streams: args.streams.clone(),
        since: args.since,
        record: args.record.clone(),
        dry_run: args.dry_run,
        idempotency_key: args.idempotency_key.clone(),
        ..RunRequest::new(organization_id, args.flow.clone(), kind)
    };
    let available = match context.catalogue.flow(organization_id, &args.flow) {
        Some(flow) => streams(context, flow.source)?,
        None => Vec::new(),
    };
    let started = plan::start_run(
        &*context.backends.tasks,
        &context.catalogue,
        &request,
        &available,
    )
    .await?;
    if args.wait {
        return watch(cli, context, organization_id, started.id).await;
    }
    match cli.output {
        OutputFormat::Json => {
            output::json(&json!({ "run": started.id, "existed": started.existed }))?
        }
        OutputFormat::Table => {
            eprintln!(
                "run {} {}",
                started.id,
                if started.existed {
                    "was there already"
                } else {
                    "started"
                }
            );
        }
    }
    Ok(Exit::Done)
}

/// The streams of a source connection, in its connector's order.
pub fn streams(context: &Context, source: sluice_core::ConnectionId) -> Result<Vec<String>> {
    let Some(connection) = context.catalogue.connection_by_id(source) else {
        return Ok(Vec::new());
    };
    let source = connections::source(&context.connectors, &connection.spec, None)?;
    Ok(source
        .streams()
        .iter()
        .filter(|stream| stream.entity_type.is_some())
        .map(|stream| stream.name.clone())
        .collect())
}

async fn change(
    cli: &Cli,
    context: &Context,
    organization: OrganizationId,
    id: i64,
    to: RunState,
) -> Result<Exit> {
    let run = context
        .backends
        .tasks
        .change_run(organization, RunId(id), to, "asked for on the command line")
        .await?;
    match cli.output {
        OutputFormat::Json => output::json(&run)?,
        OutputFormat::Table => eprintln!("run {} is {}", run.id, run.state.as_str()),
    }
    Ok(Exit::Done)
}

async fn watch(
    cli: &Cli,
    context: &Context,
    organization: OrganizationId,
    id: RunId,
) -> Result<Exit> {
    let mut last = String::new();
    loop {
        let Some(detail) = context.backends.tasks.run(organization, id).await? else {
            eprintln!("there is no run {id}");
            return Ok(Exit::NotFound);
        };
        let line = progress_line(&detail);
        if line != last {
            eprintln!("{line}");
            last = line;
        }
        if detail.run.state.is_final() {
            show(cli, &detail)?;
            return Ok(exit_of(&detail.run));
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => {
                eprintln!("stopped watching; run {id} goes on");
                return Ok(Exit::Interrupted);
            }
        }
    }
}

/// What it does, for people.
fn kind(run: &Run) -> String {
    let dry = if run.dry_run { ", dry run" } else { "" };
    format!("{}{dry}", run.kind.as_str())
}

fn exit_of(run: &Run) -> Exit {
    match run.state {
        RunState::Done => Exit::Done,
        RunState::Partial => Exit::Partly,
        _ => Exit::Failed,
    }
}

fn progress_line(detail: &RunDetail) -> String {
    let run = &detail.run;
    let closed = detail
        .steps
        .iter()
        .filter(|step| step.finished_at.is_some())
        .count();
    format!(
        "run {} {}: step {} of {}, {} read, {} created, {} updated, {} unchanged, {} rejected",
        run.id,
        run.state.as_str(),
        (closed + 1).min(detail.steps.len()),
        detail.steps.len(),
        run.counts.read,
        run.counts.created,
        run.counts.updated,
        run.counts.unchanged,
        run.counts.rejected,
    )
}

fn show(cli: &Cli, detail: &RunDetail) -> Result<()> {
    if cli.output == OutputFormat::Json {
        return output::json(detail);
    }
    let run = &detail.run;
    let counts = &run.counts;
    out!(
        "run {} of {} ({}) is {}",
        run.id,
        run.flow,
        kind(run),
        run.state.as_str()
    );
    out!(
        "read {}  stored {}  created {}  updated {}  deleted {}  unchanged {}  stale {}  conflicts {}  rejected {}  skipped {}",
        counts.read,
        counts.stored,
        counts.created,
        counts.updated,
        counts.deleted,
        counts.unchanged,
        counts.stale,
        counts.conflicts,
        counts.rejected,
        counts.skipped
    );
    if let Some(error) = &run.error {
        out!("error: {error}");
    }
    out!("\nSTEPS");
    let rows: Vec<_> = detail
        .steps
        .iter()
        .map(|step| {
            vec![
                step.number.to_string(),
                step.stream.clone(),
                step.state.as_str().to_owned(),
                format!("{}/{}", step.tasks_closed, step.tasks),
                step.tasks_dead.to_string(),
            ]
        })
        .collect();
    output::table(&["STEP", "STREAM", "STATE", "TASKS", "FAILED"], &rows);
    for entry in &detail.activity {
        out!(
            "{}  {}  {}",
            entry.at.to_rfc3339(),
            entry.event,
            entry.detail
        );
    }
    Ok(())
}
