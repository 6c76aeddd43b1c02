//! `sluice unknown list|settle`: pushes whose outcome nobody knows.

use serde_json::json;
use sluice_core::{Error, Result, TaskId};
use sluice_store::unknown::{UnknownQuery, Verdict};

use super::actor;
use crate::{
    cli::{Cli, OutputFormat, UnknownCommand, UnknownSettleArgs},
    context::Context,
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: &UnknownCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    match command {
        UnknownCommand::List {
            target,
            after,
            limit,
        } => list(cli, &context, target.as_deref(), *after, *limit).await,
        UnknownCommand::Settle(args) => settle(cli, &context, args).await,
    }
}

async fn list(
    cli: &Cli,
    context: &Context,
    target: Option<&str>,
    after: Option<i64>,
    limit: u32,
) -> Result<Exit> {
    let organization_id = context.organization(cli)?;
    let connection_id = match target {
        Some(name) => Some(context.connection(organization_id, name)?.id),
        None => None,
    };
    let query = UnknownQuery {
        organization_id,
        connection_id,
        after: after.map(TaskId),
        limit,
    };
    let pushes = context.backends.tasks.unknown_pushes(&query).await?;
    output::list(
        cli.output,
        &pushes,
        &[
            "TASK", "TARGET", "ENTITY", "VERSION", "NEWEST", "SINCE", "CODE", "MESSAGE",
        ],
        "every outcome is known",
        |push| {
            vec![
                push.task_id.to_string(),
                push.target.clone(),
                format!("{}/{}", push.entity_type, push.entity_id),
                push.version.to_string(),
                push.wanted_version.to_string(),
                push.since.to_rfc3339(),
                push.code.clone().unwrap_or_default(),
                push.message.clone().unwrap_or_default(),
            ]
        },
    )?;
    Ok(Exit::Done)
}

async fn settle(cli: &Cli, context: &Context, args: &UnknownSettleArgs) -> Result<Exit> {
    let verdict = match &args.verdict.applied {
        Some(id) if id.trim().is_empty() => {
            return Err(Error::config(
                "external_id_missing",
                "a record that is there has an id there",
            )
            .hint("give it with --applied EXTERNAL_ID"));
        }
        Some(id) => Verdict::Applied {
            external_id: id.trim().to_owned(),
        },
        None if args.verdict.not_applied => Verdict::NotApplied,
        None => Verdict::GivenUp,
    };
    let organization = context.organization(cli)?;
    let tasks = &context.backends.tasks;
    tasks
        .settle_unknown(
            organization,
            TaskId(args.task),
            &verdict,
            &actor(),
            &args.reason,
        )
        .await?;
    match cli.output {
        OutputFormat::Json => {
            output::json(&json!({ "task": args.task, "settled": verdict.as_str() }))?;
        }
        OutputFormat::Table => eprintln!("task {} settled as {}", args.task, verdict.as_str()),
    }
    Ok(Exit::Done)
}
