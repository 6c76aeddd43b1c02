//! The document of a payload.

use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc, raw::cstr};
use sluice_core::{ConnectionId, Hash, OrganizationId, Result, RunId};
use sluice_store::{
    raw::{FailedPayload, NewPayload, Payload, PayloadId},
    raw_codec,
};

use crate::{
    bodies::{Bodies, Place},
    errors::damaged,
    fields::{
        date, error_log, integer, optional_date, optional_integer, optional_text, optional_time,
        part, text, time, word,
    },
    json,
};

/// What stays as it was first stored. `body` comes with [`with_body`].
pub(crate) fn constant_part(payload: &NewPayload) -> Result<Document> {
    let mut document = doc! {
        "organizationId": payload.organization_id.0,
        "connectionId": payload.connection_id.0,
        "sourceSystem": &payload.source_system,
        "kind": payload.kind.as_str(),
        "stream": &payload.stream,
        "contentType": payload.content_type.as_deref(),
        "deliveryId": payload.delivery_id.as_deref(),
        "createDate": date(payload.received_at),
        "errorLog": [],
    };
    let mut slice = RawDocumentBuf::new();
    json::append(&mut slice, [(cstr!("slice"), &payload.slice)])?;
    document.extend(Document::try_from(&slice).map_err(|_| damaged("slice"))?);
    Ok(document)
}

/// What every sight of the payload renews.
pub(crate) fn seen_part(payload: &NewPayload, lease: Duration) -> Document {
    doc! {
        "$set": {
            "receivedAt": date(payload.received_at),
            "runId": payload.run_id.map(|run| run.0),
            "traceparent": payload.traceparent.as_deref(),
            "expiresAfter": optional_date(payload.expires_at),
            "syncStatus.inbound": "pending",
            "claims": 0_i64,
            "lease.owner": Bson::Null,
            "lease.millis": millis(lease),
        },
        "$max": { "lastSeen": date(payload.received_at) },
        "$inc": { "timesSeen": 1_i64 },
        // The server's clock begins the lease and, in `claim`, ends it.
        "$currentDate": { "lease.since": true },
    }
}

pub(crate) fn millis(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2)
}

pub(crate) fn with_body(
    mut document: Document,
    size: usize,
    hash: Hash,
    place: &Place,
) -> Document {
    let (name, value) = place.to_bson();
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let mut body = doc! { "encoding": "zstd", "size": size, "sha256": hash.to_hex() };
    body.insert(name, value);
    document.insert("body", body);
    document
}

pub(crate) async fn read(mut document: Document, bodies: &Bodies) -> Result<Payload> {
    let slice = json::take(&mut document, "slice")?;
    let body = part(&document, "body")?;
    let size = usize::try_from(integer(body, "size")?).map_err(|_| damaged("body.size"))?;
    let body = raw_codec::unpack(bodies.fetch(body).await?, size).await?;
    let document = &document;
    Ok(Payload {
        id: PayloadId(text(document, "_id")?),
        new: NewPayload {
            organization_id: OrganizationId(integer(document, "organizationId")?),
            connection_id: ConnectionId(integer(document, "connectionId")?),
            source_system: text(document, "sourceSystem")?,
            kind: word(&text(document, "kind")?, "kind")?,
            stream: text(document, "stream")?,
            slice,
            content_type: optional_text(document, "contentType")?,
            body,
            delivery_id: optional_text(document, "deliveryId")?,
            run_id: optional_integer(document, "runId")?.map(RunId),
            traceparent: optional_text(document, "traceparent")?,
            received_at: time(document, "receivedAt")?,
            expires_at: optional_time(document, "expiresAfter")?,
        },
        inbound: word(
            &text(part(document, "syncStatus")?, "inbound")?,
            "syncStatus.inbound",
        )?,
        first_seen: time(document, "createDate")?,
        last_seen: time(document, "lastSeen")?,
        claims: u32::try_from(optional_integer(document, "claims")?.unwrap_or_default())
            .map_err(|_| damaged("claims"))?,
        errors: error_log(document)?,
    })
}

/// A document without its bytes.
pub(crate) fn read_failed(document: &Document) -> Result<FailedPayload> {
    let size = integer(part(document, "body")?, "size")?;
    Ok(FailedPayload {
        id: PayloadId(text(document, "_id")?),
        connection_id: ConnectionId(integer(document, "connectionId")?),
        kind: word(&text(document, "kind")?, "kind")?,
        stream: text(document, "stream")?,
        content_type: optional_text(document, "contentType")?,
        bytes: u64::try_from(size).map_err(|_| damaged("body.size"))?,
        received_at: time(document, "receivedAt")?,
        errors: error_log(document)?,
    })
}
