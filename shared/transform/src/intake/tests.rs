use proptest::prelude::*;
use serde_json::json;

use super::*;

fn records(format: Format, text: &str, options: &Options) -> Vec<Result<Value, &'static str>> {
    split(format, text.as_bytes(), options)
        .map(|record| record.map_err(|error| error.code()))
        .collect()
}

fn all(format: Format, text: &str) -> Vec<Result<Value, &'static str>> {
    records(format, text, &Options::default())
}

fn named(name: &str) -> Options {
    Options {
        records: Some(name.to_owned()),
        ..Options::default()
    }
}

#[test]
fn json_lists_objects_and_pointers() {
    let two = vec![Ok(json!({"a": 1})), Ok(json!({"a": [2]}))];
    assert_eq!(all(Format::Json, " [ {\"a\":1} , {\"a\":[2]} ] "), two);
    assert_eq!(all(Format::Json, "\u{feff}{\"a\":1}"), two[..1]);
    assert_eq!(all(Format::Json, "[]"), []);
    let nested = r#"{"data": {"items": [{"a":1},{"a":[2]}]}}"#;
    assert_eq!(records(Format::Json, nested, &named("/data/items")), two);
    assert_eq!(
        records(Format::Json, nested, &named("/nothing")),
        [Err("intake_malformed")]
    );
}

#[test]
fn a_broken_list_gives_what_came_before_the_break() {
    for text in [
        "[{\"a\":1},{\"a\":",
        "[{\"a\":1} {\"a\":2}]",
        "[{\"a\":1}] x",
        "[{\"a\":1},]",
    ] {
        assert_eq!(
            all(Format::Json, text),
            [Ok(json!({"a": 1})), Err("intake_malformed")],
            "{text}"
        );
    }
    assert_eq!(all(Format::Json, ""), [Err("intake_malformed")]);
    assert_eq!(
        all(Format::Json, "<html>down</html>"),
        [Err("intake_malformed")]
    );
}

#[test]
fn a_broken_line_leaves_the_others() {
    assert_eq!(
        all(
            Format::Ndjson,
            "{\"a\":1}\r\n\nhunter2\n{\"a\":\"\\ud800\"}\n{\"a\":2}"
        ),
        [
            Ok(json!({"a": 1})),
            Err("intake_malformed"),
            Err("intake_malformed"),
            Ok(json!({"a": 2}))
        ]
    );
    let error = split(Format::Ndjson, b"{}\nhunter2", &Options::default())
        .find_map(Result::err)
        .unwrap();
    assert!(error.message().contains("line 2"), "{error}");
    assert!(!error.message().contains("hunter2"), "{error}");
}

#[test]
fn csv_rows_become_objects_and_a_short_row_is_an_error_in_its_place() {
    assert_eq!(
        all(Format::Csv, "id, name\n007,\"Poe, Dana\"\n8\n9,Kim\n"),
        [
            Ok(json!({"id": "007", "name": "Poe, Dana"})),
            Err("intake_malformed"),
            Ok(json!({"id": "9", "name": "Kim"})),
        ]
    );
    assert_eq!(all(Format::Csv, "id,id\n1,2\n"), [Err("intake_malformed")]);
    assert_eq!(all(Format::Csv, ""), [Err("intake_malformed")]);
}

#[test]
fn xml_elements_become_objects() {
    let text = r#"<?xml version="1.0"?><s:Envelope xmlns:s="urn:x"><Units xmlns="">
        <Unit UniqueID="7" xmlns:q="urn:q"><q:Code> 12-304 </q:Code><Tag>a</Tag><Tag>b &amp; &#99;</Tag><Note/></Unit>
        <Unit UniqueID="8">text</Unit><Unit/></Units></s:Envelope>"#;
    assert_eq!(
        records(Format::Xml, text, &named("Unit")),
        [
            Ok(json!({"@UniqueID": "7", "Code": "12-304", "Tag": ["a", "b & c"], "Note": null})),
            Ok(json!({"@UniqueID": "8", "#text": "text"})),
            Ok(json!(null)),
        ]
    );
}

#[test]
fn broken_and_hostile_xml_is_refused() {
    let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><x><U>&a;</U></x>"#;
    assert_eq!(
        records(Format::Xml, bomb, &named("U")),
        [Err("intake_document_type")]
    );
    for text in [
        "<x><U>&a;</U></x>",
        "<x><U><a></U></x>",
        "<x><U>1",
        "<x><y>",
        &format!("<x><U>{}</U></x>", "<a>".repeat(200)),
    ] {
        let found = records(Format::Xml, text, &named("U"));
        assert_eq!(found, [Err("intake_malformed")], "{text}");
    }
    assert_eq!(all(Format::Xml, "<x/>"), [Err("intake_records_unnamed")]);
}

#[test]
fn size_count_and_encoding_are_bounded() {
    let small = Options {
        max_record: 10,
        max_records: 2,
        ..named("U")
    };
    let large = "x".repeat(50);
    let too_large = [Err("intake_record_too_large")];
    assert_eq!(
        records(Format::Ndjson, &format!("\"{large}\""), &small),
        too_large
    );
    assert_eq!(
        records(Format::Xml, &format!("<x><U>{large}</U></x>"), &small),
        too_large
    );
    let list = Options {
        records: None,
        ..small.clone()
    };
    assert_eq!(
        records(Format::Json, &format!("[\"{large}\"]"), &list),
        too_large
    );
    assert_eq!(
        records(Format::Json, "[1,2,3,4]", &list),
        [Ok(json!(1)), Ok(json!(2)), Err("intake_too_many_records")]
    );
    let utf16: Vec<u8> = "[]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bytes = [&[0xff, 0xfe], &utf16[..]].concat();
    let found: Vec<_> = split(Format::Json, &bytes, &Options::default()).collect();
    assert_eq!(found[0].as_ref().unwrap_err().code(), "intake_encoding");
}

proptest! {
    /// Any bytes end in records and errors, never in a panic or an endless list.
    #[test]
    fn any_input_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{},:\"<>/&a-c0-9 \n!]{0,80}") {
        for format in [Format::Json, Format::Ndjson, Format::Csv, Format::Xml] {
            for input in [&bytes[..], text.as_bytes()] {
                let options = Options { records: (format == Format::Xml).then(|| "a".to_owned()), ..Options::default() };
                prop_assert!(split(format, input, &options).count() <= 300);
            }
        }
    }
}
