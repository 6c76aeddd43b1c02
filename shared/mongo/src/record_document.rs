//! The document of a raw record: the field names of requirement 002 section 4.2, and beside them
//! organization, connection, stream, slice, payload and what finds a source id's newest copy.

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc, raw::cstr};
use sluice_core::{ConnectionId, EntityType, Error, Hash, OrganizationId, Result};
use sluice_store::raw::{OutboundState, PayloadId, RawRecord};

use crate::{
    errors::damaged,
    fields::{
        date, error_entry, error_log, integer, optional_date, optional_time, part, text, time, word,
    },
    json,
};

/// Largest document; the server's limit is 16 MiB.
const MAX_DOCUMENT: usize = 16_000_000;

/// Fields that processing decides, replaced together when it decides anew. `processedData` is
/// missing when there is none.
pub(crate) fn outcome_part(record: &RawRecord, outcome: &str) -> Result<RawDocumentBuf> {
    with_json(record, small_part(record, outcome))
}

/// All of it but the JSON values.
fn small_part(record: &RawRecord, outcome: &str) -> Document {
    let outbound: Document = record
        .outbound
        .iter()
        .map(|(target, state)| (target_key(target), Bson::from(state.as_str())))
        .collect();
    let errors: Vec<Bson> = record
        .errors
        .iter()
        .map(|e| error_entry(e).into())
        .collect();
    doc! {
        "payloadId": &record.payload_id.0,
        "metadata": {
            "batchNumber": record.batch_number,
            "syncDate": date(record.sync_date),
            "hash": record.hash.to_hex(),
            "version": record.version,
        },
        "syncStatus": { "inbound": record.inbound.as_str(), "outbound": outbound },
        "errorLog": errors,
        "expiresAfter": optional_date(record.expires_at),
        "outcome": outcome,
    }
}

/// The JSON values go straight into wire form: they are most of a document.
fn with_json(record: &RawRecord, small: Document) -> Result<RawDocumentBuf> {
    let unwritable =
        || Error::validation("raw_unwritable", "a raw record cannot be written as BSON");
    let mut document = RawDocumentBuf::try_from(&small).map_err(|_| unwritable())?;
    let processed = record.processed.as_ref();
    let fields = [
        (cstr!("rawData"), &record.raw),
        (cstr!("slice"), &record.slice),
    ]
    .into_iter()
    .chain(processed.map(|processed| (cstr!("processedData"), processed)));
    json::append(&mut document, fields)?;
    if document.as_bytes().len() > MAX_DOCUMENT {
        return Err(Error::validation(
            "raw_record_too_large",
            format!("a raw record and its processed form exceed {MAX_DOCUMENT} bytes"),
        )
        .record(record.source_id.clone()));
    }
    Ok(document)
}

/// The whole document of a record not seen before. `_id` is the driver's, which
/// grow with time.
pub(crate) fn new(record: &RawRecord, outcome: &str, seen_order: i64) -> Result<RawDocumentBuf> {
    let mut document = doc! {
        "organizationId": record.organization_id.0,
        "connectionId": record.connection_id.0,
        "sourceSystem": &record.source_system,
        "stream": &record.stream,
        "entityType": record.entity_type.as_str(),
        "sourceId": &record.source_id,
        "createDate": date(record.sync_date),
        "lastSeen": date(record.sync_date),
        "seenOrder": seen_order,
    };
    document.extend(small_part(record, outcome));
    with_json(record, document)
}

pub(crate) fn read(mut document: Document) -> Result<RawRecord> {
    let raw = json::take(&mut document, "rawData")?;
    let slice = json::take(&mut document, "slice")?;
    let processed = match document.contains_key("processedData") {
        true => Some(json::take(&mut document, "processedData")?),
        false => None,
    };
    let document = &document;
    let metadata = part(document, "metadata")?;
    let status = part(document, "syncStatus")?;
    let outbound = part(status, "outbound")?.iter().map(|(key, state)| {
        let state = state
            .as_str()
            .ok_or_else(|| damaged("syncStatus.outbound"))?;
        let state: OutboundState = word(state, "syncStatus.outbound")?;
        Ok((target_name(key), state))
    });
    Ok(RawRecord {
        organization_id: OrganizationId(integer(document, "organizationId")?),
        connection_id: ConnectionId(integer(document, "connectionId")?),
        source_system: text(document, "sourceSystem")?,
        stream: text(document, "stream")?,
        entity_type: EntityType::new(text(document, "entityType")?),
        source_id: text(document, "sourceId")?,
        hash: Hash::from_hex(&text(metadata, "hash")?).ok_or_else(|| damaged("metadata.hash"))?,
        raw,
        slice,
        processed,
        payload_id: PayloadId(text(document, "payloadId")?),
        batch_number: integer(metadata, "batchNumber")?,
        sync_date: time(metadata, "syncDate")?,
        version: i32::try_from(integer(metadata, "version")?)
            .map_err(|_| damaged("metadata.version"))?,
        inbound: word(&text(status, "inbound")?, "syncStatus.inbound")?,
        outbound: outbound.collect::<Result<_>>()?,
        errors: error_log(document)?,
        expires_at: optional_time(document, "expiresAfter")?,
    })
}

/// A connection's name as a field name: `%`, `.`, `$` and NUL as `%` and two hex digits, because
/// paths and operators are made of them.
pub(crate) fn target_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '%' => key.push_str("%25"),
            '.' => key.push_str("%2E"),
            '$' => key.push_str("%24"),
            '\0' => key.push_str("%00"),
            other => key.push(other),
        }
    }
    key
}

fn target_name(key: &str) -> String {
    key.replace("%2E", ".")
        .replace("%24", "$")
        .replace("%00", "\0")
        .replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn target_names_come_back(name in "[a-z%.$0-9E\0]{0,12}") {
            let key = target_key(&name);
            prop_assert!(!key.contains(['.', '$', '\0']));
            prop_assert_eq!(target_name(&key), name);
        }
    }
}
