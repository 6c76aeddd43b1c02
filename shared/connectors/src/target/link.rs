//! Records that exist at the target already.

use sluice_core::{Error, ErrorClass, Result, task::PushAction};

use super::{
    PushItem, Receipt,
    call::Session,
    lookup,
    outcome::Refusal,
    plan::{EntityPlan, Write},
    push::carry_out,
    template::scalar_text,
};

/// The id that an "exists already" answer shows.
pub(super) fn existing_id(write: &Write, refusal: &Refusal) -> Option<String> {
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
pub(super) async fn link(
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
