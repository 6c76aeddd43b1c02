use serde_json::json;

use super::*;

fn scope_of(templates: &Templates) -> Scope<'_> {
    let config = json::of(&json!({
        "name": "oak", "n": 5, "none": null, "zip": "00123", "list": ["a", "b"], "quote": "<a & 'b'>"
    }));
    Scope::new(templates, &config).with(
        functions::NOW,
        functions::now_value(crate::source::time::parse_iso("2024-03-01T12:00:00Z").unwrap()),
    )
}

fn value(source: &str) -> Result<Value> {
    let mut templates = Templates::new();
    let template = templates.compile(source, &json::of(&json!({"p": "x"})))?;
    template.value(&scope_of(&templates))
}

fn truth_of(source: &str) -> bool {
    let mut templates = Templates::new();
    let template = templates.compile(source, &Jinja::UNDEFINED).unwrap();
    template.truth(&scope_of(&templates)).unwrap()
}

#[test]
fn output_is_read_as_a_python_literal() {
    for (source, expected) in [
        ("{{ config['n'] }}", json!(5)),
        ("{{ config['name'][:2] }}", json!("oa")),
        ("{{ parameters.p[0:] ~ config.name[-1:] }}", json!("xk")),
        ("{{ config.name }}", json!("oak")),
        ("{{ config['zip'] }}", json!("00123")),
        ("{{ true }}", json!(true)),
        ("{{ config['none'] }}", json!(null)),
        ("{{ config['list'] }}", json!(["a", "b"])),
        ("{{ parameters['p'] }}-{{ config['n'] }}", json!("x-5")),
        ("{{ config['missing'] }}", json!("")),
        ("100", json!(100)),
        ("'2.0'", json!("2.0")),
        ("{{ 5|string }}", json!("5")),
        ("{{ '123'|string }}", json!(123)),
        ("{{ config['n'] / 2 }}", json!(2.5)),
        ("{{ 'a' + 1 }}", json!("{{ 'a' + 1 }}")),
        ("{{ config.get('missing', 'd') }}", json!("d")),
        ("{{ 'a,b'.split(',') }}", json!(["a", "b"])),
        ("{{ ' x '.strip() ~ 'Y'.lower() }}", json!("xy")),
        ("{{ config['list'] | join('|') }}", json!("a|b")),
        ("{{ ','.join(config['list']) }}", json!("a,b")),
        (
            "{{ config['quote'] | e }}",
            json!(
                "<a & 'b'>"
                    .replace('&', "&amp;")
                    .replace('<', "&lt;")
                    .replace('>', "&gt;")
                    .replace('\'', "&#39;")
            ),
        ),
        (
            "{% if config['n'] > 3 %}big{% else %}small{% endif %}",
            json!("big"),
        ),
        ("{% set x = 'q' %}{{ x }}", json!("q")),
        ("{{ 'abc-12' | regex_search('-([0-9]+)') }}", json!(12)),
        ("{{ 'ab' | regex_replace('(a)', '\\\\1x') }}", json!("axb")),
        ("{{ now_utc().strftime('%Y/%m/%d') }}", json!("2024/03/01")),
        ("{{ now_utc() }}", json!("2024-03-01 12:00:00+00:00")),
        ("{{ today_utc() }}", json!("2024-03-01")),
        (
            "{{ day_delta(-1, format='%Y-%m-%d') }}",
            json!("2024-02-29"),
        ),
        (
            "{{ timestamp('2024-01-01T00:00:00Z') | int }}",
            json!(1_704_067_200),
        ),
        (
            "{{ format_datetime('2024-01-01T02:00:00+02:00', '%Y-%m-%dT%H:%M:%SZ') }}",
            json!("2024-01-01T00:00:00Z"),
        ),
        ("{{ max(1, 3, 2) }}", json!(3)),
        ("{{ 'x' | hash('sha256') | length }}", json!(64)),
    ] {
        assert_eq!(value(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn undefined_of_undefined_is_an_error_in_text_and_false_in_conditions() {
    assert_eq!(
        value("{{ config['a']['b'] }}").unwrap_err().code(),
        "template_undefined"
    );
    assert!(!truth_of("{{ config['a']['b'] == 1 }}"));
    assert_eq!(
        value("{{ nobody }}").unwrap_err().code(),
        "template_name_unknown"
    );
}

#[test]
fn conditions_have_their_own_idea_of_false() {
    for source in [
        "",
        "False",
        "false",
        "0",
        "{}",
        "{{ none }}",
        "{{ [] }}",
        "{{ '' }}",
        "0.0",
    ] {
        assert!(!truth_of(source), "{source}");
    }
    for source in ["no", " ", "none", "{{ 1 }}", "x", "{{ 'a' in 'abc' }}"] {
        assert!(truth_of(source), "{source}");
    }
}

#[test]
fn templates_cannot_run_away() {
    let endless = "{% for a in 'x' * 100000 %}{% for b in 'x' * 100000 %}{% endfor %}{% endfor %}";
    assert_eq!(value(endless).unwrap_err().code(), "template_failed");
    // Ends, because recursion is bounded.
    let _ = value("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    assert!(value("{{ range(3) }}").is_err());
    assert_eq!(
        value("{{ stream_state }}").unwrap_err().code(),
        "template_invalid"
    );
}

#[test]
fn errors_never_quote_values() {
    let error = value("{{ config['name'] | nope }}").unwrap_err();
    assert_eq!(error.code(), "template_failed");
    assert!(!error.chain().contains("oak"));
    let error = value("{{ config['name']['x']['y'] }}").unwrap_err();
    assert!(!error.chain().contains("oak"));
}

#[test]
fn mappings_drop_what_is_empty_and_keep_text() {
    let mut templates = Templates::new();
    let mut compile = |text: &str| templates.compile(text, &Jinja::UNDEFINED).unwrap();
    let mapping = Mapping::Entries(vec![
        (compile("a"), compile("{{ config['missing'] }}")),
        (compile("b"), compile("{{ config['none'] }}")),
        (compile("c"), compile("{{ 5 }}")),
        (compile("d"), compile("{{ ['x', 'y'] }}")),
        (compile("e"), compile("{{ config['a']['b'] }}")),
        (compile("f"), compile("1,2")),
        (compile("g"), compile("([1, 2])")),
    ]);
    let entries = mapping
        .entries(&scope_of(&templates), |literal| {
            literal.value.is_string() || (literal.value.is_array() && !literal.is_tuple)
        })
        .unwrap();
    assert_eq!(
        Value::Object(entries),
        json!({"b": "None", "c": "5", "d": ["x", "y"], "f": "1,2", "g": [1, 2]})
    );
}

#[test]
fn nested_bodies_turn_numeric_text_into_numbers_and_drop_nothing_else() {
    let mut templates = Templates::new();
    let nested = Nested::compile(
        &json!({"a": "123", "b": "00123", "c": "", "d": ["{{ config['missing'] }}", 1], "e": {"f": "{{ config['n'] }}"}, "g": true}),
        &mut templates,
        &Jinja::UNDEFINED,
    )
    .unwrap();
    assert_eq!(
        nested.value(&scope_of(&templates)).unwrap(),
        json!({"a": 123, "b": "00123", "d": [null, 1], "e": {"f": 5}, "g": true})
    );
}
