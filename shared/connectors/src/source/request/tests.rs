use minijinja::value::Value as Jinja;
use serde_json::json;

use super::*;
use crate::source::{manifest, template::json as jinja_json};

fn build(
    requester: &str,
    injections: &[(Place, &str, &str)],
    token: Option<&str>,
) -> Result<Request> {
    let manifest = manifest::load(&format!(
        "streams: [{{retriever: {{requester: {requester}}}}}]"
    ))?;
    let component = Component::new(&manifest["streams"][0]["retriever"]["requester"], "r")?;
    let mut templates = Templates::new();
    let requester = Requester::build(&component, &mut templates)?;
    let config = jinja_json::of(&json!({"key": "s3 &", "none": null}));
    let scope = Scope::new(&templates, &config).with("stream_slice", Jinja::from("x"));
    let injections = injections
        .iter()
        .map(|(place, path, value)| Injection {
            place: *place,
            path: path.split('.').map(str::to_owned).collect(),
            value: json!(value),
        })
        .collect();
    requester.request(&scope, Vec::new(), injections, token)
}

#[test]
fn addresses_are_joined_as_the_format_says() {
    for (base, path, token, url) in [
        (
            "https://a.test/v1",
            "/items",
            None,
            "https://a.test/v1/items",
        ),
        (
            "https://a.test/v1/",
            "items?x=1",
            None,
            "https://a.test/v1/items?x=1",
        ),
        (
            "https://a.test/v1",
            "https://b.test/z",
            None,
            "https://b.test/z",
        ),
        ("https://a.test/v1", "", None, "https://a.test/v1"),
        (
            "https://a.test//v1//",
            "a//items/",
            None,
            "https://a.test/v1/a/items/",
        ),
        (
            "https://a.test//v1",
            "items?u=http://b.test//x",
            None,
            "https://a.test/v1/items?u=http://b.test//x",
        ),
        (
            "https://a.test/v1",
            "https://b.test//z//y",
            None,
            "https://b.test//z//y",
        ),
        (
            "https://a.test//v1/",
            "?x=1",
            None,
            "https://a.test//v1/?x=1",
        ),
        (
            "https://a.test/v1",
            "items",
            Some("https://c.test/n?p=2"),
            "https://c.test/n?p=2",
        ),
        ("https://a.test/v1", "items", Some("/n"), "https://a.test/n"),
    ] {
        let request = build(
            &format!("{{url_base: '{base}', path: '{path}'}}"),
            &[],
            token,
        );
        assert_eq!(request.unwrap().url.as_str(), url);
    }
}

#[test]
fn parameters_keep_their_text_and_are_escaped() {
    let request = build(
        "{url: 'https://a.test/i?same=1', request_parameters: {a: '{{ config.key }}', b: '{{ true }}', c: '{{ [1, 2] }}', d: '{{ config.none }}', e: '{{ config.missing }}', same: '1'}}",
        &[(Place::Parameter, "page", "2")],
        None,
    );
    assert_eq!(
        request.unwrap().url.as_str(),
        "https://a.test/i?same=1&a=s3+%26&b=True&c=1&c=2&d=None&page=2"
    );
}

#[test]
fn a_field_set_twice_is_an_error() {
    for (requester, place) in [
        (
            "{url: 'https://a.test', request_parameters: {x: a}}",
            Place::Parameter,
        ),
        (
            "{url: 'https://a.test', request_headers: {x: a}}",
            Place::Header,
        ),
        (
            "{url: 'https://a.test', http_method: POST, request_body_data: {x: a}}",
            Place::BodyData,
        ),
        (
            "{url: 'https://a.test', http_method: POST, request_body_json: {x: a}}",
            Place::BodyJson,
        ),
    ] {
        let error = build(requester, &[(place, "x", "b")], None).unwrap_err();
        assert_eq!(error.code(), "request_field_twice", "{requester}");
    }
}

#[test]
fn bodies_are_json_forms_or_text() {
    let json = build(
        "{url: 'https://a.test', http_method: POST, request_body_json: {a: '5', b: {c: x}}}",
        &[(Place::BodyJson, "b.d", "y")],
        None,
    )
    .unwrap();
    assert_eq!(json.body, r#"{"a":5,"b":{"c":"x","d":"y"}}"#);
    assert_eq!(json.headers["content-type"], "application/json");
    let form = build(
        "{url: 'https://a.test', http_method: POST, request_body_data: {a: '{{ config.key }}'}}",
        &[],
        None,
    )
    .unwrap();
    assert_eq!(form.body, "a=s3+%26");
    let text = build(
        "{url: 'https://a.test', http_method: POST, request_headers: {SOAPAction: '\"x\"'}, request_body_data: '<a>{{ config.key | e }}</a>'}",
        &[],
        None,
    )
    .unwrap();
    assert_eq!(text.body, "<a>s3 &amp;</a>");
    assert!(text.headers.get("content-type").is_none());
    assert_eq!(text.headers["SOAPAction"], "x");
}

#[test]
fn custom_authenticators_are_refused() {
    let custom = build(
        "{url: 'https://a.test', authenticator: {class_name: x.Y}}",
        &[],
        None,
    );
    assert_eq!(custom.unwrap_err().code(), "component_unsupported");
}

#[test]
fn what_a_request_cannot_carry_is_refused_with_its_place() {
    for (text, place) in [
        (
            "{url: 'https://a.test', request_parameters: {a: b, fields: {type: QueryProperties, property_list: [x]}}}",
            "request_parameters.fields",
        ),
        (
            "{url: 'https://a.test', query_properties: {}}",
            "query_properties",
        ),
    ] {
        let error = build(text, &[], None).unwrap_err();
        assert_eq!(error.code(), "component_unsupported");
        assert!(error.message().contains(place), "{error}");
    }
}
