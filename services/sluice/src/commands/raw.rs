//! `sluice raw rejected|failed|payload|show`: raw records and payloads, and the review lists of what
//! could not be used.

use serde::Serialize;
use serde_json::{Value, json};
use sluice_core::{ConnectionId, EntityType, OrganizationId, Result, catalogue::Catalogue};
use sluice_store::raw::{
    FailedPayload, FailedPayloadQuery, InboundState, PayloadId, RawError, RawRecord, RawRecordQuery,
};

use crate::{
    cli::{Cli, OutputFormat, RawCommand},
    context::Context,
    exit::Exit,
    output,
};

pub async fn run(cli: &Cli, command: &RawCommand) -> Result<Exit> {
    let context = Context::open(cli).await?;
    let organization_id = context.organization(cli)?;
    match command {
        RawCommand::Rejected { connection, limit } => {
            let query = RawRecordQuery {
                organization_id: Some(organization_id),
                connection_id: named(&context, organization_id, connection.as_deref())?,
                inbound: Some(InboundState::Failed),
                limit: (*limit).clamp(1, 1_000),
                ..RawRecordQuery::default()
            };
            let records = context.backends.raw.records(&query).await?.records;
            print(cli, &records)?;
            Ok(Exit::Done)
        }
        RawCommand::Failed { connection, limit } => {
            let query = FailedPayloadQuery {
                organization_id,
                connection_id: named(&context, organization_id, connection.as_deref())?,
                stream: None,
                after: None,
                limit: (*limit).clamp(1, 1_000),
            };
            let payloads = context.backends.raw.failed_payloads(&query).await?;
            print_failed(cli, &context.catalogue, &payloads)?;
            Ok(Exit::Done)
        }
        RawCommand::Payload { payload } => {
            let id = PayloadId(payload.clone());
            match context.backends.raw.payload(organization_id, &id).await? {
                Some(payload) => {
                    output::bytes(&payload.new.body);
                    Ok(Exit::Done)
                }
                None => {
                    eprintln!("there is no payload `{}`", id.0);
                    Ok(Exit::NotFound)
                }
            }
        }
        RawCommand::Show {
            entity_type,
            source_id,
        } => {
            let query = RawRecordQuery {
                organization_id: Some(organization_id),
                entity_type: Some(EntityType::from(entity_type.as_str())),
                source_ids: vec![source_id.clone()],
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

fn named(
    context: &Context,
    organization: OrganizationId,
    connection: Option<&str>,
) -> Result<Option<ConnectionId>> {
    let named = connection.map(|name| context.connection(organization, name));
    Ok(named.transpose()?.map(|connection| connection.id))
}

/// A payload with the name of its connection.
#[derive(Serialize)]
struct Listed<'a> {
    connection: &'a str,
    #[serde(flatten)]
    payload: &'a FailedPayload,
}

fn print_failed(cli: &Cli, catalogue: &Catalogue, payloads: &[FailedPayload]) -> Result<()> {
    let listed: Vec<_> = payloads
        .iter()
        .map(|payload| Listed {
            connection: catalogue
                .connection_by_id(payload.connection_id)
                .map_or("", |connection| &connection.spec.name),
            payload,
        })
        .collect();
    output::list(
        cli.output,
        &listed,
        &[
            "PAYLOAD",
            "CONNECTION",
            "STREAM",
            "KIND",
            "BYTES",
            "AT",
            "WHY",
        ],
        "every payload could be read",
        |Listed {
             connection,
             payload,
         }| {
            vec![
                payload.id.0.clone(),
                (*connection).to_owned(),
                payload.stream.clone(),
                payload.kind.as_str().to_owned(),
                payload.bytes.to_string(),
                payload.received_at.to_rfc3339(),
                why(payload.errors.last()),
            ]
        },
    )
}

fn why(error: Option<&RawError>) -> String {
    error
        .map(|error| format!("{}: {}", error.code, error.error))
        .unwrap_or_default()
}

fn print(cli: &Cli, records: &[RawRecord]) -> Result<()> {
    if cli.output == OutputFormat::Json {
        return output::json(&records.iter().map(as_json).collect::<Vec<_>>());
    }
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            vec![
                record.stream.clone(),
                record.source_id.clone(),
                record.inbound.as_str().to_owned(),
                record.version.to_string(),
                record.sync_date.to_rfc3339(),
                why(record.errors.last()),
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
