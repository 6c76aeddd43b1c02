//! Mutations: every item of the list is judged by itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::held::Held;
use super::schema::{Change, Entity};
use crate::fields::{Fault, check};
use crate::ledger::Effect;

/// Largest file, in bytes.
pub(crate) const MAX_FILE: usize = 4_194_304;

/// Most items of one call.
pub(crate) fn most_items(entity: Entity) -> usize {
    if entity == Entity::Attachment { 1 } else { 25 }
}

/// How a call is to be spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    Nothing,
    /// Every item succeeds, none is kept.
    Lie,
    /// The item at this position fails inside: its result is null.
    NullAt(usize),
}

/// The names of fields an input may not have, for the refusal of the whole call.
pub(crate) fn unknown_fields(entity: Entity, items: &[Map<String, Value>]) -> Vec<String> {
    items
        .iter()
        .flat_map(|item| check(entity.fields(), item, false))
        .filter(|finding| finding.fault == Fault::Unknown)
        .map(|finding| finding.path)
        .collect()
}

/// Carries out the items in order and gives their results in the same order; `None` for an
/// item that failed inside.
pub(crate) fn apply(
    held: &mut Held,
    entity: Entity,
    change: Change,
    items: Vec<Map<String, Value>>,
    now: &str,
    spoil: Spoil,
) -> (Vec<Option<Value>>, Effect) {
    let mut effect = Effect::default();
    let results = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            let key = item.get(entity.key()).cloned().unwrap_or(Value::Null);
            let done = match spoil {
                Spoil::NullAt(at) if at == index => return None,
                Spoil::Lie => Ok((None, None)),
                _ => one(held, entity, change, item, now, &mut effect),
            };
            let mut result = json!({ "index": index });
            if let Value::Object(object) = &mut result {
                object.insert(entity.key().to_owned(), key);
                let (id, success, messages, file_name) = match done {
                    Ok((id, file_name)) => (id, true, Vec::new(), file_name),
                    Err(messages) => (None, false, messages, None),
                };
                object.insert("id".into(), json!(id));
                object.insert("success".into(), json!(success));
                object.insert("validationMessages".into(), json!(messages));
                if entity == Entity::Attachment {
                    object.insert("fileName".into(), json!(file_name));
                }
            }
            Some(result)
        })
        .collect();
    (results, effect)
}

fn message(code: &str, field: &str, text: &str) -> Value {
    json!({ "code": code, "field": field, "message": text })
}

type Accepted = (Option<String>, Option<String>);

/// Carries out one item; gives its id and, for attachments, its file name.
fn one(
    held: &mut Held,
    entity: Entity,
    change: Change,
    mut item: Map<String, Value>,
    now: &str,
    effect: &mut Effect,
) -> Result<Accepted, Vec<Value>> {
    // Null means absent in a new record and clears a field of one that is there.
    if change == Change::Create {
        item.retain(|_, value| !value.is_null());
    }
    let mut messages: Vec<Value> = check(entity.fields(), &item, change == Change::Create)
        .into_iter()
        .map(|finding| match finding.fault {
            Fault::Required => message("REQUIRED", &finding.path, "is required"),
            Fault::TooLong => message("TOO_LONG", &finding.path, "is too long"),
            Fault::Invalid | Fault::Unknown => message("INVALID", &finding.path, "is not valid"),
        })
        .collect();
    let key = match item.get(entity.key()).and_then(Value::as_str) {
        Some(key) if !key.trim().is_empty() => key.to_owned(),
        _ => {
            if messages.is_empty() {
                messages.push(message("REQUIRED", entity.key(), "is required"));
            }
            return Err(messages);
        }
    };
    if let Some((parent, code)) = entity.parent()
        && let Some(wanted) = item.get(parent.key()).and_then(Value::as_str)
        && held.table(parent).get(wanted).is_none()
    {
        messages.push(message(code, parent.key(), "does not exist"));
    }
    let known = held.table(entity).get(&key).map(|record| record.id.clone());
    match (change, &known) {
        (Change::Create, Some(_)) => {
            effect.duplicates_refused += 1;
            messages.insert(0, message("DUPLICATE", entity.key(), "already exists"));
        }
        (Change::Update, None) => {
            messages.insert(0, message("NOT_FOUND", entity.key(), "does not exist"))
        }
        _ => {}
    }
    if !messages.is_empty() {
        return Err(messages);
    }
    if entity == Entity::Attachment {
        return attach(held, item, &key, now, effect);
    }
    match known {
        None => {
            let id = held.table_mut(entity).insert(entity, &key, item, now);
            effect.created += 1;
            Ok((Some(id), None))
        }
        Some(id) => {
            if let Some(record) = held.table_mut(entity).get_mut(&key) {
                record.fields.extend(item);
                record.fields.retain(|_, value| !value.is_null());
                now.clone_into(&mut record.updated_at);
                record.writes += 1;
            }
            effect.updated += 1;
            Ok((Some(id), None))
        }
    }
}

/// Keeps a file's size and hash in place of its content.
fn attach(
    held: &mut Held,
    mut item: Map<String, Value>,
    key: &str,
    now: &str,
    effect: &mut Effect,
) -> Result<Accepted, Vec<Value>> {
    let content = item.remove("content");
    let text = content.as_ref().and_then(Value::as_str).unwrap_or("");
    // Checked before decoding, so that a huge text costs nothing.
    if text.len() / 4 * 3 > MAX_FILE + 2 {
        return Err(vec![message(
            "TOO_LARGE",
            "content",
            "exceeds 4194304 bytes",
        )]);
    }
    let Ok(bytes) = STANDARD.decode(text) else {
        return Err(vec![message("INVALID", "content", "is not base64")]);
    };
    if bytes.len() > MAX_FILE {
        return Err(vec![message(
            "TOO_LARGE",
            "content",
            "exceeds 4194304 bytes",
        )]);
    }
    let field = |name: &str| {
        item.get(name)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let (work_order, wanted) = (field("referWONum"), field("fileName"));
    let names = held.file_names.entry(work_order).or_default();
    let file_name = free_name(&wanted, names);
    names.push(file_name.clone());
    item.insert("fileName".into(), json!(file_name));
    item.insert("bytes".into(), json!(bytes.len()));
    item.insert("sha256".into(), json!(hex::encode(Sha256::digest(&bytes))));
    let id = held
        .table_mut(Entity::Attachment)
        .insert(Entity::Attachment, key, item, now);
    effect.created += 1;
    Ok((Some(id), Some(file_name)))
}

/// The name itself, or with a number before its ending when it is taken.
fn free_name(wanted: &str, taken: &[String]) -> String {
    if !taken.iter().any(|name| name == wanted) {
        return wanted.to_owned();
    }
    let (stem, ending) = match wanted.rsplit_once('.') {
        Some((stem, ending)) => (stem, format!(".{ending}")),
        None => (wanted, String::new()),
    };
    (2..)
        .map(|number| format!("{stem} ({number}){ending}"))
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_file_names_get_a_number() {
        let taken = vec!["a.jpg".to_owned(), "a (2).jpg".to_owned(), "b".to_owned()];
        assert_eq!(free_name("c.jpg", &taken), "c.jpg");
        assert_eq!(free_name("a.jpg", &taken), "a (3).jpg");
        assert_eq!(free_name("b", &taken), "b (2)");
    }
}
