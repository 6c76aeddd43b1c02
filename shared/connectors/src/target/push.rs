//! Carrying out one push: calls, results per record, duplicates, poisoned batches.

use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result, task::PushAction};

use super::{
    PushItem, PushOperation, Receipt,
    call::Session,
    lookup,
    model::{Action, ContentLimit},
    outcome::{Outcome, Refusal},
    plan::{BatchWrite, EntityPlan, RecordWrite, Write},
    requester::unfilled,
    results::{has_results, in_order},
    template::{Scope, scalar_text},
};

/// Writes the items; one result per item, in order.
pub(super) async fn push(
    session: &Session<'_>,
    plan: &EntityPlan,
    operation: PushOperation,
    items: &[PushItem],
) -> Vec<Result<Receipt>> {
    let Some(write) = plan.write(operation) else {
        return fail_all(items, &not_described(operation));
    };
    let done = carry_out(session, write, items).await;
    let mut results = Vec::with_capacity(items.len());
    let mut existing = Vec::new();
    for (index, (item, outcome)) in items.iter().zip(done).enumerate() {
        results.push(match outcome {
            Ok(written) => Ok(written.receipt(operation)),
            Err(refusal) => match (operation, refusal.outcome) {
                (PushOperation::Create, Outcome::Exists) => {
                    existing.push((index, existing_id(write, &refusal)));
                    Err(refusal.error)
                }
                // Gone already: what was wanted.
                (PushOperation::Delete, _) if refusal.says_missing() => Ok(Receipt {
                    external_id: item.external_id.clone().unwrap_or_default(),
                    action: PushAction::Deleted,
                }),
                // Nobody should take this for "gone already".
                (PushOperation::Delete, Outcome::Class(ErrorClass::NotFound)) => {
                    Err(unproven(refusal.error))
                }
                _ => Err(refusal.error),
            },
        });
    }
    if !existing.is_empty() {
        link(session, plan, items, existing, &mut results).await;
    }
    results
}

/// What a write did.
struct Written {
    external_id: String,
    sent: bool,
}

impl Written {
    fn receipt(self, operation: PushOperation) -> Receipt {
        let action = match operation {
            _ if !self.sent => PushAction::Skipped,
            PushOperation::Create => PushAction::Created,
            PushOperation::Update => PushAction::Updated,
            PushOperation::Delete => PushAction::Deleted,
        };
        Receipt {
            external_id: self.external_id,
            action,
        }
    }
}

fn not_described(operation: PushOperation) -> Error {
    Error::config(
        "operation_missing",
        format!("the connector does not say how to {}", operation.as_str()),
    )
    .hint("add it to operations.yaml, or `{type: NoWrite}` when the system has no such thing")
}

pub(super) fn fail_all(items: &[PushItem], error: &Error) -> Vec<Result<Receipt>> {
    items.iter().map(|_| Err(error.clone())).collect()
}

async fn carry_out(
    session: &Session<'_>,
    write: &Write,
    items: &[PushItem],
) -> Vec<Result<Written, Refusal>> {
    match write {
        Write::Nothing => items
            .iter()
            .map(|item| {
                Ok(Written {
                    external_id: item.external_id.clone().unwrap_or_default(),
                    sent: false,
                })
            })
            .collect(),
        Write::Record(write) => {
            let mut results: Vec<Result<Written, Refusal>> = Vec::with_capacity(items.len());
            for item in items {
                let stopped = results.last().and_then(|last| last.as_ref().err());
                let result = match stopped.filter(|refusal| stops(refusal)) {
                    Some(refusal) => Err(refusal.clone()),
                    None => record(session, write, item).await,
                };
                results.push(result);
            }
            results
        }
        Write::Batch(write) => batches(session, write, items).await,
    }
}

/// Failures that the next call would meet as well: it is not made.
fn stops(refusal: &Refusal) -> bool {
    matches!(
        refusal.outcome,
        Outcome::Class(ErrorClass::RateLimit | ErrorClass::Auth | ErrorClass::Network)
    )
}

/// What templates see of one record.
fn item_scope<'a>(session: &Session<'a>, item: &'a PushItem) -> Scope<'a> {
    let scope = session
        .scope()
        .with("body", &item.body)
        .with_owned("entity_id", item.entity_id.as_str())
        .with_owned("idempotency_key", item.idempotency_key.as_str())
        .with_owned("version", item.version);
    match &item.external_id {
        Some(id) => scope.with_owned("external_id", id.as_str()),
        None => scope,
    }
}

async fn record(
    session: &Session<'_>,
    write: &RecordWrite,
    item: &PushItem,
) -> Result<Written, Refusal> {
    check_content(write.content_limit.as_ref(), item).map_err(Refusal::without_answer)?;
    let scope = item_scope(session, item);
    let id_of = |body: &Value| write.id_path.as_ref()?.first(body).and_then(scalar_text);
    // Without an id from the caller, an answer without one is of no use.
    let usable = |body: &Value| item.external_id.is_some() || id_of(body).is_some();
    let body = session.call(&write.requester, &scope, usable).await?;
    Ok(Written {
        external_id: id_of(&body)
            .or_else(|| item.external_id.clone())
            .unwrap_or_default(),
        sent: true,
    })
}

async fn batches(
    session: &Session<'_>,
    write: &BatchWrite,
    items: &[PushItem],
) -> Vec<Result<Written, Refusal>> {
    let mut results: Vec<Option<Result<Written, Refusal>>> = Vec::new();
    results.resize_with(items.len(), || None);
    let mut ready = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let body = check_content(write.content_limit.as_ref(), item).and_then(|()| {
            let rendered = write.item.render(&item_scope(session, item));
            rendered.map_err(unfilled)
        });
        match body {
            Ok(body) => ready.push((index, body.unwrap_or_default())),
            Err(error) => set(&mut results, index, Err(Refusal::without_answer(error))),
        }
    }
    // Last first, so that `pop` keeps the order.
    let mut waiting: Vec<&[(usize, Value)]> = ready.chunks(write.batch_size).rev().collect();
    let mut stopped: Option<Refusal> = None;
    while let Some(chunk) = waiting.pop() {
        if let Some(refusal) = &stopped {
            for (index, _) in chunk {
                set(&mut results, *index, Err(refusal.clone()));
            }
            continue;
        }
        let bodies: Vec<Value> = chunk.iter().map(|(_, body)| body.clone()).collect();
        let scope = session.scope().with_owned("items", Value::Array(bodies));
        let usable = |body: &Value| has_results(&write.results, body);
        match session.call(&write.requester, &scope, usable).await {
            Ok(body) => {
                let each = in_order(&write.results, &body, chunk.len());
                for ((index, _), result) in chunk.iter().zip(each) {
                    let result = result
                        .map(|external_id| Written {
                            external_id,
                            sent: true,
                        })
                        .map_err(|(outcome, error)| Refusal {
                            outcome,
                            action: Action::Fail,
                            by_rule: true,
                            error,
                            body: Value::Null,
                        });
                    set(&mut results, *index, result);
                }
            }
            // The whole call was refused because of its content, so nothing was carried out:
            // halve it until the record at fault stands alone.
            Err(refusal)
                if refusal.outcome == Outcome::Class(ErrorClass::Validation) && chunk.len() > 1 =>
            {
                let (first, second) = chunk.split_at(chunk.len() / 2);
                waiting.extend([second, first]);
            }
            Err(refusal) => {
                for (index, _) in chunk {
                    set(&mut results, *index, Err(refusal.clone()));
                }
                stopped = stops(&refusal).then_some(refusal);
            }
        }
    }
    results
        .into_iter()
        .map(|result| {
            result.unwrap_or_else(|| {
                let text = "a record of the batch was passed over";
                Err(Refusal::without_answer(Error::internal(
                    "push_incomplete",
                    text,
                )))
            })
        })
        .collect()
}

fn set(
    results: &mut [Option<Result<Written, Refusal>>],
    index: usize,
    result: Result<Written, Refusal>,
) {
    if let Some(slot) = results.get_mut(index) {
        *slot = Some(result);
    }
}

fn check_content(limit: Option<&ContentLimit>, item: &PushItem) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let encoded = limit.field_path.first(&item.body).and_then(Value::as_str);
    let bytes = encoded.map_or(0, decoded_len);
    if bytes <= limit.max_bytes {
        return Ok(());
    }
    Err(Error::validation(
        "attachment_too_large",
        format!(
            "the content has {bytes} bytes; the target takes at most {}",
            limit.max_bytes
        ),
    ))
}

/// Bytes behind a padded base64 text (RFC 4648 section 4).
fn decoded_len(encoded: &str) -> usize {
    let digits = encoded.trim().trim_end_matches('=').len();
    digits / 4 * 3 + (digits % 4).saturating_sub(1)
}

fn existing_id(write: &Write, refusal: &Refusal) -> Option<String> {
    let Write::Record(write) = write else {
        return None;
    };
    write
        .existing_id_path
        .as_ref()?
        .first(&refusal.body)
        .and_then(scalar_text)
}

/// Records that exist already are linked (their id from the answer, or looked up by our
/// reference) and then updated, so that no change is lost.
async fn link(
    session: &Session<'_>,
    plan: &EntityPlan,
    items: &[PushItem],
    existing: Vec<(usize, Option<String>)>,
    results: &mut [Result<Receipt>],
) {
    let unknown: Vec<(usize, String)> = existing
        .iter()
        .filter(|(_, id)| id.is_none())
        .filter_map(|(index, _)| Some((*index, items.get(*index)?.entity_id.clone())))
        .collect();
    let mut linked: Vec<(usize, String)> = existing
        .into_iter()
        .filter_map(|(index, id)| Some((index, id?)))
        .collect();
    if let (Some(lookup), false) = (&plan.lookup, unknown.is_empty()) {
        let ids: Vec<String> = unknown.iter().map(|(_, id)| id.clone()).collect();
        let found = lookup::lookup(session, lookup, &ids).await;
        for ((index, _), found) in unknown.into_iter().zip(found) {
            match found {
                Ok(Some(found)) => linked.push((index, found.external_id)),
                Ok(None) => put(results, index, Err(hidden())),
                Err(error) => put(results, index, Err(lookup_failed(error))),
            }
        }
    }
    linked.sort_unstable();
    let updates: Vec<(usize, PushItem)> = linked
        .into_iter()
        .filter_map(|(index, external_id)| {
            let item = items.get(index)?.clone();
            Some((
                index,
                PushItem {
                    external_id: Some(external_id),
                    // The create's key already stands for the create's answer.
                    idempotency_key: format!("{}-link", item.idempotency_key),
                    ..item
                },
            ))
        })
        .collect();
    let to_send: Vec<PushItem> = updates.iter().map(|(_, item)| item.clone()).collect();
    let done = match &plan.update {
        Some(update) => carry_out(session, update, &to_send).await,
        None => carry_out(session, &Write::Nothing, &to_send).await,
    };
    for ((index, _), outcome) in updates.iter().zip(done) {
        let receipt = outcome
            .map(|written| Receipt {
                action: if written.sent {
                    PushAction::Updated
                } else {
                    PushAction::Linked
                },
                external_id: written.external_id,
            })
            .map_err(|refusal| refusal.error);
        put(results, *index, receipt);
    }
}

fn put(results: &mut [Result<Receipt>], index: usize, result: Result<Receipt>) {
    if let Some(slot) = results.get_mut(index) {
        *slot = result;
    }
}

fn unproven(answer: Error) -> Error {
    Error::new(
        ErrorClass::TargetError,
        "target_not_found_unproven",
        "the target answered \"not found\" in a way that proves nothing about the record",
    )
    .hint("give the delete a response filter with the target's own code and outcome not_found")
    .caused_by(answer)
}

fn hidden() -> Error {
    Error::new(
        ErrorClass::Conflict,
        "target_record_not_found_again",
        "the target says the record exists, and does not find it by our reference",
    )
    .hint("look for a record with the same key that belongs to somebody else")
}

/// Nothing was written by a look-up, so a lost answer leaves no doubt.
fn lookup_failed(error: Error) -> Error {
    if error.class() != ErrorClass::Timeout {
        return error;
    }
    Error::new(
        ErrorClass::Network,
        "target_lookup_failed",
        "the look-up of an existing record got no answer",
    )
    .caused_by(error)
}
