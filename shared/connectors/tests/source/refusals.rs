//! What the declarative engine refuses, and how it tells: components, manifests, settings.

use serde_json::json;
use sluice_connectors::source::Source;

use crate::{
    manifest::{FRAME, files, ok, read, records, request, source},
    server::{Server, load},
};

#[tokio::test]
async fn unknown_components_refuse_their_stream_only() {
    let manifest = r#"
streams:
  - $parameters: {name: custom, path: /}
    retriever: {class_name: source_x.Custom}
  - $parameters: {name: exotic, path: /}
    retriever:
      requester: {url_base: "{{ config['url'] }}", authenticator: {type: RateLimitedMultipleTokenAuthenticator, tokens: a, quotas: [{type: TokenQuota, name: a, remaining_path: [], reset_path: []}], quota_status_source: {type: QuotaStatusSource, url: x}}}
      record_selector: {extractor: {field_path: []}}
  - $parameters: {name: plain, path: /}
    retriever:
      requester: {url_base: "{{ config['url'] }}"}
      record_selector: {extractor: {field_path: []}}
"#;
    let server = Server::start(|_, _| ok(json!({"id": 1}))).await;
    let source = source(manifest, &server);
    assert_eq!(source.streams().len(), 3);
    assert_eq!(records(&source, "plain").await, [json!({"id": 1})]);
    for (stream, part) in [
        (
            "custom",
            "custom code (source_x.Custom) at manifest.streams[0].retriever",
        ),
        (
            "exotic",
            "`RateLimitedMultipleTokenAuthenticator` at manifest.streams[1].retriever.requester.authenticator",
        ),
    ] {
        let error = source.slices(&request(stream)).await.unwrap_err();
        assert_eq!(error.code(), "component_unsupported");
        assert!(error.message().contains(part), "{}", error.message());
    }
    let error = source.slices(&request("nobody")).await.unwrap_err();
    assert_eq!(error.code(), "stream_unknown");
}

/// C4: a secret never shows, however a manifest fails.
#[tokio::test]
async fn secrets_stay_out_of_errors() {
    for broken in [
        "{{ config['token']['a']['b'] }}",
        "{{ config['token'] | int + config['token'] }}",
        "{{ config['token'] | nope }}",
        "{{ config['token'].nope() }}",
        "not a url {{ config['token'] }}",
    ] {
        let manifest = format!(
            "streams: [{{name: s, retriever: {{requester: {{url: \"{broken}\"}}, record_selector: {{extractor: {{field_path: []}}}}}}}}]"
        );
        let server = Server::start(|_, _| ok(json!({}))).await;
        let source = source(&manifest, &server);
        let error = match source.slices(&request("s")).await {
            Ok(_) => read(&source, "s").await.remove(0).unwrap_err(),
            Err(refusal) => refusal,
        };
        assert!(!error.chain().contains("planted-secret"), "{broken}");
        assert!(!format!("{error:?}").contains("planted-secret"), "{broken}");
    }
}

/// What is wrong is told with its path and line, and never ends in a panic.
#[test]
fn bad_manifests_are_told_with_path_and_line() {
    let stream = "streams:\n  - name: a\n    retriever:\n      requester:\n        url: 'https://a.test'\n      record_selector: {extractor: {field_path: []}}\nversion: 6.0.0\ncheck: {stream_names: [a]}\n";
    let with = |requester: &str| {
        stream.replace(
            "        url: 'https://a.test'\n",
            &format!("        url: 'https://a.test'\n{requester}"),
        )
    };
    for (manifest, code, part) in [
        (
            "a:\n  b: [1".to_owned(),
            "manifest_yaml_invalid",
            "(at a.b, line 3)",
        ),
        ("- 1".to_owned(), "manifest_invalid", "must be a mapping"),
        (
            "streams: 5".to_owned(),
            "manifest_invalid",
            "manifest.streams: must be a list of streams (manifest.yaml, line 1)",
        ),
        (
            with("        authenticator: '#/nowhere'\n"),
            "manifest_reference_unknown",
            "manifest.streams[0].retriever.requester.authenticator: the reference #/nowhere names nothing (manifest.yaml, line 6)",
        ),
        (
            "a: '#/b'\nb: {c: '#/a'}\n".to_owned(),
            "manifest_reference_cycle",
            "manifest.a.c: the reference #/b leads back to itself (manifest.yaml, line 2)",
        ),
        (
            with("        authenticator: {type: BearerAuthenticator}\n"),
            "manifest_invalid",
            "manifest.streams[0].retriever.requester.authenticator.api_token: is missing; a BearerAuthenticator needs it (manifest.yaml, line 6)",
        ),
        (
            with("        authenticator: {type: JwtAuthenticater}\n"),
            "component_unsupported",
            "line 6",
        ),
        (
            with("        http_method: DELETE\n"),
            "manifest_invalid",
            "line 6",
        ),
        (
            with("        path: '{{ config[ }}'\n"),
            "template_invalid",
            "line 6",
        ),
        (
            with("        path: \"{{ confg['x'] }}\"\n"),
            "template_name_unknown",
            "requester.path: a template uses the unknown name `confg` (manifest.yaml, line 6) [template_name_unknown]; did you mean `config`?",
        ),
        (
            with("        request_parameters:\n          a: \"{{ config['x'] | nofilter }}\"\n"),
            "template_filter_unknown",
            "requester.request_parameters.a: a template uses the unknown filter `nofilter` (manifest.yaml, line 7)",
        ),
        (
            with("        request_parameters: [1]\n"),
            "manifest_invalid",
            "line 6",
        ),
        (
            with("        http_metod: GET\n"),
            "manifest_field_unknown",
            "line 6) [manifest_field_unknown]; did you mean `http_method`?",
        ),
        (
            stream.replace("[a]", "[b]"),
            "manifest_invalid",
            "manifest.check.stream_names: there is no stream `b`",
        ),
    ] {
        let faults = Source::faults(&files(&manifest));
        let found: Vec<_> = faults
            .iter()
            .map(|error| (error.code(), error.chain()))
            .collect();
        assert!(
            found
                .iter()
                .any(|(c, text)| *c == code && text.contains(part)),
            "{manifest}\n{found:#?}"
        );
    }
    assert!(Source::faults(&files(stream)).is_empty());
}

/// Missing settings are told with the place that asks for them, its line too.
#[tokio::test]
async fn missing_settings_are_told_with_path_and_line() {
    let with = |url: &str, spec: &str| {
        format!(
            "streams:\n  - name: a\n    retriever:\n      requester:\n        url_base: \"{url}\"\n      record_selector: {{extractor: {{field_path: []}}}}\n{FRAME}{spec}"
        )
    };
    let required = "spec:\n  type: Spec\n  connection_specification:\n    required: [shop]\n    properties:\n      shop: {type: string}\n";
    let manifest = with("https://a.test", required);
    let error = load(&files(&manifest), json!({})).unwrap_err();
    assert_eq!(error.code(), "setting_missing");
    let place =
        "manifest.spec.connection_specification.properties.shop asks (manifest.yaml, line 15)";
    assert!(error.message().contains(place), "{error}");
    for url in ["{{ config['shop']['url'] }}", "{{ config['shop'] }}"] {
        let source = load(&files(&with(url, "")), json!({})).unwrap();
        let error = read(&source, "a").await.remove(0).unwrap_err();
        let place = "manifest.streams[0].retriever.requester.url_base";
        assert!(error.message().contains(place), "{error:?}");
        assert!(
            error.message().contains("(manifest.yaml, line 5)"),
            "{error:?}"
        );
    }
}
