//! Changes to a case: to its manifest's tree or text, and to the server's answers.

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// Pieces of templates, formats and addresses that have been trouble somewhere.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "{{ record }}",
    "{{ config['missing']['deep'] }}",
    "{{ record.id / 0 }}",
    "{{ 10 ** 400 }}",
    "{{ -9223372036854775808 // -1 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ ('x' * 1000) * 1000000 }}",
    "{% for a in range(1000000000) %}x{% endfor %}",
    "{{ range(1000000000) | list }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ now_utc().strftime('%Q%') }}",
    "{{ format_datetime(record, '%Y') }}",
    "{{ day_delta(99999999999) }}",
    "{{ duration('P99999999999999Y') }}",
    "{{ 'x' | regex_search('(a*)*b') }}",
    "{{ stream_slice[[]] }}",
    "{{ timestamp('9999999999999999') }}",
    "{{ [[[[[[[[]]]]]]]] | string | upper }}",
    "{{ config | hash | base64encode }}",
    "%Y-%m-%dT%H:%M:%S.%f%z",
    "%s",
    "%",
    "P1D",
    "PT0S",
    "P-1D",
    "P999999999Y",
    "0000-00-00",
    "9999-12-31T23:59:59Z",
    "#/definitions",
    "#/streams/0",
    "http://",
    "http://[::1",
    "../..",
    "\u{0}",
    "\u{feff}",
    "🏠",
    "1e999",
    "None",
    "*",
    "**",
    "",
];

/// Kinds and keys that components have, so that some changes make sense.
const KINDS: &[&str] = &[
    "DeclarativeStream",
    "SimpleRetriever",
    "HttpRequester",
    "RecordSelector",
    "DpathExtractor",
    "CursorPagination",
    "OffsetIncrement",
    "PageIncrement",
    "ListPartitionRouter",
    "SubstreamPartitionRouter",
    "DatetimeBasedCursor",
    "CompositeErrorHandler",
    "OAuthAuthenticator",
    "SessionTokenAuthenticator",
    "CsvDecoder",
    "GzipDecoder",
    "XmlDecoder",
    "FlattenFields",
    "CustomRetriever",
    "NoSuchThing",
];

/// Changes a tree in one place; `other` lends parts.
pub fn tree(random: &mut ChaCha8Rng, root: &mut Value, other: &Value) {
    let nodes = count(root);
    let wanted = random.random_range(0..nodes);
    let lent = {
        let wanted = random.random_range(0..count(other));
        nth(other, &mut wanted.clone()).cloned().unwrap_or_default()
    };
    if let Some(node) = nth_mut(root, &mut wanted.clone()) {
        change(random, node, lent);
    }
}

fn change(random: &mut ChaCha8Rng, node: &mut Value, lent: Value) {
    match random.random_range(0..8) {
        0 => *node = simple(random),
        1 => *node = lent,
        _ => match node {
            Value::Object(map) => object(random, map, lent),
            Value::Array(items) if !items.is_empty() => {
                let at = random.random_range(0..items.len());
                match random.random_range(0..3) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => items.insert(at, lent),
                }
            }
            Value::String(text) => *text = changed_text(random, text),
            Value::Number(_) => *node = simple(random),
            other => *other = lent,
        },
    }
}

fn object(random: &mut ChaCha8Rng, map: &mut Map<String, Value>, lent: Value) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let Some(key) = keys.choose(random) else {
        map.insert("type".into(), json!(KINDS.choose(random)));
        return;
    };
    match random.random_range(0..4) {
        0 => drop(map.remove(key)),
        1 => {
            let value = map.remove(key).unwrap_or_default();
            map.insert(changed_text(random, key), value);
        }
        2 => {
            let kind = KINDS.choose(random);
            map.insert("type".into(), json!(kind));
        }
        _ => drop(map.insert(key.clone(), lent)),
    }
}

fn simple(random: &mut ChaCha8Rng) -> Value {
    let mut deep = json!(1);
    match random.random_range(0..12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(1e300),
        6 => json!({}),
        7 => json!([]),
        8 => {
            for _ in 0..200 {
                deep = json!([deep]);
            }
            deep
        }
        _ => json!(PIECES.choose(random)),
    }
}

/// A text with a piece put in, a part taken out, or both.
pub fn changed_text(random: &mut ChaCha8Rng, text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    if !letters.is_empty() && random.random_bool(0.5) {
        let from = random.random_range(0..letters.len());
        let to = random.random_range(from..=letters.len().min(from + 20));
        letters.drain(from..to);
    }
    if letters.is_empty() || random.random_bool(0.7) {
        let at = random.random_range(0..=letters.len());
        let piece = PIECES.choose(random).copied().unwrap_or_default();
        letters.splice(at..at, piece.chars());
    }
    letters.into_iter().collect()
}

fn count(node: &Value) -> usize {
    1 + match node {
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum::<usize>(),
        _ => 0,
    }
}

fn nth<'a>(node: &'a Value, left: &mut usize) -> Option<&'a Value> {
    if *left == 0 {
        return Some(node);
    }
    *left -= 1;
    match node {
        Value::Object(map) => map.values().find_map(|inner| nth(inner, left)),
        Value::Array(items) => items.iter().find_map(|inner| nth(inner, left)),
        _ => None,
    }
}

fn nth_mut<'a>(node: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(node);
    }
    *left -= 1;
    match node {
        Value::Object(map) => map.values_mut().find_map(|inner| nth_mut(inner, left)),
        Value::Array(items) => items.iter_mut().find_map(|inner| nth_mut(inner, left)),
        _ => None,
    }
}
