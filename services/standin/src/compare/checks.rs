//! Collecting differences: expected against held, record by record and field by field.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Comparison, Mismatch};

/// Whether a record has to be at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    /// It may have been left out or sent, by what it looked like when it was first seen.
    Optional,
    Forbidden,
}

/// What is expected of one record.
pub(super) struct Expected {
    pub presence: Presence,
    /// JSON pointer and value; a `null` is as good as a missing field.
    pub fields: Vec<(&'static str, Value)>,
}

#[derive(Default)]
pub(super) struct Checks {
    compared: u64,
    mismatches: Vec<Mismatch>,
}

impl Checks {
    /// Compares one entity at one place. Everything held must be expected, and nothing may be
    /// there twice.
    pub(super) fn entity<'a>(
        &mut self,
        place: &'static str,
        entity: &'static str,
        expected: BTreeMap<String, Expected>,
        held: impl IntoIterator<Item = (String, &'a Value)>,
    ) {
        let mut found: BTreeMap<String, &Value> = BTreeMap::new();
        for (id, record) in held {
            if found.insert(id.clone(), record).is_some() {
                self.note(place, entity, &id, "is there twice".to_owned());
            }
        }
        for (id, expectation) in &expected {
            self.compared += 1;
            match (found.remove(id), expectation.presence) {
                (None, Presence::Required) => self.note(place, entity, id, "is missing".to_owned()),
                (Some(_), Presence::Forbidden) => {
                    self.note(place, entity, id, "should not be there".to_owned());
                }
                (Some(record), _) => self.fields(place, entity, id, record, &expectation.fields),
                (None, _) => {}
            }
        }
        for id in found.keys() {
            self.compared += 1;
            self.note(place, entity, id, "is not at the source".to_owned());
        }
    }

    fn fields(
        &mut self,
        place: &'static str,
        entity: &'static str,
        id: &str,
        record: &Value,
        fields: &[(&'static str, Value)],
    ) {
        for (pointer, wanted) in fields {
            let held = record.pointer(pointer).unwrap_or(&Value::Null);
            if !same(held, wanted) {
                self.note(
                    place,
                    entity,
                    id,
                    format!("{pointer} is {held}, not {wanted}"),
                );
            }
        }
    }

    fn note(&mut self, place: &'static str, entity: &'static str, id: &str, problem: String) {
        self.mismatches.push(Mismatch {
            place,
            entity,
            id: id.to_owned(),
            problem,
        });
    }

    pub(super) fn into_comparison(mut self) -> Comparison {
        self.mismatches.sort();
        Comparison {
            compared: self.compared,
            mismatches: self.mismatches,
        }
    }
}

/// Equal as people see it: 2 and 2.0 are the same number, a `null` in an object is no field.
fn same(held: &Value, wanted: &Value) -> bool {
    match (held, wanted) {
        (Value::Number(held), Value::Number(wanted)) => {
            let (held, wanted) = (held.as_f64(), wanted.as_f64());
            held.zip(wanted).is_some_and(|(h, w)| (h - w).abs() < 1e-9)
        }
        (Value::Array(held), Value::Array(wanted)) => {
            held.len() == wanted.len() && held.iter().zip(wanted).all(|(h, w)| same(h, w))
        }
        (Value::Object(held), Value::Object(wanted)) => {
            let mut names = held.keys().chain(wanted.keys());
            names.all(|name| same(part(held, name), part(wanted, name)))
        }
        _ => held == wanted,
    }
}

fn part<'a>(object: &'a Map<String, Value>, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expected(presence: Presence) -> Expected {
        Expected {
            presence,
            fields: vec![("/name", json!("A")), ("/gone", Value::Null)],
        }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let wanted = BTreeMap::from([
            ("fine".to_owned(), expected(Presence::Required)),
            ("missing".to_owned(), expected(Presence::Required)),
            ("differs".to_owned(), expected(Presence::Required)),
            ("left-out".to_owned(), expected(Presence::Optional)),
            ("forbidden".to_owned(), expected(Presence::Forbidden)),
        ]);
        let (good, bad) = (json!({ "name": "A" }), json!({ "name": "B" }));
        let held = [
            ("fine", &good),
            ("differs", &bad),
            ("forbidden", &good),
            ("surplus", &good),
            ("fine", &good),
        ];
        let mut checks = Checks::default();
        checks.entity(
            "one",
            "location",
            wanted,
            held.map(|(id, record)| (id.to_owned(), record)),
        );
        let comparison = checks.into_comparison();
        let problems: Vec<_> = comparison
            .mismatches
            .iter()
            .map(|m| (m.id.as_str(), m.problem.as_str()))
            .collect();
        assert_eq!(
            problems,
            [
                ("differs", "/name is \"B\", not \"A\""),
                ("fine", "is there twice"),
                ("forbidden", "should not be there"),
                ("missing", "is missing"),
                ("surplus", "is not at the source"),
            ]
        );
        assert_eq!(comparison.compared, 6);
    }

    #[test]
    fn values_are_compared_as_people_see_them() {
        assert!(same(&json!(2), &json!(2.0)));
        assert!(!same(&json!(2), &json!("2")));
        assert!(same(&json!([{ "a": 1, "b": null }]), &json!([{ "a": 1 }])));
        assert!(!same(&json!([{ "a": 1, "b": 2 }]), &json!([{ "a": 1 }])));
        assert!(!same(&json!([1]), &json!([1, 2])));
    }
}
