//! `sluice dlq list|groups|show|replay|replays|discard`.

mod replays;

use std::io::IsTerminal;

use serde_json::json;
use sluice_core::{EntityType, Error, Result};
use sluice_store::dead_letter::{self, DeadLetterDetail, DeadLetterFilter, DeadLetterState};

use super::actor;
use crate::{
    cli::{Cli, DlqCommand, DlqFilter, OutputFormat},
    context::Context,
    exit::Exit,
    output::{self, out},
};

/// Dead letters listed at once at most.
const LOOK: u32 = 1_000;

pub async fn run(cli: &Cli, command: &DlqCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let tasks = &context.backends.tasks;
    match command {
        DlqCommand::List { filter, all } => {
            let mut filter = resolve(cli, &context, filter)?;
            filter.state = (!all).then_some(DeadLetterState::Open);
            filter.limit = filter.limit.clamp(1, LOOK);
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
        DlqCommand::Groups { filter } => {
            let mut filter = resolve(cli, &context, filter)?;
            filter.state = Some(DeadLetterState::Open);
            let groups = tasks.dead_letter_groups(&filter).await?;
            output::list(
                cli.output,
                &groups,
                &[
                    "FINGERPRINT",
                    "COUNT",
                    "TARGET",
                    "CLASS",
                    "CODE",
                    "FIRST",
                    "LAST",
                    "MESSAGE",
                ],
                "no open dead letters",
                |group| {
                    vec![
                        group.fingerprint.clone(),
                        group.count.to_string(),
                        group.target.clone(),
                        group.class.to_string(),
                        group.code.clone(),
                        group.first_at.to_rfc3339(),
                        group.last_at.to_rfc3339(),
                        group.message.clone(),
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
        DlqCommand::Replay(args) => replays::order(cli, &context, args).await,
        DlqCommand::Replays { command } => replays::run(cli, &context, command).await,
        DlqCommand::Discard {
            filter,
            reason,
            dry_run,
            yes,
        } => {
            let filter = resolve(cli, &context, filter)?;
            dead_letter::known(&**tasks, &filter).await?;
            if reason.trim().is_empty() {
                let told = "say why they are given up: the reason is empty";
                return Err(Error::validation("reason_missing", told)
                    .hint("it is kept with the dead letters: --reason \"no longer managed\""));
            }
            if *dry_run {
                let matched = tasks.preview_replay(&filter).await?.matched;
                match cli.output {
                    OutputFormat::Json => output::json(&json!({ "matched": matched }))?,
                    OutputFormat::Table => eprintln!("{matched} would be discarded"),
                }
                return Ok(Exit::Done);
            }
            confirm(&filter, *yes, "discard")?;
            let discarded = tasks
                .discard_dead_letters(&filter, &actor(), reason)
                .await?;
            match cli.output {
                OutputFormat::Json => output::json(&json!({ "discarded": discarded }))?,
                OutputFormat::Table if discarded == 0 => eprintln!("{NOTHING_MATCHES}"),
                OutputFormat::Table => eprintln!("{discarded} discarded"),
            }
            Ok(found(discarded))
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
        target: filter.target.clone(),
        entity_type: filter.entity_type.as_deref().map(EntityType::from),
        entity_id: filter.entity_id.clone(),
        class: filter.class,
        code: filter.code.clone(),
        fingerprint: filter.fingerprint.clone(),
        since: filter.since,
        before: filter.before,
        limit: filter.limit.unwrap_or(u32::MAX),
        ..DeadLetterFilter::all(organization_id)
    })
}

/// Said instead of counts of nothing.
const NOTHING_MATCHES: &str =
    "no open dead letter matches; `sluice dlq list --all` shows closed ones, too";

/// How acting on this many dead letters ends.
fn found(letters: u64) -> Exit {
    match letters {
        0 => Exit::NotFound,
        _ => Exit::Done,
    }
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
    let bound = match filter.limit {
        u32::MAX => String::new(),
        limit => format!(", at most {limit}"),
    };
    eprint!("{verb} every open dead letter that matches{bound}? Type yes: ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(refused())
    }
}

fn show(cli: &Cli, detail: &DeadLetterDetail) -> Result<()> {
    if cli.output == OutputFormat::Json {
        return output::json(detail);
    }
    let letter = &detail.letter;
    out!(
        "dead letter {} ({}) for {}",
        letter.id,
        letter.state.as_str(),
        letter.target
    );
    out!(
        "record     {}/{} version {}",
        letter.entity_type,
        letter.entity_id,
        letter.version
    );
    out!(
        "why        {} {}: {}",
        letter.class,
        letter.code,
        letter.message
    );
    if let (Some(actor), note) = (&letter.actor, letter.note.as_deref().unwrap_or("")) {
        out!("handled    by {actor} {note}");
    }
    out!("\nATTEMPTS");
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
    for edit in &detail.edits {
        out!(
            "\nEDIT of version {} by {} at {} {}",
            edit.version,
            edit.actor,
            edit.at.to_rfc3339(),
            edit.note
        );
        output::json(&edit.data)?;
    }
    out!("\nPAYLOAD");
    output::json(&detail.data)
}
