use proptest::prelude::*;
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
        (
            "{{ today_with_timezone('Pacific/Kiritimati') }}",
            json!("2024-03-02"),
        ),
        (
            "{{ today_utc().strftime('%Y-%m-%dT%H:%M:%SZ') }}",
            json!("2024-03-01T00:00:00Z"),
        ),
        (
            "{{ (today_utc() + duration('PT36H')).strftime('%d %H') }}",
            json!("02 00"),
        ),
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
    for source in ["{{ nobody }}", "{{ config.name or nobody }}"] {
        assert_eq!(
            value(source).unwrap_err().code(),
            "template_name_unknown",
            "{source}"
        );
    }
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

#[test]
fn simple_templates_need_no_engine() {
    let mut templates = Templates::new();
    for (source, direct) in [
        ("{{ record['a'] }}", true),
        ("{{ record.a.b == 'x' and not record['c'] }}", true),
        ("a {{- config.get('a', 1) | lower }} b", true),
        ("{{ record.a if record.a else none }}", true),
        ("{{ record.a is defined }}", false),
        ("{{ record.a in ['x'] }}", false),
        ("{{ record.a ~ 'x' }}", false),
        ("{{ now_utc() }}", false),
        ("{{ max }}", false),
        ("{% if record.a %}x{% endif %}", false),
        ("{{ record.a[:2] }}", false),
    ] {
        let template = templates.compile(source, &Jinja::UNDEFINED).unwrap();
        let Kind::Rendered { direct: found, .. } = &template.0.kind else {
            panic!("{source} is no template");
        };
        assert_eq!(found.is_some(), direct, "{source}");
    }
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    proptest::sample::select(texts)
}

/// Expressions that are mostly evaluated without the engine, and some that are not.
fn simple_expression() -> impl Strategy<Value = String> {
    let name = one_of(&["record", "record", "config", "parameters"]);
    let field = one_of(&["a", "b", "get"]);
    let leaf = prop_oneof![
        (name.clone(), field.clone()).prop_map(|(name, field)| format!("{name}['{field}']")),
        (name.clone(), one_of(&["a", "b"])).prop_map(|(name, field)| format!("{name}.{field}")),
        (name.clone(), field.clone()).prop_map(|(name, field)| format!("{name}.get('{field}')")),
        (name.clone(), field.clone(), 0..99)
            .prop_map(|(name, field, default)| format!("{name}.get('{field}', {default})")),
        name.prop_map(str::to_owned),
        one_of(&[
            "1", "0", "-1", "1.5", "''", "'x'", "'5'", "\"it's\"", "'\\n'", "true", "none",
            "False", "[]", "[1, 'a']", "{}", "{'a': 1}",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(2, 8, 3, move |inner| {
        let sign = one_of(&["==", "!=", "<", "<=", ">", ">=", "in", "~", "+"]);
        let filter = one_of(&["lower", "upper", "trim", "length"]);
        prop_oneof![
            (inner.clone(), sign, inner.clone())
                .prop_map(|(left, sign, right)| format!("{left} {sign} {right}")),
            (inner.clone(), one_of(&["and", "or"]), inner.clone())
                .prop_map(|(left, word, right)| format!("({left} {word} {right})")),
            inner.clone().prop_map(|of| format!("(not {of})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(
                |(then, condition, other)| format!("({then} if {condition} else {other})")
            ),
            (inner.clone(), filter).prop_map(|(of, filter)| format!("({of}) | {filter}")),
            (inner, field.clone()).prop_map(|(of, field)| format!("({of})['{field}']")),
        ]
    })
}

fn simple_template() -> impl Strategy<Value = String> {
    let text = || prop_oneof![Just(String::new()), "[ a'\\n1-]{0,4}"];
    let emitted = (
        text(),
        one_of(&["{{ ", "{{- "]),
        simple_expression(),
        one_of(&[" }}", " -}}"]),
        text(),
    )
        .prop_map(|(before, open, expression, close, after)| {
            format!("{before}{open}{expression}{close}{after}")
        });
    proptest::collection::vec(emitted, 1..3).prop_map(|parts| parts.concat())
}

fn template_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(Value::from(" x ")),
        one_of(&[
            "", " X y\n", "x", "'5'", "5", "1.0", "None", "[1]", "{'a': 1}", "it's", "\\'\"", "ÉÀ"
        ])
        .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            fields(inner),
        ]
    })
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let key = one_of(&["a", "b", "get"]).prop_map(str::to_owned);
    proptest::collection::vec((key, value), 1..5)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Evaluated without the engine, a template gives what the engine gives.
    #[test]
    fn the_engine_agrees(
        source in simple_template(),
        records in proptest::collection::vec(fields(template_value()), 20),
        config in fields(template_value()),
        parameters in prop_oneof![Just(Jinja::UNDEFINED), fields(template_value()).prop_map(|value| json::of(&value))],
    ) {
        let mut templates = Templates::new();
        let Ok(template) = templates.compile(&source, &parameters) else {
            return Ok(());
        };
        let scope = Scope::new(&templates, &json::of(&config));
        for record in records {
            let scope = scope.clone().with("record", json::of(&record));
            let Ok(given) = template.given(&scope) else {
                continue;
            };
            let Ok(Rendered::Text(text)) = template.engine(&scope) else {
                panic!("the engine refuses {source}");
            };
            let value = read_literal(text.clone());
            prop_assert_eq!(template.truth(&scope).unwrap(), truth(&value), "{} {}", source, record);
            prop_assert_eq!(template.value(&scope).unwrap(), value, "{} {}", source, record);
            prop_assert_eq!(given.into_text(), text, "{} {}", source, record);
        }
    }
}

#[test]
fn what_is_no_date_or_has_no_such_method_passes_for_no_value() {
    for (source, code) in [
        ("{{ format_datetime('never', '%s') }}", "template_failed"),
        (
            "{{ format_datetime('never', '%s', '%Y') }}",
            "template_failed",
        ),
        ("{{ str_to_datetime(config.name) }}", "template_failed"),
        ("{{ timestamp(config.name) }}", "template_failed"),
        ("{{ today_with_timezone('Moon/Base') }}", "template_failed"),
        (
            "{{ format_datetime(config.missing, '%s') }}",
            "template_undefined",
        ),
        ("{{ config['none'].get('x') }}", "template_undefined"),
        ("{{ config['n'].get('x') }}", "template_undefined"),
        ("{{ config['name'].get('x') }}", "template_undefined"),
        ("{{ config['list'].get('x') }}", "template_undefined"),
        // Python has these, so they are told.
        ("{{ config['name'].encode() }}", "template_failed"),
        ("{{ config['list'].append(1) }}", "template_failed"),
    ] {
        assert_eq!(value(source).unwrap_err().code(), code, "{source}");
    }
    assert!(!truth_of("{{ config['none'].get('x') }}"));
}
