use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Schemas, fixtures};

/// A shipped connector, read from its folder.
fn shipped(name: &str) -> ConnectorFiles {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../connectors/systems")
        .join(name);
    let mut files = BTreeMap::new();
    for folder in ["to_canonical", "from_canonical", "fixtures/mapping"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            let text: Arc<str> = std::fs::read_to_string(&path).unwrap().into();
            files.insert(format!("{folder}/{file}"), text);
        }
    }
    ConnectorFiles {
        name: name.to_owned(),
        files,
    }
}

fn rules(path: &str, source: &str) -> ConnectorFiles {
    ConnectorFiles {
        name: "test".to_owned(),
        files: BTreeMap::from([(path.to_owned(), source.into())]),
    }
}

fn map(source: &str, raw: &Value) -> Result<Mapped> {
    Mapper::load(&rules("to_canonical/s.vrl", source))?.to_canonical(
        "s",
        raw,
        &json!({}),
        &json!({}),
    )
}

#[test]
fn shipped_fixtures_pass() {
    for (name, least) in [("yardi", 35), ("one", 25), ("lessen360", 22)] {
        let report = fixtures::run(&shipped(name)).unwrap();
        let failed: Vec<_> = report
            .cases
            .iter()
            .filter(|case| !case.differences.is_empty())
            .collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert!(report.passed() >= least, "{name}: only {}", report.passed());
    }
}

#[test]
fn a_wrong_expectation_fails_with_its_place() {
    let mut files = rules(
        "to_canonical/s.vrl",
        r#"{"entity_type": "Location", "source_id": .id, "data": {"name": .name}}"#,
    );
    let fixture =
        "- name: n\n  stream: s\n  raw: {id: '1', name: A}\n  expect: {violations: [' other']}\n";
    files
        .files
        .insert("fixtures/mapping/s.yaml".into(), fixture.into());
    let report = fixtures::run(&files).unwrap();
    assert_eq!((report.passed(), report.failed()), (0, 1));
    assert_eq!(report.cases[0].differences[0].path, "/violations");
    files.files.insert(
        "fixtures/mapping/s.yaml".into(),
        "- name: n\n  strem: s\n  expect: {skip: x}\n".into(),
    );
    assert_eq!(fixtures::run(&files).unwrap_err().code(), "fixture_invalid");
}

#[test]
fn faults_in_rules_name_file_and_line() {
    let mut files = rules("to_canonical/s.vrl", "x = 1\n\ny = upcase(.name)\n");
    files
        .files
        .insert("to_canonical/_common.vrl".into(), "# first\nz = 2\n".into());
    files.files.insert(
        "from_canonical/Location.vrl".into(),
        "{\"a\": nothing}".into(),
    );
    let error = Mapper::load(&files).unwrap_err();
    assert_eq!(error.code(), "mapping_invalid");
    let text = error.message();
    assert!(
        text.contains("test/to_canonical/s.vrl line 3: `y = upcase(.name)`"),
        "{text}"
    );
    assert!(
        text.contains("test/from_canonical/Location.vrl line 1"),
        "{text}"
    );
    assert!(!text.contains("_common.vrl line"), "{text}");
}

#[test]
fn a_failure_at_work_names_the_line_and_no_value() {
    let raw = json!({"id": "1", "size": "hunter2"});
    let error = map("\n.x = to_int!(.size)\n.", &raw).unwrap_err();
    assert_eq!(error.code(), "mapping_failed");
    assert_eq!(error.class(), sluice_core::ErrorClass::Validation);
    let text = error.chain();
    assert!(
        text.contains("test/to_canonical/s.vrl line 2: `.x = to_int!(.size)`: `to_int` failed"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let error = map("abort \"no unit\"", &raw).unwrap_err();
    assert!(error.message().contains("no unit"), "{error}");
}

#[test]
fn output_is_read_strictly() {
    let fine = r#"{"entity_type": "Location", "source_id": " 1 ", "data": {"a": "x"#.to_owned()
        + "\\u{0}y\"}, \"modified_at\": t'2025-03-05T16:02:31Z', \"priority\": 1}";
    let Mapped::Records(records) = map(&fine, &json!({})).unwrap() else {
        panic!("a record expected");
    };
    assert_eq!(records[0].source_id, "1");
    assert_eq!(records[0].data, json!({"a": "xy"}));
    assert_eq!(records[0].modified_at.unwrap().timestamp(), 1_741_190_551);
    for (source, code, word) in [
        (
            r#"{"entity_type": "L", "source_id": "1", "data": {}, "prioritty": 1}"#,
            "mapping_failed",
            "prioritty",
        ),
        (
            r#"{"entity_type": "L", "source_id": "1"}"#,
            "mapping_failed",
            "data",
        ),
        (
            r#"{"entity_type": "L", "source_id": " ", "data": {}}"#,
            "source_id_missing",
            "source_id",
        ),
        (
            r#"{"entity_type": "L", "data": {}}"#,
            "source_id_missing",
            "source_id",
        ),
        (
            r#"{"entity_type": "L", "source_id": 1, "data": {}}"#,
            "mapping_failed",
            "source_id",
        ),
        (
            r#"{"entity_type": "L", "source_id": "1", "data": {}, "priority": 11}"#,
            "mapping_failed",
            "priority",
        ),
        (
            r#"{"entity_type": "L", "source_id": "1", "data": {}, "modified_at": "soon"}"#,
            "mapping_failed",
            "modified_at",
        ),
        (
            r#"{"entity_type": "L", "source_id": "1", "data": {}, "parents": [{"entity_type": "L"}]}"#,
            "source_id_missing",
            "source_id",
        ),
        (r#"{"skip": "x", "data": {}}"#, "mapping_failed", "skip"),
        ("\"text\"", "mapping_failed", "a record"),
    ] {
        let error = map(source, &json!({})).unwrap_err();
        assert_eq!(error.code(), code, "{source}");
        assert!(error.message().contains(word), "{error}");
    }
    assert_eq!(
        map(".", &json!([1])).unwrap_err().code(),
        "record_not_object"
    );
    let mapper = Mapper::load(&rules("x", "")).unwrap();
    let error = mapper.to_canonical("s", &json!({}), &json!({}), &json!({}));
    assert_eq!(error.unwrap_err().code(), "mapping_missing");
}

#[test]
fn nulls_are_left_out_of_new_records_and_clear_fields_of_linked_ones() {
    let mapper = Mapper::load(&rules(
        "from_canonical/Location.vrl",
        r#"{"id": .entity_id, "a": null, "b": {"c": null, "d": 1}, "e": {"f": null}}"#,
    ))
    .unwrap();
    let send = |external_id| {
        let input = OutgoingInput {
            data: &json!({}),
            source_system: "yardi",
            source_id: "1",
            entity_id: "y:1",
            parents: &[],
            external_id,
            deleted: false,
            version: 1,
        };
        mapper
            .from_canonical(&"Location".into(), &input, &json!({}))
            .unwrap()
    };
    assert_eq!(
        send(None),
        Outgoing::Send(json!({"id": "y:1", "b": {"d": 1}}))
    );
    assert_eq!(
        send(Some("x")),
        Outgoing::Send(json!({"id": "y:1", "a": null, "b": {"d": 1}, "e": null}))
    );
}

#[test]
fn rules_cannot_reach_clock_chance_network_or_environment() {
    let names: Vec<_> = crate::functions::all()
        .iter()
        .map(|function| function.identifier())
        .collect();
    assert!(names.contains(&"text") && names.contains(&"upcase"));
    for name in [
        "now",
        "random_int",
        "uuid_v4",
        "uuid_v7",
        "log",
        "get_env_var",
        "get_hostname",
        "dns_lookup",
        "reverse_dns",
        "http_request",
    ] {
        assert!(!names.contains(&name), "{name}");
    }
}

#[test]
fn a_mapping_that_never_ends_is_stopped() {
    let list: Vec<_> = (0..1100).collect();
    let source = "n = 0\nfor_each(array!(.l)) -> |_i, _a| { for_each(array!(.l)) -> |_j, _b| { n = n + 1 } }\n.";
    let error = map(source, &json!({ "l": list })).unwrap_err();
    assert!(error.message().contains("too many steps"), "{error}");
}

/// One request followed from Yardi to both targets.
#[test]
fn one_record_followed() {
    let raw = json!({
        "ServiceRequestId": "51877", "PropertyCode": "oakrun ", "UnitCode": "12-304", "TenantCode": "t0091234",
        "ServiceRequestBriefDescription": "Kitchen sink drains very slowly, wa",
        "ServiceRequestFullDescription": "Kitchen sink drains very slowly, water backs up & smells",
        "Priority": "High", "Category": "Plumbing", "SubCategory": "Drain", "HasPermissionToEnter": "True",
        "RequestorName": "*Dana Poe", "RequestorPhoneNumber": "(555) 210-4477", "RequestorEmail": "dana@example.test",
        "ServiceRequestDate": "3/4/2025", "UpdateDate": "2025-03-05T16:02:31", "CurrentStatus": "In Progress",
        "StatusHistory": {"Status": {"@Type": "", "@TimeStamp": "2025-03-04T09:10:02"}},
    });
    let yardi = Mapper::load(&shipped("yardi")).unwrap();
    let mapped = yardi
        .to_canonical("service_requests", &raw, &json!({}), &json!({}))
        .unwrap();
    let Mapped::Records(records) = mapped else {
        panic!("a record expected");
    };
    let record = &records[0];
    let schemas = Schemas::shipped().unwrap();
    assert_eq!(schemas.check(&record.entity_type, &record.data), Ok(()));
    insta::assert_yaml_snapshot!("canonical", record);
    for (target, unit) in [("one", "yardi-main:oakrun-12-304"), ("lessen360", "p_81")] {
        let parents = [(record.parents[0].clone(), unit.to_owned())];
        let input = OutgoingInput {
            data: &record.data,
            source_system: "yardi",
            source_id: &record.source_id,
            entity_id: "yardi-main:51877",
            parents: &parents,
            external_id: None,
            deleted: false,
            version: 1,
        };
        let sent = Mapper::load(&shipped(target))
            .unwrap()
            .from_canonical(&record.entity_type, &input, &json!({}))
            .unwrap();
        let Outgoing::Send(body) = sent else {
            panic!("a body expected");
        };
        insta::assert_yaml_snapshot!(target, body);
    }
}

/// The source id depends on the property's and unit's codes alone, and different ones never meet.
#[test]
fn different_units_never_share_an_id() {
    let yardi = Mapper::load(&shipped("yardi")).unwrap();
    let mut ids = std::collections::BTreeMap::new();
    let codes = ["a", "A", "b", "a-b", "A-B", "ab", "a-b-b"];
    for property in codes {
        for unit in ["", "a", "b", "b-b", "b-b-b", "/b", "B"] {
            let (stream, raw) = if unit.is_empty() {
                ("properties", json!({ "Code": property }))
            } else {
                ("units", json!({ "PropertyCode": property, "UnitID": unit }))
            };
            let Mapped::Records(records) = yardi
                .to_canonical(stream, &raw, &json!({}), &json!({}))
                .unwrap()
            else {
                panic!("a record expected");
            };
            let place = (property.to_owned(), unit.to_owned());
            if let Some(other) = ids.insert(records[0].source_id.clone(), place.clone()) {
                // A property's own id takes no notice of letter case: it is one code at the vendor.
                let same = other.0.eq_ignore_ascii_case(&place.0) && other.1 == place.1;
                assert!(
                    same,
                    "{other:?} and {place:?} are both {}",
                    records[0].source_id
                );
            }
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("2025-02-31")),
        Just(Value::from("t0091234")),
    ];
    let names = prop::sample::select(vec![
        "Code",
        "PropertyCode",
        "UnitID",
        "UnitCode",
        "#text",
        "@UniqueID",
        "@Type",
        "@TimeStamp",
        "Unit",
        "Address",
        "City",
        "Identification",
        "IDValue",
        "Name",
        "FirstName",
        "Phone",
        "HomeNumber",
        "Lease",
        "LeaseFromDate",
        "OtherOccupants",
        "ServiceRequestId",
        "StatusHistory",
        "Status",
        "UpdateDate",
        "ServiceRequestDate",
        "RequestorName",
        "AttachmentId",
        "FileName",
        "FileData",
        "data",
        "name",
        "full",
        "requester",
        "phone",
        "size",
        "created_at",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a source sends, a mapping gives records, a reason to skip, or an error.
    #[test]
    fn mappings_never_panic(raw in any_json(), slice in any_json(), config in any_json()) {
        static RULES: LazyLock<(Mapper, [Mapper; 2], Schemas)> = LazyLock::new(|| {
            let load = |name| Mapper::load(&shipped(name)).unwrap();
            (load("yardi"), ["one", "lessen360"].map(load), Schemas::shipped().unwrap())
        });
        let (yardi, targets, schemas) = &*RULES;
        for stream in yardi.streams() {
            if let Ok(Mapped::Records(records)) = yardi.to_canonical(stream, &raw, &slice, &config) {
                for record in records {
                    prop_assert!(!record.source_id.is_empty());
                    let _checked = schemas.check(&record.entity_type, &record.data);
                }
            }
        }
        for mapper in targets {
            for entity in mapper.entities() {
                let input = OutgoingInput {
                    data: &raw, source_system: "s", source_id: "1", entity_id: "c:1",
                    parents: &[], external_id: None, deleted: false, version: 1,
                };
                let _sent = mapper.from_canonical(entity, &input, &config);
            }
        }
    }
}
