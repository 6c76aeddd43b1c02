//! `sluice ingest FILE`: records from a file, through the same path as a pulled page.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::json;
use sluice_core::{Error, Result};
use sluice_store::raw::PayloadKind;
use sluice_sync_in::{
    Ingester, SourceConnection,
    intake::{self, Incoming},
};
use sluice_transform::Schemas;

use crate::{
    cli::{Cli, FileFormat, IngestArgs, OutputFormat},
    context::Context,
    exit::Exit,
    output, roles,
};

pub async fn run(cli: &Cli, args: &IngestArgs) -> Result<Exit> {
    let context = Context::registering(cli).await?;
    let _telemetry = roles::telemetry(&context.settings, "ingest")?;
    let organization = context.organization(cli)?;
    let connection = context.connection(organization, &args.connection)?;
    let format = args.format.map_or_else(|| by_ending(&args.file), Ok)?;
    let body = read(&args.file, context.settings.http.max_body)?;
    let schemas = Arc::new(Schemas::shipped()?);
    let source = Arc::new(SourceConnection::open(
        &context.connectors,
        &context.catalogue,
        connection,
        schemas,
        &context.fleet,
    )?);
    let ingester = Ingester {
        backends: context.backends.clone(),
        lease: context.settings.services.lease,
        apply_batch: context.settings.services.sync_in.apply_batch as usize,
        keep_raw: Some(context.settings.retention.raw),
    };
    let incoming = Incoming {
        kind: PayloadKind::File,
        stream: args.stream.clone(),
        content_type: Some(content_type(format).to_owned()),
        body,
        delivery_id: None,
        received_at: chrono::Utc::now(),
        traceparent: None,
    };
    let ingested = intake::ingest_payload(&ingester, &source, incoming).await?;
    let counts = ingested.counts;
    match cli.output {
        OutputFormat::Json => {
            output::json(&json!({ "payload": ingested.payload, "counts": counts }))?
        }
        OutputFormat::Table => eprintln!(
            "read {}  created {}  updated {}  unchanged {}  skipped {}  rejected {}",
            counts.read,
            counts.created,
            counts.updated,
            counts.unchanged,
            counts.skipped,
            counts.rejected
        ),
    }
    if counts.rejected > 0 {
        eprintln!("`sluice raw rejected` shows why records were rejected");
        return Ok(Exit::Partly);
    }
    Ok(Exit::Done)
}

/// The whole file, if it is no larger than what a webhook may be.
fn read(path: &Path, limit: u64) -> Result<Bytes> {
    let unreadable = |error: std::io::Error| {
        Error::config("file_unreadable", format!("cannot read {}", path.display())).caused_by(error)
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > limit {
        return Err(Error::validation(
            "file_too_large",
            format!("{} has {size} bytes, more than {limit}", path.display()),
        )
        .hint("split it, or raise http.max_body"));
    }
    std::fs::read(path).map(Bytes::from).map_err(unreadable)
}

fn by_ending(path: &Path) -> Result<FileFormat> {
    match path
        .extension()
        .and_then(|ending| ending.to_str())
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        Some("json") => Ok(FileFormat::Json),
        Some("ndjson" | "jsonl") => Ok(FileFormat::Ndjson),
        Some("csv") => Ok(FileFormat::Csv),
        Some("xml") => Ok(FileFormat::Xml),
        _ => Err(Error::config(
            "format_unknown",
            format!("the ending of {} names no format", path.display()),
        )
        .hint("add --format json, ndjson, csv or xml")),
    }
}

fn content_type(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Json => "application/json",
        FileFormat::Ndjson => "application/x-ndjson",
        FileFormat::Csv => "text/csv",
        FileFormat::Xml => "application/xml",
    }
}
