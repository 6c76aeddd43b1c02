//! `sluice dlq replay` and `sluice dlq replays list|show|pause|resume|cancel`.

use std::{path::Path, time::Duration};

use serde_json::Value;
use sluice_core::{Error, Result};
use sluice_orchestrator::replay;
use sluice_store::replay::{NewReplay, Replay, ReplayDetail, ReplayQuery, ReplayState};
use sluice_transform::Schemas;

use super::{NOTHING_MATCHES, actor, confirm, found, resolve};
use crate::{
    cli::{Cli, DlqReplayArgs, OutputFormat, ReplayChangeArgs, ReplaysCommand},
    context::Context,
    exit::Exit,
    output::{self, out},
};

/// Pause between two looks while waiting.
const WAIT_INTERVAL: Duration = Duration::from_millis(200);

/// Orders a replay, or rehearses it.
pub(super) async fn order(cli: &Cli, context: &Context, args: &DlqReplayArgs) -> Result<Exit> {
    let filter = resolve(cli, context, &args.filter)?;
    let tasks = &*context.backends.tasks;
    let schemas = Schemas::shipped()?;
    let new = NewReplay {
        filter,
        rate: args.rate,
        edit: args.data.as_deref().map(read).transpose()?,
        actor: actor(),
        note: args.note.clone(),
        idempotency_key: args.idempotency_key.clone(),
    };
    if args.dry_run {
        let preview = replay::rehearse(tasks, &schemas, &new).await?;
        match cli.output {
            OutputFormat::Json => output::json(&preview)?,
            OutputFormat::Table => eprintln!(
                "{} match, {} would be replayed; {} are on their way already, {} are delivered",
                preview.matched,
                preview.replayable,
                preview.skipped.on_its_way,
                preview.skipped.delivered
            ),
        }
        return Ok(Exit::Done);
    }
    confirm(&new.filter, args.yes, "replay")?;
    let started = replay::order(tasks, &schemas, &new).await?;
    let mut detail = find(cli, context, started.id).await?;
    while args.wait && detail.replay.state == ReplayState::Running {
        tokio::time::sleep(WAIT_INTERVAL).await;
        detail = find(cli, context, started.id).await?;
    }
    match cli.output {
        OutputFormat::Json => output::json(&detail)?,
        OutputFormat::Table if detail.replay.matched == 0 => eprintln!("{NOTHING_MATCHES}"),
        OutputFormat::Table if args.wait => show(&detail),
        OutputFormat::Table => eprintln!(
            "replay {id} of {} dead letters; `sluice dlq replays show {id}` tells how far it is",
            detail.replay.matched,
            id = detail.replay.id,
        ),
    }
    Ok(match detail.replay.skipped {
        0 => found(detail.replay.matched),
        _ => Exit::Partly,
    })
}

fn read(path: &Path) -> Result<Value> {
    let unreadable =
        |why: String| Error::config("edit_unreadable", format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))
}

pub(super) async fn run(cli: &Cli, context: &Context, command: &ReplaysCommand) -> Result<Exit> {
    match command {
        ReplaysCommand::List { limit } => list(cli, context, *limit).await,
        ReplaysCommand::Show { id } => {
            let detail = find(cli, context, *id).await?;
            match cli.output {
                OutputFormat::Json => output::json(&detail)?,
                OutputFormat::Table => show(&detail),
            }
            Ok(Exit::Done)
        }
        ReplaysCommand::Pause(args) => change(cli, context, args, ReplayState::Paused).await,
        ReplaysCommand::Resume(args) => change(cli, context, args, ReplayState::Running).await,
        ReplaysCommand::Cancel(args) => change(cli, context, args, ReplayState::Cancelled).await,
    }
}

async fn list(cli: &Cli, context: &Context, limit: u32) -> Result<Exit> {
    let query = ReplayQuery {
        organization_id: context.organization(cli)?,
        state: None,
        after: None,
        limit,
    };
    let replays = context.backends.tasks.replays(&query).await?;
    output::list(
        cli.output,
        &replays,
        &[
            "ID", "STATE", "MATCHED", "REPLAYED", "SKIPPED", "BY", "ORDERED", "NOTE",
        ],
        "no replays yet; `sluice dlq replay` orders one",
        |replay: &Replay| {
            vec![
                replay.id.to_string(),
                replay.state.as_str().to_owned(),
                replay.matched.to_string(),
                replay.replayed.to_string(),
                replay.skipped.to_string(),
                replay.actor.clone(),
                replay.created_at.to_rfc3339(),
                replay.note.clone(),
            ]
        },
    )?;
    Ok(Exit::Done)
}

async fn find(cli: &Cli, context: &Context, id: i64) -> Result<ReplayDetail> {
    let organization = context.organization(cli)?;
    let detail = context.backends.tasks.replay(organization, id).await?;
    detail.ok_or_else(|| {
        Error::new(
            sluice_core::ErrorClass::NotFound,
            "replay_unknown",
            format!("there is no replay {id}"),
        )
    })
}

async fn change(
    cli: &Cli,
    context: &Context,
    args: &ReplayChangeArgs,
    to: ReplayState,
) -> Result<Exit> {
    let organization = context.organization(cli)?;
    let tasks = &context.backends.tasks;
    let replay = tasks
        .change_replay(organization, args.id, to, &actor(), &args.note)
        .await?;
    match cli.output {
        OutputFormat::Json => output::json(&replay)?,
        OutputFormat::Table => eprintln!("replay {} is {}", replay.id, replay.state.as_str()),
    }
    Ok(Exit::Done)
}

fn show(detail: &ReplayDetail) {
    let replay = &detail.replay;
    let skipped = &detail.skipped_because;
    out!("replay {} is {}", replay.id, replay.state.as_str());
    out!(
        "ordered    by {} at {} {}",
        replay.actor,
        replay.created_at.to_rfc3339(),
        replay.note
    );
    out!(
        "letters    {} matched, {} put back, {} waiting",
        replay.matched,
        replay.replayed,
        detail.waiting
    );
    out!(
        "put back   {} delivered, {} on their way, {} dead again",
        detail.resolved,
        detail.on_their_way,
        detail.dead_again
    );
    out!(
        "skipped    {} on their way already, {} delivered, {} handled by others, {} outdated",
        skipped.on_its_way,
        skipped.delivered,
        skipped.closed,
        skipped.outdated
    );
}
