use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::source::decode::{Decoder, Place};

fn path(text: &str) -> Vec<String> {
    let parts = text.split('/').filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

/// The records of a body as it is read into values, and as it is left text.
fn both(body: &str, at: &str) -> [Vec<Record>; 2] {
    let path = path(at);
    [false, true].map(|as_text| {
        let place = Place {
            path: &path,
            as_text,
        };
        let decoded = Decoder::Json
            .decode(body.as_bytes(), None, Some(place))
            .unwrap();
        match decoded.streamed {
            Some(records) => records,
            None => {
                let bodies = decoded.bodies.into_iter();
                let records =
                    bodies.flat_map(|body| crate::source::extract::records(body, &path).unwrap());
                records.map(Record::Value).collect()
            }
        }
    })
}

fn rows(body: &str, at: &str) -> Option<usize> {
    read(body, &path(at)).map(|rows| rows.records.len())
}

fn written(record: &Record) -> String {
    let mut out = Vec::new();
    record.write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn simple_pages_stay_text() {
    for (body, at, count) in [
        (r#"{"a": [{"id": 1}, {}], "n": null}"#, "a", 2),
        (r#"{"a": {"b": [{"id": 1}]}, "b": [{}]}"#, "a/b", 1),
        (r#"{"a": {"id": 1}}"#, "a", 1),
        (r#"{"a": {}}"#, "a", 0),
        (r#"{"a": null}"#, "a/b", 0),
        (r#"{"b": [1]}"#, "a", 0),
        ("{}", "a", 0),
        (r#" [ {"id" : 1 } , {"id":2}] "#, "", 2),
    ] {
        assert_eq!(rows(body, at), Some(count), "{body} {at}");
    }
}

#[test]
fn other_pages_are_read_into_values() {
    for (body, at) in [
        // The last one counts.
        (r#"{"a": [{"id": 1, "id": 2}]}"#, "a"),
        (r#"{"a": [{"x": {"id": 1, "\u0069d": 2}}]}"#, "a"),
        (r#"{"a": [{}], "a": []}"#, "a"),
        // Told as an error.
        (r#"{"a": [1]}"#, "a"),
        (r#"{"a": [[]]}"#, "a"),
        ("{", "a"),
        ("{} x", "a"),
        (r#"{"a": [{"n": 1e999}]}"#, "a"),
        (r#"{"a": [{"n": "\ud800"}]}"#, "a"),
        // Places that few pages have.
        (r#"{"a": [[{}]]}"#, "a/0"),
        (r#"[{"a": [{}]}]"#, "a"),
        (r#"{"id": 1}"#, ""),
        ("[{}]", ""),
        ("[]", ""),
        ("", "a"),
        ("1", "a"),
    ] {
        assert_eq!(rows(body, at), None, "{body} {at}");
    }
}

#[test]
fn a_page_that_stays_text_tells_its_errors_and_its_response() {
    for (body, at) in [
        (
            r#"{"a": [], "errors": [{"message": "x"}, {"code": 1, "detail": "y"}], "error": ""}"#,
            "a",
        ),
        (
            r#"[{"message": "x"}, {"id": 1, "failure": {"reason": "y"}}]"#,
            "",
        ),
        (
            r#"{"a": [{"id": 1}], "next": "\u00e9", "n": [1, {"x": 2.0}]}"#,
            "a",
        ),
    ] {
        let path = path(at);
        let [values, text] = [false, true].map(|as_text| {
            let place = Place {
                path: &path,
                as_text,
            };
            let decoded = Decoder::Json
                .decode(body.as_bytes(), None, Some(place))
                .unwrap();
            assert_eq!(decoded.streamed.is_some(), as_text);
            (decoded.error_text().into_owned(), decoded.for_templates())
        });
        assert_eq!(values, text, "{body}");
        assert_eq!(values.1.to_string(), text.1.to_string());
    }
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[a-c\"\\\\\n é]{0,2}"]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-c\"\\\\]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((key(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn mapping() -> impl Strategy<Value = Value> {
    proptest::collection::vec((key(), json_value()), 0..6)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
}

#[derive(Debug, Clone)]
enum Change {
    Set(Vec<String>, Value),
    Remove(Vec<String>),
    /// Only what is a text.
    RemoveTexts(Vec<String>),
}

fn change() -> impl Strategy<Value = Change> {
    let way = || proptest::collection::vec(prop_oneof![key(), Just("*".to_owned())], 1..3);
    prop_oneof![
        (proptest::collection::vec(key(), 1..3), json_value())
            .prop_map(|(at, value)| Change::Set(at, value)),
        way().prop_map(Change::Remove),
        way().prop_map(Change::RemoveTexts),
    ]
}

fn changed(mut record: Record, changes: &[Change]) -> (Record, Vec<bool>) {
    let done = changes.iter().map(|change| match change {
        Change::Set(at, value) => record.set(at, value.clone()).is_ok(),
        Change::Remove(at) => record
            .remove(at, None::<&fn(&Value) -> Result<bool>>)
            .is_ok(),
        Change::RemoveTexts(at) => record
            .remove(at, Some(&|value: &Value| Ok(value.is_string())))
            .is_ok(),
    });
    let done = done.collect();
    (record, done)
}

proptest! {
    /// Nothing tells whether a record was taken apart.
    #[test]
    fn rows_are_what_values_are(
        records in proptest::collection::vec(mapping(), 1..4),
        at in prop_oneof![Just(""), Just("a"), Just("a/b")],
        pretty in any::<bool>(),
        changes in proptest::collection::vec(change(), 0..4),
    ) {
        let body = match at {
            "" => json!(records),
            "a" => json!({"n": 1, "a": records, "x": {"a": []}}),
            _ => json!({"a": {"b": records, "c": 1}, "b": [1]}),
        };
        let body = match pretty {
            true => serde_json::to_string_pretty(&body).unwrap(),
            false => body.to_string(),
        };
        let [values, rows] = both(&body, at);
        prop_assert_eq!(values.len(), rows.len());
        for (value, row) in values.into_iter().zip(rows) {
            let (value, done) = changed(value, &changes);
            let (row, row_done) = changed(row, &changes);
            prop_assert_eq!(done, row_done);
            prop_assert_eq!(written(&value), written(&row));
            for key in value.clone().into_map().keys() {
                prop_assert_eq!(value.get(key), row.get(key));
            }
            prop_assert_eq!(value.get("d").is_none(), row.get("d").is_none());
            let [value_seen, row_seen] = [&value, &row].map(|record| Record::shared(&Arc::new(record.clone())));
            prop_assert_eq!(value_seen.to_string(), row_seen.to_string());
            prop_assert_eq!(value_seen, row_seen);
            prop_assert_eq!(value.into_value(), row.into_value());
        }
    }

    #[test]
    fn any_text_is_read_as_its_values_are(text in "[\\[\\]{}:,\" a1.e-]{0,30}", at in prop_oneof![Just(""), Just("a")]) {
        if let (Some(rows), Ok(value)) = (read(&text, &path(at)), serde_json::from_str::<Value>(&text)) {
            let [values, _] = both(&text, at);
            prop_assert_eq!(rows.records.len(), values.len(), "{}", value);
        }
    }
}
