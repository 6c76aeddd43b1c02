//! `sluice dlq list|show|replay|discard`.

use std::io::IsTerminal;

use serde_json::json;
use sluice_core::{EntityType, Error, Result};
use sluice_store::dead_letter::{DeadLetterDetail, DeadLetterFilter, DeadLetterState};

use super::actor;
use crate::{
    cli::{Cli, DlqCommand, DlqFilter, OutputFormat},
    context::Context,
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: &DlqCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let tasks = &context.backends.tasks;
    match command {
        DlqCommand::List { filter, all } => {
            let mut filter = resolve(cli, &context, filter)?;
            filter.state = (!all).then_some(DeadLetterState::Open);
            filter.limit = filter.limit.clamp(1, 1_000);
            let page = tasks.dead_letters(&filter).await?;
            output::list(
                cli.output,
                &page.items,
                &[
                    "ID", "TARGET", "ENTITY", "STATE", "CLASS", "CODE", "ATTEMPTS", "LAST",
                    "MESSAGE",
                ],
                "no dead letters",
                |letter| {
                    vec![
                        letter.id.to_string(),
                        letter.target.clone(),
                        format!("{}/{}", letter.entity_type, letter.entity_id),
                        letter.state.as_str().to_owned(),
                        letter.class.to_string(),
                        letter.code.clone(),
                        letter.attempts.to_string(),
                        letter.last_at.to_rfc3339(),
                        letter.message.clone(),
                    ]
                },
            )?;
            Ok(Exit::Done)
        }
        DlqCommand::Show { id } => {
            match tasks.dead_letter(context.organization(cli)?, *id).await? {
                Some(detail) => {
                    show(cli, &detail)?;
                    Ok(Exit::Done)
                }
                None => {
                    eprintln!("there is no dead letter {id}");
                    Ok(Exit::NotFound)
                }
            }
        }
        DlqCommand::Replay {
            filter,
            dry_run,
            yes,
        } => {
            let filter = resolve(cli, &context, filter)?;
            if !dry_run {
                confirm(&filter, *yes, "replay")?;
            }
            let report = tasks
                .replay_dead_letters(&filter, &actor(), *dry_run)
                .await?;
            match cli.output {
                OutputFormat::Json => output::json(&report)?,
                OutputFormat::Table => eprintln!(
                    "{} matched, {} {}, {} skipped because their task is open already",
                    report.matched,
                    report.replayed,
                    if *dry_run {
                        "would be replayed"
                    } else {
                        "replayed"
                    },
                    report.skipped
                ),
            }
            Ok(if report.skipped > 0 {
                Exit::Partly
            } else {
                Exit::Done
            })
        }
        DlqCommand::Discard {
            filter,
            reason,
            yes,
        } => {
            let filter = resolve(cli, &context, filter)?;
            confirm(&filter, *yes, "discard")?;
            let discarded = tasks
                .discard_dead_letters(&filter, &actor(), reason)
                .await?;
            match cli.output {
                OutputFormat::Json => output::json(&json!({ "discarded": discarded }))?,
                OutputFormat::Table => eprintln!("{discarded} discarded"),
            }
            Ok(Exit::Done)
        }
    }
}

fn resolve(cli: &Cli, context: &Context, filter: &DlqFilter) -> Result<DeadLetterFilter> {
    let organization_id = context.organization(cli)?;
    let connection_id = match &filter.target {
        Some(name) => Some(context.connection(organization_id, name)?.id),
        None => None,
    };
    Ok(DeadLetterFilter {
        ids: filter.ids.clone(),
        connection_id,
        entity_type: filter.entity_type.as_deref().map(EntityType::from),
        class: filter.class,
        code: filter.code.clone(),
        since: filter.since,
        before: filter.before,
        limit: filter.limit,
        ..DeadLetterFilter::all(organization_id)
    })
}

/// Acting on a whole filter needs a yes; without a terminal it needs the flag.
fn confirm(filter: &DeadLetterFilter, yes: bool, verb: &str) -> Result<()> {
    if yes || !filter.ids.is_empty() {
        return Ok(());
    }
    let refused = || {
        Error::config(
            "confirmation_needed",
            format!("`dlq {verb}` without --id acts on everything that matches"),
        )
        .hint("add --yes, or name dead letters with --id; `dlq list` takes the same filter")
    };
    if !std::io::stdin().is_terminal() {
        return Err(refused());
    }
    eprint!(
        "{verb} every open dead letter that matches, at most {}? Type yes: ",
        filter.limit
    );
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(refused())
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn show(cli: &Cli, detail: &DeadLetterDetail) -> Result<()> {
    if cli.output == OutputFormat::Json {
        return output::json(detail);
    }
    let letter = &detail.letter;
    println!(
        "dead letter {} ({}) for {}",
        letter.id,
        letter.state.as_str(),
        letter.target
    );
    println!(
        "record     {}/{} version {}",
        letter.entity_type, letter.entity_id, letter.version
    );
    println!(
        "why        {} {}: {}",
        letter.class, letter.code, letter.message
    );
    if let (Some(actor), note) = (&letter.actor, letter.note.as_deref().unwrap_or("")) {
        println!("handled    by {actor} {note}");
    }
    println!("\nATTEMPTS");
    let rows: Vec<_> = detail
        .attempts
        .iter()
        .map(|attempt| {
            vec![
                attempt.number.to_string(),
                attempt.started_at.to_rfc3339(),
                attempt.outcome.as_str().to_owned(),
                attempt
                    .http_status
                    .map(|status| status.to_string())
                    .unwrap_or_default(),
                attempt.error_code.clone().unwrap_or_default(),
                attempt.error_message.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(
        &["ATTEMPT", "AT", "OUTCOME", "STATUS", "CODE", "MESSAGE"],
        &rows,
    );
    println!("\nPAYLOAD");
    output::json(&detail.data)
}
