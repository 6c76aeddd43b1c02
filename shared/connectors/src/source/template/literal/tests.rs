use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn literals_become_values() {
    for (text, value) in [
        ("123", json!(123)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        (" 5", json!(5)),
        ("1_000", json!(1000)),
        ("0x10", json!(16)),
        ("0b1", json!(1)),
        ("0o7", json!(7)),
        ("1e5", json!(1e5)),
        ("1.0", json!(1.0)),
        ("2.", json!(2.0)),
        (".5", json!(0.5)),
        ("000", json!(0)),
        ("True", json!(true)),
        ("False", json!(false)),
        ("None", json!(null)),
        ("1,2", json!([1, 2])),
        ("(1,2)", json!([1, 2])),
        ("(1)", json!(1)),
        ("()", json!([])),
        ("1,", json!([1])),
        ("'x'", json!("x")),
        ("\"x\"", json!("x")),
        ("'a' 'b'", json!("ab")),
        ("'it\\'s\\n'", json!("it's\n")),
        ("r'\\d'", json!("\\d")),
        ("[1, 'a', None]", json!([1, "a", null])),
        ("{\"a\": 1}", json!({"a": 1})),
        ("{'a': True, 1: [2]}", json!({"a": true, "1": [2]})),
        ("'''a\nb'''", json!("a\nb")),
        ("[\n1,\n]", json!([1])),
    ] {
        assert_eq!(read(text), Some(value), "{text}");
    }
}

#[test]
fn everything_else_stays_text() {
    for text in [
        "00123",
        "1.0.0",
        "10.0.0.1",
        "2024-10-11",
        "true",
        "null",
        "nan",
        "inf",
        "{\"a\": true}",
        "1j",
        "...",
        "b'a'",
        "{1,2}",
        "",
        " ",
        "abc",
        "a,b",
        "[1",
        "'x",
        "1_",
        "_1",
        "1__0",
        "1 2",
        "[1 2]",
        "99999999999999999999999",
        "{'a'}",
        "Trueish",
        "1e",
        "0x",
        "- ",
        "--5",
        "1_e5",
        "1e_5",
        "2024-01-01T00:00:00Z",
        "<a/>",
        "#",
        "'a' + 'b'",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn deep_nesting_is_no_literal() {
    assert_eq!(read(&"[".repeat(100_000)), None);
    assert_eq!(
        read(&format!("{}{}", "[".repeat(500), "]".repeat(500))),
        None
    );
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e15_f64..1e15).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    /// What Python's `repr` writes, the literal reader reads back.
    #[test]
    fn printed_values_are_read_back(value in json_value()) {
        prop_assert_eq!(read(&crate::source::template::python::repr(&value)), Some(value));
    }

    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn texts_of_literal_characters_are_read_without_panic(text in "[-+0-9a-fxoe_.,'\"\\[\\](){}: TrueNon\\\\]{0,40}") {
        let _ = read(&text);
    }
}
