//! Identities of raw records: pure decisions.

use std::collections::HashMap;

use serde_json::Value;
use sluice_core::{Hash, Timestamp, record::RecordRef};

/// The id of a raw record by the stream's primary key, trimmed; several fields are joined by `/`.
/// `None` when there is no key, or a part of it is missing, empty, or no text or number.
pub fn by_primary_key(raw: &Value, primary_key: &[String]) -> Option<String> {
    if primary_key.is_empty() {
        return None;
    }
    let parts: Option<Vec<String>> = primary_key
        .iter()
        .map(|field| match raw.get(field)? {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    Some(parts?.join("/"))
}

/// The stand-in id of a record that cannot be identified; equal for equal content, so that the
/// same faulty record does not pile up.
pub fn unidentified(hash: Hash) -> String {
    format!("unidentified:{hash}")
}

/// Which of several canonical records of one page carry an id that another one carries, too, and
/// lose: of each id the most recently modified one is kept, of equals the last. Records without a
/// time count as equals of all.
pub fn superseded(records: &[(RecordRef, Option<Timestamp>)]) -> Vec<bool> {
    let mut winners: HashMap<&RecordRef, (usize, Option<Timestamp>)> = HashMap::new();
    let mut lost = vec![false; records.len()];
    for (index, (id, modified_at)) in records.iter().enumerate() {
        let Some(winner) = winners.get_mut(id) else {
            winners.insert(id, (index, *modified_at));
            continue;
        };
        let older = matches!((*modified_at, winner.1), (Some(this), Some(best)) if this < best);
        let loser = if older {
            index
        } else {
            std::mem::replace(winner, (index, modified_at.or(winner.1))).0
        };
        if let Some(mark) = lost.get_mut(loser) {
            *mark = true;
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key(fields: &[&str]) -> Vec<String> {
        fields.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ids_are_trimmed_joined_and_never_invented() {
        let raw = json!({"a": " x ", "n": 7, "empty": "  ", "null": null, "list": [1]});
        assert_eq!(by_primary_key(&raw, &key(&["a"])).as_deref(), Some("x"));
        assert_eq!(
            by_primary_key(&raw, &key(&["a", "n"])).as_deref(),
            Some("x/7")
        );
        for missing in ["empty", "null", "list", "absent"] {
            assert_eq!(
                by_primary_key(&raw, &key(&["a", missing])),
                None,
                "{missing}"
            );
        }
        assert_eq!(by_primary_key(&raw, &[]), None);
    }

    proptest! {
        /// I2, I6: of each id exactly one is kept, and none of the others is newer.
        #[test]
        fn one_of_each_id_is_kept_and_it_is_the_newest(
            records in proptest::collection::vec((0_u8..5, proptest::option::of(0_i64..4)), 0..40),
        ) {
            let records: Vec<_> = records
                .into_iter()
                .map(|(id, second)| {
                    let id = RecordRef { entity_type: "Location".into(), source_id: id.to_string() };
                    (id, second.and_then(|second| Timestamp::from_timestamp(second, 0)))
                })
                .collect();
            let lost = superseded(&records);
            for (id, _) in &records {
                let same = || records.iter().zip(&lost).filter(|((other, _), _)| other == id);
                let kept: Vec<_> = same().filter(|(_, lost)| !**lost).map(|((_, at), _)| *at).collect();
                prop_assert_eq!(kept.len(), 1);
                let newest = same().filter_map(|((_, at), _)| *at).max();
                if let (Some(kept), Some(newest)) = (kept[0], newest) {
                    prop_assert!(kept >= newest);
                }
            }
        }
    }

    #[test]
    fn of_equals_the_last_is_kept() {
        let id = RecordRef {
            entity_type: "Location".into(),
            source_id: "a".into(),
        };
        let at = Timestamp::from_timestamp(5, 0);
        assert_eq!(
            superseded(&[(id.clone(), at), (id.clone(), None), (id, at)]),
            [true, true, false]
        );
    }
}
