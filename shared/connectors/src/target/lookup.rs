//! Finding records at the target by the reference we planted (promise O1).

use std::collections::HashMap;

use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};

use super::{Found, call::Session, plan::Lookup, select::kind, template::scalar_text};

/// One result per reference, in order.
pub(super) async fn lookup(
    session: &Session<'_>,
    plan: &Lookup,
    entity_ids: &[String],
) -> Vec<Result<Option<Found>>> {
    let mut results = Vec::with_capacity(entity_ids.len());
    for chunk in entity_ids.chunks(plan.batch_size) {
        let ids: Vec<Value> = chunk.iter().map(|id| id.as_str().into()).collect();
        let scope = session.scope().with_owned("entity_ids", Value::Array(ids));
        match session.call(&plan.requester, &scope, lacks(plan)).await {
            Ok(body) => {
                let found = by_reference(plan, &body);
                results.extend(chunk.iter().map(|id| match found.get(id.as_str()) {
                    Some(ids) => one(ids),
                    None => Ok(None),
                }));
            }
            // Some systems answer "not found" instead of an empty list.
            Err(refusal) if refusal.says_missing() => {
                results.extend(chunk.iter().map(|_| Ok(None)));
            }
            Err(refusal) => results.extend(chunk.iter().map(|_| Err(refusal.error.clone()))),
        }
    }
    results
}

/// An answer is only usable when the list is there, empty or not, and no error beside it:
/// anything else must not pass for "does not exist".
fn lacks(plan: &Lookup) -> impl Fn(&Value) -> Option<String> {
    let codes = plan.requester.rules.code_path.clone().unwrap_or_default();
    move |body| {
        let list = &plan.records.list;
        if plan.records.first(body).is_none() {
            let there = kind(list.first(body));
            return Some(format!("without a list at {list}: there is {there}"));
        }
        let wrong = codes.all(body).iter().any(|code| code.is_string());
        wrong.then(|| "with error codes beside the list".to_owned())
    }
}

fn by_reference(plan: &Lookup, body: &Value) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for record in plan.records.records(body) {
        let reference = plan.reference_path.first(record).and_then(scalar_text);
        let id = plan.id_path.first(record).and_then(scalar_text);
        if let (Some(reference), Some(id)) = (reference, id) {
            let ids = found.entry(reference).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    found
}

fn one(ids: &[String]) -> Result<Option<Found>> {
    match ids {
        [] => Ok(None),
        [id] => Ok(Some(Found {
            external_id: id.clone(),
        })),
        several => Err(Error::new(
            ErrorClass::Conflict,
            "target_reference_ambiguous",
            format!(
                "the target has {} records with our reference",
                several.len()
            ),
        )),
    }
}
