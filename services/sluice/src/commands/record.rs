//! `sluice record show|list`: what happened to a record.

use serde_json::json;
use sluice_core::{EntityType, Result};
use sluice_store::{
    dependency,
    master::{MasterQuery, PushStatus, RecordHistory},
    raw::RawRecordQuery,
};

use crate::{
    cli::{Cli, OutputFormat, RecordCommand},
    context::Context,
    exit::Exit,
    output::{self, out},
};

pub async fn run(cli: &Cli, command: &RecordCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    match command {
        RecordCommand::Show {
            entity_type,
            entity_id,
        } => show(cli, &context, entity_type, entity_id).await,
        RecordCommand::List {
            entity_type,
            source_id,
            limit,
        } => {
            let query = MasterQuery {
                organization_id: Some(context.organization(cli)?),
                entity_type: entity_type.as_deref().map(EntityType::from),
                source_id: source_id.clone(),
                limit: (*limit).clamp(1, 1_000),
                ..MasterQuery::default()
            };
            let records = context.backends.master.records(&query).await?;
            output::list(
                cli.output,
                &records,
                &["ENTITY TYPE", "ENTITY ID", "VERSION", "STATUS", "MODIFIED"],
                "no master records match",
                |record| {
                    vec![
                        record.entity_type.to_string(),
                        record.entity_id.clone(),
                        record.version.to_string(),
                        format!("{:?}", record.sync_status).to_lowercase(),
                        record.modified_at.to_rfc3339(),
                    ]
                },
            )?;
            Ok(Exit::Done)
        }
    }
}

async fn show(cli: &Cli, context: &Context, entity_type: &str, entity_id: &str) -> Result<Exit> {
    let organization = context.organization(cli)?;
    let entity_type = EntityType::from(entity_type);
    let Some(history) = context
        .backends
        .master
        .history(organization, &entity_type, entity_id)
        .await?
    else {
        eprintln!(
            "there is no {entity_type} `{entity_id}`; `sluice record list` shows what there is"
        );
        return Ok(Exit::NotFound);
    };
    let raw = context
        .backends
        .raw
        .records(&RawRecordQuery {
            organization_id: Some(organization),
            connection_id: Some(history.record.source_connection_id),
            entity_type: Some(entity_type),
            source_ids: vec![history.record.source_id.clone()],
            limit: 100,
            ..RawRecordQuery::default()
        })
        .await?;
    match cli.output {
        OutputFormat::Json => {
            let raw: Vec<_> = raw.records.iter().map(super::raw::as_json).collect();
            output::json(&json!({ "history": history, "raw": raw }))?;
        }
        OutputFormat::Table => print_story(&history, raw.records.len()),
    }
    Ok(Exit::Done)
}

/// What a push waits for, or why it ended as it did.
fn why(push: &PushStatus) -> String {
    (push.blocked_on.as_deref())
        .map(|record| format!("waits for {}", dependency::in_words(record)))
        .or_else(|| push.error_message.clone())
        .or_else(|| push.attempts.last()?.reason.clone())
        .unwrap_or_default()
}

fn print_story(history: &RecordHistory, raw: usize) {
    let record = &history.record;
    out!(
        "{} {} (id {})",
        record.entity_type,
        record.entity_id,
        record.id
    );
    out!("source     {} {}", record.source_system, record.source_id);
    out!("raw        {raw} documents; --output json shows them");
    out!(
        "parents    {}",
        record
            .parents
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    );
    out!("\nVERSIONS");
    let rows: Vec<_> = history
        .versions
        .iter()
        .map(|version| {
            vec![
                version.number.to_string(),
                version.change.as_str().to_owned(),
                version.created_at.to_rfc3339(),
                version.hash.to_hex().chars().take(12).collect(),
            ]
        })
        .collect();
    output::table(&["VERSION", "CHANGE", "AT", "HASH"], &rows);
    out!("\nTARGETS");
    let rows: Vec<_> = history
        .pushes
        .iter()
        .map(|push| {
            let link = history
                .links
                .iter()
                .find(|link| link.connection == push.connection);
            vec![
                push.connection.clone(),
                push.state.as_str().to_owned(),
                push.wanted_version.to_string(),
                link.and_then(|link| link.pushed_version)
                    .map(|n| n.to_string())
                    .unwrap_or_default(),
                link.and_then(|link| link.external_id.clone())
                    .unwrap_or_default(),
                push.attempts.len().to_string(),
                why(push),
            ]
        })
        .collect();
    output::table(
        &[
            "TARGET",
            "STATE",
            "WANTED",
            "PUSHED",
            "EXTERNAL ID",
            "ATTEMPTS",
            "WHY",
        ],
        &rows,
    );
}

#[cfg(test)]
mod tests {
    use sluice_core::task::TaskState;

    use super::*;

    #[test]
    fn a_push_says_in_words_what_it_waits_for() {
        let push = PushStatus {
            connection: "one".to_owned(),
            state: TaskState::Waiting,
            wanted_version: 1,
            retry_count: 0,
            next_retry_time: None,
            blocked_on: Some("yardi/Location/699".to_owned()),
            error_class: None,
            error_message: Some("of an earlier attempt".to_owned()),
            attempts: Vec::new(),
        };
        assert_eq!(why(&push), "waits for Location 699 of yardi");
        let retried = PushStatus {
            blocked_on: None,
            ..push
        };
        assert_eq!(why(&retried), "of an earlier attempt");
    }
}
