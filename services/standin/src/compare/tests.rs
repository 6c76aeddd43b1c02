//! A small world in which everything agrees, and every one of its fields changed in turn.

mod world;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::world::{Held, lessen360, master, merged, one, world, yardi};
use super::*;

fn mismatches(held: &Held) -> Vec<Mismatch> {
    let comparison = compare(&Places {
        source: "yardi",
        yardi: &yardi(),
        one: &held.one,
        lessen360: &held.lessen360,
        master: &held.master,
    });
    comparison.mismatches
}

/// Pointers of all values that have no parts.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(parts) => {
            for (name, part) in parts {
                leaves(part, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(parts) if !parts.is_empty() => {
            for (index, part) in parts.iter().enumerate() {
                leaves(part, &format!("{at}/{index}"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

fn another(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_f64().unwrap_or_default() + 1.0),
        // Of a file's content too: it stays Base64.
        Value::String(text) => json!(format!("QUFB{text}")),
        _ => json!("QUFB"),
    }
}

/// Changes every field of the records in turn, and takes it away; the pointers of those whose
/// change nobody noticed.
fn unnoticed(record: &Value, compare_with: impl Fn(Value) -> bool) -> BTreeSet<String> {
    let mut pointers = Vec::new();
    leaves(record, "", &mut pointers);
    let blind = pointers.into_iter().filter(|pointer| {
        [true, false].into_iter().any(|change| {
            let mut changed = record.clone();
            let Some(value) = changed.pointer_mut(pointer) else {
                return true;
            };
            *value = match change {
                true => another(value),
                false => Value::Null,
            };
            !compare_with(changed)
        })
    });
    blind.collect()
}

#[test]
fn a_world_in_agreement_has_no_mismatch() {
    assert_eq!(mismatches(&world()), []);
}

#[test]
fn a_change_of_any_field_that_one_was_sent_is_found() {
    let mut blind = BTreeSet::new();
    for (kind, records) in one() {
        for (index, record) in records.iter().enumerate() {
            let found = unnoticed(record, |changed| {
                let mut held = world();
                held.one.get_mut(&kind).unwrap()[index] = changed;
                !mismatches(&held).is_empty()
            });
            blind.extend(found.into_iter().map(|pointer| format!("{kind}{pointer}")));
        }
    }
    assert_eq!(blind, BTreeSet::new());
}

#[test]
fn a_change_of_any_field_that_lessen360_was_sent_is_found() {
    let mut blind = BTreeSet::new();
    for (kind, records) in lessen360() {
        for (index, record) in records.iter().enumerate() {
            let found = unnoticed(record, |changed| {
                let mut held = world();
                held.lessen360.get_mut(&kind).unwrap()[index] = changed;
                !mismatches(&held).is_empty()
            });
            blind.extend(found.into_iter().map(|pointer| format!("{kind}{pointer}")));
        }
    }
    // What the vendor counts itself, and the version of the master record.
    blind.retain(|pointer| {
        !["/writes", "/version"]
            .iter()
            .any(|end| pointer.ends_with(end))
    });
    assert_eq!(blind, BTreeSet::new());
}

#[test]
fn a_change_of_any_field_of_the_master_data_is_found() {
    let mut blind = BTreeSet::new();
    for (index, record) in master().iter().enumerate() {
        let found = unnoticed(&record.data, |changed| {
            let mut held = world();
            held.master[index].data = changed;
            !mismatches(&held).is_empty()
        });
        let entity = &record.entity_type;
        blind.extend(
            found
                .into_iter()
                .map(|pointer| format!("{entity}{pointer}")),
        );
    }
    let known = [
        // Spelled as the answer happened to spell it.
        "ServiceRequest/created_text",
        // A file that is added does not touch the request.
        "ServiceRequest/has_attachments",
    ];
    assert_eq!(blind, known.map(str::to_owned).into_iter().collect());
}

#[test]
fn a_new_work_order_has_no_status_of_the_source_yet() {
    let mut held = world();
    let work_order = &mut held.lessen360.get_mut("work_order").unwrap()[0];
    work_order["writes"] = json!(1);
    work_order["status"] = json!("PENDING_ACCEPTANCE");
    assert_eq!(mismatches(&held), []);
}

#[test]
fn one_may_number_names_that_files_share() {
    let mut yardi = yardi();
    let files = yardi.get_mut("attachment").unwrap();
    files.push(merged(&files[0], json!({ "attachmentId": "700002" })));
    let truth = rules::Truth::read(&yardi);
    let check = |first: &str, second: &str| {
        let mut held = one();
        let files = held.get_mut("attachment").unwrap();
        files.push(merged(
            &files[0],
            json!({ "attachmentNumber": "yardi:700002" }),
        ));
        files[0]["fileName"] = json!(first);
        files[1]["fileName"] = json!(second);
        let mut checks = checks::Checks::default();
        one::compare(&truth, "yardi", &held, &mut checks);
        checks.into_comparison().mismatches.len()
    };
    assert_eq!(check("sink.JPG", "sink (2).JPG"), 0);
    assert_eq!(check("sink (2).JPG", "sink.JPG"), 0);
    assert_eq!(check("sink.JPG", "sink (3).JPG"), 1);
}
