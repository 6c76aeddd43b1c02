//! What people at ONE do to their records.

use rand::RngExt;
use serde_json::{Value, json};

use super::held::Held;
use super::schema::Entity;
use crate::control::EditRequest;
use crate::random::derive;
use crate::words::{STREETS, phone, pick, weighted};

const EDITS: &[(u32, &str)] = &[
    (50, "service_request.update"),
    (30, "location.update"),
    (20, "resident.update"),
    (0, "location.delete"),
    (0, "resident.delete"),
    (0, "service_request.delete"),
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
        let mut random = derive(seed, "one edit", held.edits, 0);
        let name = weighted(&mut random, &choice);
        let entity = Entity::ALL
            .into_iter()
            .find(|entity| name.starts_with(entity.kind()))
            .unwrap_or(Entity::Location);
        let table = held.table_mut(entity);
        let near = random.random_range(0..=table.last_number());
        let key = table
            .key_near(near)
            .cloned()
            .ok_or_else(|| format!("no {} to edit", entity.kind()))?;
        if name.ends_with(".delete") {
            table.remove(&key);
        } else if let Some(record) = table.get_mut(&key) {
            let (field, value) = match entity {
                Entity::ServiceRequest => (
                    "statusId",
                    json!(pick(
                        &mut random,
                        &["PendingSchedule", "ReturnTripNeeded", "Cancelled"]
                    )),
                ),
                Entity::Resident => ("phone", json!(phone(&mut random))),
                _ => ("district", json!(pick(&mut random, STREETS))),
            };
            record.fields.insert(field.into(), value);
            now.clone_into(&mut record.updated_at);
        }
        done.push(json!({ "edit": name, "key": format!("{}:{key}", entity.kind()) }));
    }
    Ok(done)
}
