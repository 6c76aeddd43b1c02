//! Creating, changing and deleting records.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::held::{Held, source_version};
use super::reply::Reply;
use super::schema::{FILE_TYPES, Resource};
use crate::fields::{Fault, Finding, check};
use crate::ledger::Effect;

/// Largest file, in bytes.
pub(crate) const MAX_FILE: usize = 10 * 1024 * 1024;

/// Reads a JSON object.
///
/// # Errors
/// 400 when the body is none.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Reply> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Reply::error(
            400,
            "validation_failed",
            "the body is not a JSON object",
        )),
    }
}

fn finding(path: &str, fault: Fault) -> Finding {
    Finding {
        path: path.to_owned(),
        fault,
    }
}

/// The property a record hangs on must be there.
fn missing_parent(held: &Held, resource: Resource, body: &Map<String, Value>) -> Option<Finding> {
    let field = resource.property_field()?;
    let id = body.get(field)?.as_str()?;
    held.table(Resource::Property)
        .by_id(id)
        .is_none()
        .then(|| finding(field, Fault::Unknown))
}

/// `POST /v1/{resource}`.
pub(crate) fn create(
    held: &mut Held,
    resource: Resource,
    mut body: Map<String, Value>,
    now: &str,
) -> Reply {
    let mut findings = check(resource.fields(), &body, true);
    if resource == Resource::WorkOrder && body.contains_key("status") {
        findings.push(finding("status", Fault::Invalid));
    }
    findings.extend(missing_parent(held, resource, &body));
    if !findings.is_empty() {
        return Reply::invalid(&findings);
    }
    body.retain(|_, value| !value.is_null());
    let external = text(&body, "externalId").to_owned();
    if let Some(taken) = duplicate(held, resource, &external) {
        return taken;
    }
    let status = match resource {
        Resource::WorkOrder => "PENDING_ACCEPTANCE",
        _ => activity(&body),
    };
    let record = held
        .table_mut(resource)
        .insert(resource, &external, status, body, now);
    let effect = Effect {
        created: 1,
        ..Effect::default()
    };
    Reply::wrote(201, record.receipt(), effect)
}

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> &'a str {
    body.get(field).and_then(Value::as_str).unwrap_or("")
}

fn activity(body: &Map<String, Value>) -> &'static str {
    if body.get("active") == Some(&Value::Bool(false)) {
        "INACTIVE"
    } else {
        "ACTIVE"
    }
}

fn duplicate(held: &Held, resource: Resource, external: &str) -> Option<Reply> {
    let taken = held.table(resource).by_external(external)?;
    let mut reply = Reply::error(
        409,
        "duplicate_external_id",
        "a record with this externalId exists",
    );
    if let Some(error) = reply.body.get_mut("error").and_then(Value::as_object_mut) {
        error.insert("existingId".into(), json!(taken.id));
    }
    reply.effect.duplicates_refused = 1;
    Some(reply)
}

/// `PATCH /v1/{resource}/{id}`: fields that are present replace those of the record, null
/// removes one.
pub(crate) fn change(
    held: &mut Held,
    resource: Resource,
    id: &str,
    body: Map<String, Value>,
    now: &str,
) -> Reply {
    let Some(record) = held.table(resource).by_id(id) else {
        return Reply::not_found();
    };
    let mut findings = check(resource.fields(), &body, false);
    let cancels = resource == Resource::WorkOrder && text(&body, "status") == "CANCELLED";
    if !body.contains_key("source") && !cancels {
        findings.push(finding("source", Fault::Required));
    }
    if body.contains_key("externalId") && text(&body, "externalId") != record.external_id {
        findings.push(finding("externalId", Fault::Invalid));
    }
    findings.extend(missing_parent(held, resource, &body));
    if !findings.is_empty() {
        return Reply::invalid(&findings);
    }
    let current = record.source_version();
    if source_version(&body).is_some_and(|version| version < current) {
        let mut reply = Reply::error(409, "version_conflict", "the record has a newer version");
        if let Some(error) = reply.body.get_mut("error").and_then(Value::as_object_mut) {
            error.insert("currentVersion".into(), json!(current));
        }
        return reply;
    }
    let Some(record) = held.table_mut(resource).by_id_mut(id) else {
        return Reply::not_found();
    };
    for (name, value) in body {
        if name == "status" && resource == Resource::WorkOrder {
            value.as_str().unwrap_or("").clone_into(&mut record.status);
        } else if value.is_null() {
            record.fields.remove(&name);
        } else {
            record.fields.insert(name, value);
        }
    }
    if resource != Resource::WorkOrder {
        activity(&record.fields).clone_into(&mut record.status);
    }
    record.version += 1;
    record.writes += 1;
    now.clone_into(&mut record.updated_at);
    let effect = Effect {
        updated: 1,
        ..Effect::default()
    };
    Reply::wrote(200, record.receipt(), effect)
}

/// `DELETE`: properties and residents become inactive, attachments are gone.
pub(crate) fn delete(held: &mut Held, resource: Resource, id: &str, now: &str) -> Reply {
    let deleted = Effect {
        deleted: 1,
        ..Effect::default()
    };
    match resource {
        Resource::WorkOrder => Reply::error(
            405,
            "method_not_allowed",
            "work orders are cancelled, not deleted",
        ),
        Resource::Attachment => {
            if held.table_mut(resource).remove(id) {
                Reply::wrote(204, Value::Null, deleted)
            } else {
                Reply::not_found()
            }
        }
        Resource::Property | Resource::Resident => {
            let Some(record) = held.table_mut(resource).by_id_mut(id) else {
                return Reply::not_found();
            };
            if record.fields.get("active") == Some(&Value::Bool(false)) {
                return Reply::read(204, Value::Null);
            }
            record.fields.insert("active".into(), Value::Bool(false));
            "INACTIVE".clone_into(&mut record.status);
            record.version += 1;
            record.writes += 1;
            now.clone_into(&mut record.updated_at);
            Reply::wrote(204, Value::Null, deleted)
        }
    }
}

/// An upload taken apart.
#[derive(Debug)]
pub(crate) struct Upload {
    pub metadata: Map<String, Value>,
    pub file_name: String,
    pub content_type: String,
    pub bytes: bytes::Bytes,
}

/// `POST /v1/work-orders/{id}/attachments`.
pub(crate) fn attach(held: &mut Held, work_order: &str, upload: Upload, now: &str) -> Reply {
    if held.table(Resource::WorkOrder).by_id(work_order).is_none() {
        return Reply::not_found();
    }
    if upload.bytes.len() > MAX_FILE {
        return Reply::error(413, "too_large", "a file may have 10 MiB");
    }
    let kind = upload.content_type.split(';').next().unwrap_or("").trim();
    if !kind.starts_with("image/") && !FILE_TYPES.contains(&kind) {
        return Reply::error(415, "unsupported_type", "only images, PDF and plain text");
    }
    let mut findings = check(Resource::Attachment.fields(), &upload.metadata, true);
    if upload.file_name.is_empty() {
        findings.push(finding("file", Fault::Required));
    }
    if !findings.is_empty() {
        return Reply::invalid(&findings);
    }
    let external = text(&upload.metadata, "externalId").to_owned();
    if let Some(taken) = duplicate(held, Resource::Attachment, &external) {
        return taken;
    }
    let mut fields = upload.metadata;
    fields.retain(|_, value| !value.is_null());
    fields.insert("workOrderId".into(), json!(work_order));
    fields.insert("contentType".into(), json!(kind));
    fields.insert("bytes".into(), json!(upload.bytes.len()));
    fields.insert(
        "sha256".into(),
        json!(hex::encode(Sha256::digest(&upload.bytes))),
    );
    let resource = Resource::Attachment;
    let record = held
        .table_mut(resource)
        .insert(resource, &external, "STORED", fields, now);
    let effect = Effect {
        created: 1,
        ..Effect::default()
    };
    Reply::wrote(201, record.receipt(), effect)
}
