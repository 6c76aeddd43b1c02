//! The scripted system as a connector: files in a folder, as an integration engineer writes them.

use std::{fs, path::Path};

/// `manifest.yaml`; the locations come as XML when `xml` holds.
fn manifest(xml: bool) -> String {
    let (decoder, root) = if xml {
        ("{type: XmlDecoder}", "root, ")
    } else {
        ("{type: JsonDecoder}", "")
    };
    let next = if xml {
        "response.root.next"
    } else {
        "response.next"
    };
    MANIFEST
        .replace("DECODER", decoder)
        .replace("ROOT", root)
        .replace("NEXT", next)
}

const MANIFEST: &str = r#"
version: "6.0.0"
type: DeclarativeSource
check: {type: CheckStream, stream_names: [locations]}
metadata:
  sluice:
    streams:
      - {name: locations, entity_type: Location}
      - {name: requests, entity_type: ServiceRequest}
definitions:
  paged: &paged
    type: SimpleRetriever
    record_selector:
      type: RecordSelector
      extractor: {type: DpathExtractor, field_path: [items]}
    paginator:
      type: DefaultPaginator
      page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
      pagination_strategy:
        type: CursorPagination
        cursor_value: "{{ response.next }}"
        stop_condition: "{{ not response.next }}"
streams:
  - type: DeclarativeStream
    name: locations
    primary_key: [id]
    retriever:
      type: SimpleRetriever
      decoder: DECODER
      record_selector:
        type: RecordSelector
        extractor: {type: DpathExtractor, field_path: [ROOTitems]}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy:
          type: CursorPagination
          cursor_value: "{{ NEXT }}"
          stop_condition: "{{ not NEXT }}"
      requester:
        type: HttpRequester
        url_base: "{{ config['base_url'] }}"
        path: /source/locations
        http_method: GET
  - type: DeclarativeStream
    name: requests
    primary_key: [id]
    retriever:
      <<: *paged
      requester:
        type: HttpRequester
        url_base: "{{ config['base_url'] }}"
        path: /source/requests
        http_method: GET
"#;

const LOCATIONS: &str = r#"
if .kind == "ghost" {
  return {"skip": "pseudo location"}
}
{
  "entity_type": "Location",
  "source_id": to_string(.id) ?? "",
  "data": {
    "kind": "property",
    "number": to_string(.id) ?? "",
    "name": .name,
    "property_code": to_string(.id) ?? "",
    "address": {},
    "active": true,
  },
  "modified_at": .at,
  "deleted": .gone == true,
}
"#;

const REQUESTS: &str = r#"
{
  "entity_type": "ServiceRequest",
  "source_id": to_string(.id) ?? "",
  "data": {
    "number": to_string(.id) ?? "",
    "property_code": to_string(.location) ?? "",
    "summary": .name,
    "created_at": "2026-01-02T03:04:05Z",
    "time_zone": "UTC",
    "requester": {},
  },
  "parents": [{"entity_type": "Location", "source_id": .location}],
}
"#;

const LOCATION_OUT: &str = r#"
{"ref": .entity_id, "name": .data.name}
"#;

const REQUEST_OUT: &str = r#"
{"ref": .entity_id, "name": .data.summary, "location": .parent.Location}
"#;

/// How a target keeps a repeated create from making a second record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Lookup,
    Key,
    Nothing,
}

/// `operations.yaml`.
fn operations(certainty: Certainty) -> String {
    let key = match certainty {
        Certainty::Key => r#"request_headers: {Idempotency-Key: "{{ idempotency_key }}"}, "#,
        Certainty::Lookup | Certainty::Nothing => "",
    };
    let mut text = r#"
type: DeclarativeTarget
version: 1
defaults:
  type: HttpRequester
  url_base: "{{ config['base_url'] }}"
  http_method: POST
check:
  requester: {http_method: GET, path: /target/Location, request_parameters: {ref: none}}
entities:
"#
    .to_owned();
    for entity in ["Location", "ServiceRequest"] {
        text.push_str(&format!(
            r#"
  {entity}:
    create:
      type: RecordWrite
      requester: {{path: /target/{entity}, {key}request_body_json: "{{{{ body }}}}"}}
      id_path: [id]
    update:
      type: RecordWrite
      requester:
        http_method: PUT
        path: "/target/{entity}/{{{{ external_id }}}}"
        request_body_json: "{{{{ body }}}}"
      id_path: [id]
    delete:
      type: RecordWrite
      requester: {{http_method: DELETE, path: "/target/{entity}/{{{{ external_id }}}}"}}
"#
        ));
        if certainty == Certainty::Lookup {
            text.push_str(&format!(
                r#"
    lookup:
      batch_size: 10
      requester:
        http_method: GET
        path: /target/{entity}
        request_parameters: {{ref: "{{{{ entity_ids }}}}"}}
      extractor: {{type: DpathExtractor, field_path: [items, "*"]}}
      reference_path: [ref]
      id_path: [id]
"#
            ));
        }
    }
    text
}

/// Writes the connectors: `scripted` and `tabloid` to read, `keeper` to write, `forgetful` to write to but
/// not to look up in, `keyed` to write to with idempotency keys and nothing else.
pub fn write(dir: &Path) {
    let file = |path: &str, text: &str| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (name, xml) in [("scripted", false), ("tabloid", true)] {
        file(&format!("{name}/manifest.yaml"), &manifest(xml));
        file(&format!("{name}/to_canonical/locations.vrl"), LOCATIONS);
        file(&format!("{name}/to_canonical/requests.vrl"), REQUESTS);
    }
    for (name, certainty) in [
        ("keeper", Certainty::Lookup),
        ("keyed", Certainty::Key),
        ("forgetful", Certainty::Nothing),
    ] {
        file(&format!("{name}/operations.yaml"), &operations(certainty));
        file(&format!("{name}/from_canonical/Location.vrl"), LOCATION_OUT);
        file(
            &format!("{name}/from_canonical/ServiceRequest.vrl"),
            REQUEST_OUT,
        );
    }
}

/// From now on the mapping for `keyed` makes something else of the same location.
pub fn change_mapping(dir: &Path) {
    let rules = r#"{"ref": .entity_id, "name": .data.name, "edition": "second"}"#;
    fs::write(dir.join("keyed/from_canonical/Location.vrl"), rules).unwrap();
}
