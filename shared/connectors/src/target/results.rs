//! The list of results of a batch, put back into the order of its records: a pure decision.

use serde_json::Value;
use sluice_core::{Error, ErrorClass};

use super::{
    model::ResultSelector,
    outcome::{Outcome, of_codes},
    select::kind,
    template::scalar_text,
};

/// One record's result: its id at the target, or why not.
pub(super) type ItemResult = Result<String, (Outcome, Error)>;

/// What the answer lacks to be the results of `count` records; `None` when it is usable.
pub(super) fn lacks(selector: &ResultSelector, body: &Value, count: usize) -> Option<String> {
    let path = &selector.extractor.field_path;
    let Some(list) = path.first(body) else {
        let (list, there) = (&path.list, kind(path.list.first(body)));
        return Some(format!(
            "without a list of results at {list}: there is {there}"
        ));
    };
    // In order, any other number leaves open whose they are: a record would get another one's id.
    let in_order = selector.index_path.is_none() && list.len() != count;
    let all_beside = list.is_empty() && selector.item_errors.is_some();
    (in_order && !all_beside).then(|| {
        let results = results_of(list.len(), count);
        format!("with {results}, and no `index_path` says whose they are")
    })
}

/// `4 results for 5 records`.
fn results_of(results: usize, records: usize) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let (one, other) = (plural(results), plural(records));
    format!("{results} result{one} for {records} record{other}")
}

/// The results of `count` records, in their order. A record without a result was not carried out.
pub(super) fn in_order(selector: &ResultSelector, body: &Value, count: usize) -> Vec<ItemResult> {
    let mut slots: Vec<Option<&Value>> = vec![None; count];
    let path = &selector.extractor.field_path;
    let list = path.first(body).unwrap_or_default();
    let results = list.iter().map(|entry| path.record(entry));
    for (position, result) in results.enumerate() {
        let Some(result) = result else { continue };
        let index = match &selector.index_path {
            Some(path) => path
                .first(result)
                .and_then(Value::as_u64)
                .and_then(|index| usize::try_from(index).ok()),
            None => Some(position),
        };
        if let Some(slot) = index.and_then(|index| slots.get_mut(index)) {
            slot.get_or_insert(result);
        }
    }
    let told = no_result(selector, list.len(), &slots);
    slots
        .into_iter()
        .enumerate()
        .map(|(index, slot)| match slot {
            Some(result) => of_result(selector, result),
            None => Err(without_result(selector, body, index, &told)),
        })
        .collect()
}

fn of_result(selector: &ResultSelector, result: &Value) -> ItemResult {
    if selector.success_path.first(result) == Some(&Value::Bool(true)) {
        let confirmed = selector.confirmed_by.as_ref();
        let confirmed = confirmed.is_none_or(|path| path.first(result).is_some());
        let id = selector.id_path.first(result).and_then(scalar_text);
        return id.filter(|_| confirmed).ok_or_else(|| {
            let error = Error::new(
                ErrorClass::TargetError,
                "target_id_missing",
                "the target took the record and did not say under which id",
            );
            (Outcome::Class(ErrorClass::TargetError), error)
        });
    }
    let codes = selector.error_code_path.texts(result);
    let fields = selector
        .error_field_path
        .as_ref()
        .map(|path| path.texts(result))
        .unwrap_or_default();
    let (outcome, error) = of_codes(&codes, &fields, &selector.outcomes);
    if !codes.is_empty() {
        return Err((outcome, error));
    }
    // Perhaps the file looks for success where there is none.
    let (path, there) = (
        &selector.success_path,
        kind(selector.success_path.first(result)),
    );
    let told = format!(
        "{}; its result has {there} at {path} and no code at {}",
        error.message(),
        selector.error_code_path
    );
    Err((outcome, Error::new(error.class(), error.code(), told)))
}

/// Why records have no result, in numbers.
fn no_result(selector: &ResultSelector, results: usize, slots: &[Option<&Value>]) -> String {
    let results = results_of(results, slots.len());
    let placed = slots.iter().flatten().count();
    let shows = if placed == 1 { "shows" } else { "show" };
    let told = "the target gave no result for this record: of";
    match &selector.index_path {
        Some(path) => format!("{told} {results}, {placed} {shows} the position of one at {path}"),
        None => format!("{told} {results}, {placed} hold anything"),
    }
}

fn without_result(
    selector: &ResultSelector,
    body: &Value,
    index: usize,
    told: &str,
) -> (Outcome, Error) {
    let codes: Vec<String> = selector
        .item_errors
        .iter()
        .flat_map(|errors| {
            let concerns = |error: &&Value| {
                let positions = errors.index_path.all(error);
                let last = positions.into_iter().filter_map(Value::as_u64).next_back();
                last == u64::try_from(index).ok()
            };
            let mine = errors.extractor.field_path.records(body).into_iter();
            mine.filter(concerns)
                .flat_map(|error| errors.error_code_path.texts(error))
                .collect::<Vec<_>>()
        })
        .collect();
    let known = codes
        .iter()
        .any(|code| selector.outcomes.contains_key(code));
    if known {
        return of_codes(&codes, &[], &selector.outcomes);
    }
    let error = Error::new(ErrorClass::TargetError, "target_result_missing", told);
    (Outcome::Class(ErrorClass::TargetError), error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selector() -> ResultSelector {
        serde_json::from_value(json!({
            "extractor": {"type": "DpathExtractor", "field_path": ["data", "x", "results"]},
            "index_path": ["index"],
            "success_path": ["success"],
            "id_path": ["id"],
            "confirmed_by": ["made"],
            "error_code_path": ["messages", "*", "code"],
            "error_field_path": ["messages", "*", "field"],
            "outcomes": {"DUPLICATE": "exists", "FORBIDDEN": "auth"},
            "item_errors": {
                "extractor": {"field_path": ["errors", "*"]},
                "index_path": ["path", "*"],
                "error_code_path": ["extensions", "code"],
            },
        }))
        .unwrap()
    }

    #[test]
    fn mixed_results_return_to_their_records() {
        let body = json!({
            "data": {"x": {"results": [
                {"index": 2, "success": false, "messages": [{"code": "DUPLICATE", "field": "number"}]},
                {"index": 0, "success": true, "id": 17, "made": 1},
                null,
                {"index": 1, "success": false, "messages": [{"code": "REQUIRED", "field": "city"}]},
                {"index": 5, "success": true, "made": 1},
                {"index": 6, "success": true, "id": 18, "made": null},
                {"index": 99, "success": true, "id": "stray"},
            ]}},
            "errors": [
                {"path": ["x", "results", 4], "extensions": {"code": "FORBIDDEN"}},
                {"path": ["x", "results", 3], "extensions": {"code": "INTERNAL_SERVER_ERROR"}},
            ],
        });
        assert_eq!(lacks(&selector(), &body, 7), None);
        let results = in_order(&selector(), &body, 7);
        let outcomes: Vec<_> = results
            .iter()
            .map(|result| {
                result
                    .as_ref()
                    .map_err(|(outcome, error)| (*outcome, error.code()))
            })
            .collect();
        use ErrorClass::{Auth, TargetError, Validation};
        assert_eq!(
            outcomes,
            [
                Ok(&"17".to_owned()),
                Err((Outcome::Class(Validation), "target_refused")),
                Err((Outcome::Exists, "target_record_exists")),
                Err((Outcome::Class(TargetError), "target_result_missing")),
                Err((Outcome::Class(Auth), "target_auth_refused")),
                Err((Outcome::Class(TargetError), "target_id_missing")),
                Err((Outcome::Class(TargetError), "target_id_missing")),
            ]
        );
        let (_, error) = results[1].as_ref().unwrap_err();
        assert_eq!(
            error.message(),
            "the target refused the record: REQUIRED on city"
        );
    }

    #[test]
    fn null_data_is_no_list() {
        let body = json!({"data": null, "errors": []});
        assert!(lacks(&selector(), &body, 2).is_some());
        assert!(in_order(&selector(), &body, 2).iter().all(Result::is_err));
    }
}
