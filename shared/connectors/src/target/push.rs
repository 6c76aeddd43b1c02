//! Carrying out one push: calls, results per record, duplicates, poisoned batches.

use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result, task::PushAction};

use super::{
    PushItem, PushOperation, Receipt,
    call::Session,
    content, link,
    model::Action,
    outcome::{Outcome, Refusal},
    plan::{BatchWrite, EntityPlan, RecordWrite, Write},
    requester::unfilled,
    results::{in_order, lacks},
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
                    existing.push((index, link::existing_id(write, &refusal)));
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
        // Rare, and large: it does not go along with every push.
        Box::pin(link::link(session, plan, items, existing, &mut results)).await;
    }
    results
}

/// What a write did.
pub(super) struct Written {
    pub(super) external_id: String,
    pub(super) sent: bool,
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

pub(super) async fn carry_out(
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
    content::check(write.content_limit.as_ref(), item).map_err(Refusal::without_answer)?;
    let scope = item_scope(session, item);
    let id_of = |body: &Value| write.id_path.as_ref()?.first(body).and_then(scalar_text);
    // An answer without the id that it should hold proves nothing, whatever its status says. Where it
    // should hold none, the caller must know the id.
    let lacks = |body: &Value| match &write.id_path {
        Some(path) if id_of(body).is_none() => Some(format!("without an id at {path}")),
        None if item.external_id.is_none() => {
            Some("and no `id_path` says where the record's id is".to_owned())
        }
        _ => None,
    };
    let body = session.call(&write.requester, &scope, lacks).await?;
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
        let body = content::check(write.content_limit.as_ref(), item).and_then(|()| {
            let rendered = write.item.render(&item_scope(session, item));
            rendered.map_err(unfilled)
        });
        match body {
            Ok(body) => ready.push((index, body.unwrap_or_default())),
            Err(error) => set(&mut results, index, Err(Refusal::without_answer(error))),
        }
    }
    // Last first, so that `pop` keeps the order.
    let mut waiting = chunks(&ready, write.batch_size, write.batch_bytes);
    waiting.reverse();
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
        let lacks = |body: &Value| lacks(&write.results, body, chunk.len());
        match session.call(&write.requester, &scope, lacks).await {
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
            // The whole call was refused because of a record in it, so nothing was carried out:
            // halve it until the record at fault stands alone.
            Err(refusal) if chunk.len() > 1 && refusal.blames_a_record() => {
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

/// Cuts entries into calls, in order: few enough, and small enough together. An entry that is too
/// large by itself goes alone, and the system judges it.
fn chunks(entries: &[(usize, Value)], most: usize, bytes: Option<usize>) -> Vec<&[(usize, Value)]> {
    let Some(bytes) = bytes else {
        return entries.chunks(most).collect();
    };
    let mut chunks = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut size = 0;
        let fitting = rest
            .iter()
            .take(most)
            .take_while(|(_, entry)| {
                size += entry.to_string().len();
                size <= bytes
            })
            .count();
        let (chunk, others) = rest.split_at(fitting.max(1));
        chunks.push(chunk);
        rest = others;
    }
    chunks
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

fn unproven(answer: Error) -> Error {
    Error::new(
        ErrorClass::TargetError,
        "target_not_found_unproven",
        "the target answered \"not found\" in a way that proves nothing about the record",
    )
    .hint("give the delete a response filter with the target's own code and outcome not_found")
    .caused_by(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// Every entry travels once, in order; no call has too many or too much, unless one entry
        /// alone is too much; and none could have taken the first entry of the next.
        #[test]
        fn calls_are_filled_up_to_their_bounds(
            sizes in proptest::collection::vec(0_usize..60, 0..60), most in 1_usize..9, bytes in 10_usize..100,
        ) {
            let entries: Vec<_> = sizes.iter().map(|size| json!("x".repeat(*size))).enumerate().collect();
            let size = |entry: &(usize, Value)| entry.1.to_string().len();
            let cut = chunks(&entries, most, Some(bytes));
            prop_assert_eq!(cut.concat(), entries.clone());
            for (chunk, next) in cut.iter().zip(cut.iter().skip(1).map(|next| Some(&next[0])).chain([None])) {
                let total: usize = chunk.iter().map(size).sum();
                prop_assert!(chunk.len() <= most);
                prop_assert!(total <= bytes || chunk.len() == 1);
                if let Some(next) = next {
                    prop_assert!(chunk.len() == most || total + size(next) > bytes);
                }
            }
            prop_assert_eq!(chunks(&entries, most, None).len(), entries.len().div_ceil(most));
        }
    }
}
