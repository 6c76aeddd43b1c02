//! What people at Lessen360 do to their records.

use rand::RngExt;
use serde_json::{Value, json};

use super::held::Held;
use super::schema::{Resource, STATUSES};
use crate::control::EditRequest;
use crate::random::derive;
use crate::words::{TECHNICIAN, phone, pick, weighted};

const EDITS: &[(u32, &str)] = &[
    (60, "work_order.update"),
    (20, "property.update"),
    (20, "resident.update"),
    (0, "work_order.delete"),
    (0, "property.delete"),
    (0, "resident.delete"),
];

/// Makes edits; those of weight 0 only when named in `only`.
///
/// # Errors
/// When `only` names an unknown edit or there is no record to edit.
pub(crate) fn edit(
    held: &mut Held,
    seed: u64,
    request: &EditRequest,
    now: &str,
) -> Result<Vec<Value>, String> {
    let choice = request.choice(EDITS)?;
    let mut done = Vec::new();
    for _ in 0..request.count {
        held.edits += 1;
        let mut random = derive(seed, "lessen360 edit", held.edits, 0);
        let name = weighted(&mut random, &choice);
        let resource = Resource::ALL
            .into_iter()
            .find(|resource| name.starts_with(resource.kind()))
            .unwrap_or(Resource::WorkOrder);
        let table = held.table_mut(resource);
        let near = random.random_range(0..=table.last_number());
        let id = table
            .id_near(near)
            .ok_or_else(|| format!("no {} to edit", resource.kind()))?;
        let Some(record) = table.by_id_mut(&id) else {
            continue;
        };
        let key = format!("{}:{}", resource.kind(), record.external_id);
        if name.ends_with(".delete") {
            table.remove(&id);
        } else {
            match resource {
                Resource::WorkOrder => {
                    (*pick(&mut random, STATUSES)).clone_into(&mut record.status)
                }
                Resource::Resident => {
                    record
                        .fields
                        .insert("phone".into(), json!(phone(&mut random)));
                }
                _ => {
                    let note = json!(pick(&mut random, TECHNICIAN));
                    record.fields.insert("note".into(), note);
                }
            }
            record.version += 1;
            now.clone_into(&mut record.updated_at);
        }
        done.push(json!({ "edit": name, "key": key }));
    }
    Ok(done)
}
