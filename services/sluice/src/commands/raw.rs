//! `sluice raw rejected|show`: raw records, and the review list of what could not be used.

use serde_json::{Value, json};
use sluice_core::{EntityType, Result};
use sluice_store::raw::{InboundState, RawRecord, RawRecordQuery};

use crate::{
    cli::{Cli, OutputFormat, RawCommand},
    context::Context,
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: &RawCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization_id = Some(context.organization(cli)?);
    match command {
        RawCommand::Rejected { connection, limit } => {
            let connection_id = match (connection, organization_id) {
                (Some(name), Some(organization)) => {
                    Some(context.connection(organization, name)?.id)
                }
                _ => None,
            };
            let query = RawRecordQuery {
                organization_id,
                connection_id,
                inbound: Some(InboundState::Failed),
                limit: (*limit).clamp(1, 1_000),
                ..RawRecordQuery::default()
            };
            let records = context.backends.raw.records(&query).await?.records;
            print(cli, &records)?;
            Ok(Exit::Done)
        }
        RawCommand::Show {
            entity_type,
            source_id,
        } => {
            let query = RawRecordQuery {
                organization_id,
                entity_type: Some(EntityType::from(entity_type.as_str())),
                source_id: Some(source_id.clone()),
                limit: 1_000,
                ..RawRecordQuery::default()
            };
            let records = context.backends.raw.records(&query).await?.records;
            if records.is_empty() {
                eprintln!("there is no raw {entity_type} `{source_id}`");
                return Ok(Exit::NotFound);
            }
            print(cli, &records)?;
            Ok(Exit::Done)
        }
    }
}

fn print(cli: &Cli, records: &[RawRecord]) -> Result<()> {
    if cli.output == OutputFormat::Json {
        return output::json(&records.iter().map(as_json).collect::<Vec<_>>());
    }
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            let last = record.errors.last();
            vec![
                record.stream.clone(),
                record.source_id.clone(),
                record.inbound.as_str().to_owned(),
                record.version.to_string(),
                record.sync_date.to_rfc3339(),
                last.map(|error| format!("{}: {}", error.code, error.error))
                    .unwrap_or_default(),
            ]
        })
        .collect();
    if rows.is_empty() {
        eprintln!("nothing is rejected");
    } else {
        output::table(
            &["STREAM", "SOURCE ID", "STATE", "VERSION", "AT", "WHY"],
            &rows,
        );
    }
    Ok(())
}

/// A raw record with the field names of its stored document.
pub fn as_json(record: &RawRecord) -> Value {
    json!({
        "sourceSystem": record.source_system,
        "sourceId": record.source_id,
        "entityType": record.entity_type,
        "stream": record.stream,
        "rawData": record.raw,
        "processedData": record.processed,
        "metadata": {
            "batchNumber": record.batch_number,
            "syncDate": record.sync_date,
            "hash": record.hash,
            "version": record.version,
        },
        "syncStatus": {
            "inbound": record.inbound,
            "outbound": record.outbound.iter().map(|(target, state)| (target.clone(), json!(state)))
                .collect::<serde_json::Map<_, _>>(),
        },
        "errorLog": record.errors,
        "expiresAfter": record.expires_at,
    })
}
