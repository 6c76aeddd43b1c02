use super::*;

const SMALL: &str = r#"
type: DeclarativeTarget
version: 1
defaults: {url_base: "{{ config['base_url'] }}", http_method: POST}
check: {requester: {path: /ping}}
entities:
  Location:
    create: {type: RecordWrite, requester: {path: /a, request_body_json: "{{ body }}"}, id_path: [id]}
"#;

fn load(text: &str) -> Result<Target> {
    let config = SecretConfig::new(json!({"base_url": "http://127.0.0.1:9", "secret": CANARY}));
    let http = HttpClient::new("acme", &config, Limiter::new(&[]), HttpOptions::default())?;
    let files = ConnectorFiles {
        name: "acme".to_owned(),
        files: [("operations.yaml".to_owned(), text.into())].into(),
    };
    Target::load(&files, "acme-1", config, http)
}

#[test]
fn shipped_targets_load_and_name_their_entities() {
    for connector in ["one", "lessen360"] {
        let target = target(connector, "http://127.0.0.1:9");
        let names = ["Location", "Resident", "ServiceRequest", "Attachment"].map(EntityType::from);
        assert_eq!(target.entities(), names);
        assert!(!format!("{target:?}").contains(CANARY));
    }
    let one = target("one", "http://127.0.0.1:9");
    assert_eq!(
        one.batch_size(&entity("Location"), PushOperation::Create),
        25
    );
    assert_eq!(
        one.batch_size(&entity("Attachment"), PushOperation::Create),
        1
    );
    assert_eq!(one.batch_size(&entity("Unknown"), PushOperation::Create), 1);
}

/// What an engineer gets wrong is named with its place.
#[test]
fn mistakes_name_the_file_and_the_path() {
    load(SMALL).unwrap();
    for (from, to, expected) in [
        (
            "version: 1",
            "version: 2",
            "acme/operations.yaml: version: only 1 is known",
        ),
        (
            "http_method: POST}",
            "http_methode: POST}",
            "acme/operations.yaml: defaults.http_methode: unknown field",
        ),
        ("config['base_url']", "config['base']", "`config.base`"),
        (
            "{{ body }}",
            "{{ bodi }}",
            "entities.Location.create.requester.request_body_json: `bodi` is not known here",
        ),
        (
            "{{ body }}",
            "{{ body | upper }}",
            "entities.Location.create.requester.request_body_json: `{{ body | upper }}` is not a plain reference",
        ),
        (
            "RecordWrite",
            "RecordRite",
            "entities.Location.create.type: unknown variant",
        ),
        (
            "/ping",
            "\"{{ external_id }}\"",
            "check.requester.path: `external_id` is not known here",
        ),
        (
            "type: RecordWrite, requester: {path: /a, request_body_json: \"{{ body }}\"}, id_path: [id]",
            "type: NoWrite",
            "entities.Location.create: a create must send something",
        ),
        (
            ", http_method: POST",
            "",
            "check.requester.http_method: is missing",
        ),
        (
            "type: DeclarativeTarget",
            "type: [",
            "acme/operations.yaml: ",
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = load(&SMALL.replace(from, to)).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
        assert!(["operations_invalid"].contains(&error.code()));
        assert_eq!(error.class(), ErrorClass::Config);
        assert_eq!(error.scope().connection.as_deref(), Some("acme-1"));
        assert!(!error.chain().contains(CANARY));
    }
}

#[tokio::test]
async fn what_is_not_described_is_refused_as_configuration() {
    let target = load(SMALL).unwrap();
    for (name, operation, code) in [
        ("Location", PushOperation::Update, "operation_missing"),
        ("Invoice", PushOperation::Create, "target_entity_unknown"),
    ] {
        let batch = target
            .push(&entity(name), operation, vec![known("1", "x", json!({}))])
            .await;
        assert_eq!(batch.results[0].as_ref().unwrap_err().code(), code);
    }
    let (found, calls) = target.lookup(&entity("Location"), &["a".to_owned()]).await;
    assert_eq!(found[0].as_ref().unwrap_err().code(), "operation_missing");
    assert_eq!(calls, 0);
}

/// What no answer could fill.
#[test]
fn a_list_of_results_is_one_list() {
    let batch = |path: &str| {
        SMALL.replace(
            "type: RecordWrite, requester: {path: /a, request_body_json: \"{{ body }}\"}, id_path: [id]",
            &format!(
                "type: BatchWrite, batch_size: 2, requester: {{path: /a, request_body_json: \"{{{{ items }}}}\"}}, \
                 result_selector: {{extractor: {{field_path: {path}}}, success_path: [ok], id_path: [id], error_code_path: [code]}}"
            ),
        )
    };
    load(&batch("[results, \"*\"]")).unwrap();
    let error = load(&batch("[data, \"*\", results, \"*\"]")).unwrap_err();
    let expected = "entities.Location.create.result_selector.extractor.field_path: \
                    leads to several lists; a batch has one list of results, so that at most one `*` may stand here";
    assert!(error.message().contains(expected), "{error}");
}

/// Without a connection, only what settings are needed for goes unchecked.
#[test]
fn a_file_is_checked_without_a_connection() {
    let check = |text: &str| {
        Target::check_files(&ConnectorFiles {
            name: "acme".to_owned(),
            files: [("operations.yaml".to_owned(), text.into())].into(),
        })
    };
    check(SMALL).unwrap();
    let error = check(&SMALL.replace("{{ body }}", "{{ bodi }}")).unwrap_err();
    assert_eq!(error.code(), "operations_invalid");
    for name in ["one", "lessen360"] {
        let files = Library::new(None).unwrap().get(name).unwrap();
        Target::check_files(&files).unwrap();
    }
}

/// The examples that engineers copy load.
#[test]
fn the_documented_examples_load() {
    let page = include_str!("../../../../../docs/connectors/operations.md");
    let examples: Vec<_> = page.split("```yaml\n").skip(1).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let (example, _) = example.split_once("```").unwrap();
        let config = SecretConfig::new(json!({"base_url": "http://127.0.0.1:9", "token": CANARY}));
        let http = HttpClient::new("acme", &config, Limiter::new(&[]), HttpOptions::default());
        let files = ConnectorFiles {
            name: "acme".to_owned(),
            files: [("operations.yaml".to_owned(), example.into())].into(),
        };
        Target::load(&files, "acme", config, http.unwrap()).unwrap();
    }
}
