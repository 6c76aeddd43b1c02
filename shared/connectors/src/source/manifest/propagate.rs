//! Default types and `$parameters`.

use serde_json::{Map, Value};

/// (parent type, field, type when `type` is missing).
const DEFAULT_TYPES: &[(&str, &str, &str)] = &[
    (
        "CompositeErrorHandler",
        "error_handlers",
        "DefaultErrorHandler",
    ),
    ("DatetimeBasedCursor", "start_datetime", "MinMaxDatetime"),
    ("DatetimeBasedCursor", "end_datetime", "MinMaxDatetime"),
    ("DatetimeBasedCursor", "start_time_option", "RequestOption"),
    ("DatetimeBasedCursor", "end_time_option", "RequestOption"),
    ("DefaultPaginator", "page_size_option", "RequestOption"),
    ("ListPartitionRouter", "request_option", "RequestOption"),
    ("ParentStreamConfig", "request_option", "RequestOption"),
    ("DeclarativeSource", "check", "CheckStream"),
    ("DeclarativeSource", "spec", "Spec"),
    ("DeclarativeSource", "streams", "DeclarativeStream"),
    ("DeclarativeStream", "retriever", "SimpleRetriever"),
    ("DeclarativeStream", "schema_loader", "JsonFileSchemaLoader"),
    (
        "DynamicDeclarativeStream",
        "stream_template",
        "DeclarativeStream",
    ),
    ("DynamicSchemaLoader", "retriever", "SimpleRetriever"),
    ("HttpComponentsResolver", "retriever", "SimpleRetriever"),
    (
        "DefaultErrorHandler",
        "response_filters",
        "HttpResponseFilter",
    ),
    ("DpathExtractor", "record_expander", "RecordExpander"),
    ("HttpRequester", "error_handler", "DefaultErrorHandler"),
    ("ParentStreamConfig", "stream", "DeclarativeStream"),
    ("RecordSelector", "extractor", "DpathExtractor"),
    ("RecordSelector", "record_filter", "RecordFilter"),
    ("SimpleRetriever", "paginator", "NoPagination"),
    ("SimpleRetriever", "record_selector", "RecordSelector"),
    ("SimpleRetriever", "requester", "HttpRequester"),
    (
        "SubstreamPartitionRouter",
        "parent_stream_configs",
        "ParentStreamConfig",
    ),
    ("AddFields", "fields", "AddedFieldDefinition"),
    // These are not in the reference runtime, which wants them written.
    ("ConditionalStreams", "streams", "DeclarativeStream"),
    (
        "StateDelegatingStream",
        "full_refresh_stream",
        "DeclarativeStream",
    ),
    (
        "StateDelegatingStream",
        "incremental_stream",
        "DeclarativeStream",
    ),
];

/// (parent type, field, type of a mapping with `class_name` and no `type`).
const CUSTOM_TYPES: &[(&str, &str, &str)] = &[
    ("HttpRequester", "authenticator", "CustomAuthenticator"),
    ("HttpRequester", "error_handler", "CustomErrorHandler"),
    (
        "DefaultErrorHandler",
        "backoff_strategies",
        "CustomBackoffStrategy",
    ),
    ("RecordSelector", "extractor", "CustomRecordExtractor"),
    (
        "SimpleRetriever",
        "partition_router",
        "CustomPartitionRouter",
    ),
    (
        "DefaultPaginator",
        "pagination_strategy",
        "CustomPaginationStrategy",
    ),
    ("DeclarativeStream", "retriever", "CustomRetriever"),
    (
        "DeclarativeStream",
        "transformations",
        "CustomTransformation",
    ),
];

/// The key under which a component's final parameters are kept for interpolation.
pub const PARAMETERS: &str = "$parameters";

/// Fills in missing types and carries `$parameters` down the resolved manifest. Each component
/// ends up with its own final parameters under `$parameters`.
pub fn propagate(manifest: Value) -> Value {
    let mut root = manifest;
    if let Value::Object(map) = &mut root {
        map.entry("type")
            .or_insert_with(|| "DeclarativeSource".into());
    }
    component(root, "", "", &Map::new())
}

fn lookup(table: &[(&str, &str, &'static str)], parent: &str, field: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(p, f, _)| *p == parent && *f == field)
        .map(|(_, _, kind)| *kind)
}

fn component(value: Value, parent: &str, field: &str, inherited: &Map<String, Value>) -> Value {
    let Value::Object(mut map) = value else {
        return value;
    };
    if !map.contains_key("type") {
        let table = if map.contains_key("class_name") {
            CUSTOM_TYPES
        } else {
            DEFAULT_TYPES
        };
        if let Some(kind) = lookup(table, parent, field) {
            map.insert("type".into(), kind.into());
        }
    }
    let mut parameters = inherited.clone();
    if let Some(Value::Object(own)) = map.remove(PARAMETERS) {
        parameters.extend(own);
    }
    let kind = match map.get("type") {
        Some(Value::String(kind)) if kind == "object" => return Value::Object(map),
        // A JSON schema: `type` is a list of types or a property called "type".
        Some(Value::Array(_) | Value::Object(_)) => return Value::Object(map),
        Some(Value::String(kind)) => kind.clone(),
        _ => return plain(map, &parameters),
    };
    for (key, value) in &parameters {
        if map.get(key).is_none_or(falsy) {
            map.insert(key.clone(), value.clone());
        }
    }
    let mut done = Map::new();
    for (key, value) in map {
        let value = match value {
            Value::Object(_) => component(value, &kind, &key, &without(&parameters, &key)),
            Value::Array(items) => {
                let inner = without(&parameters, &key);
                Value::Array(
                    items
                        .into_iter()
                        .map(|item| component(item, &kind, &key, &inner))
                        .collect(),
                )
            }
            other => other,
        };
        done.insert(key, value);
    }
    // A mapping with a key `type` need not be a component: it may be what a request carries.
    if !parameters.is_empty() {
        done.insert(PARAMETERS.into(), Value::Object(parameters));
    }
    Value::Object(done)
}

/// A mapping without a type: only its direct children that name a type are components.
fn plain(map: Map<String, Value>, parameters: &Map<String, Value>) -> Value {
    let mut done = Map::new();
    for (key, value) in map {
        let value = if value.get("type").is_some() {
            component(value, "", &key, &without(parameters, &key))
        } else {
            value
        };
        done.insert(key, value);
    }
    Value::Object(done)
}

fn without(parameters: &Map<String, Value>, key: &str) -> Map<String, Value> {
    parameters
        .iter()
        .filter(|(name, _)| *name != key)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Python's idea of false.
pub fn falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_fill_fields_that_are_absent_or_falsy() {
        let done = propagate(json!({
            "streams": [{
                "$parameters": {"name": "orders", "path": "/orders", "page_size": 50},
                "retriever": {
                    "requester": {"path": ""},
                    "paginator": {"type": "DefaultPaginator", "pagination_strategy": {"type": "OffsetIncrement", "page_size": 0}}
                }
            }]
        }));
        let stream = &done["streams"][0];
        assert_eq!(done["type"], "DeclarativeSource");
        assert_eq!(stream["type"], "DeclarativeStream");
        assert_eq!(stream["name"], "orders");
        let retriever = &stream["retriever"];
        assert_eq!(retriever["type"], "SimpleRetriever");
        assert_eq!(retriever["requester"]["path"], "/orders");
        assert_eq!(
            retriever["paginator"]["pagination_strategy"]["page_size"],
            50
        );
        assert_eq!(retriever["requester"]["$parameters"]["name"], "orders");
    }

    #[test]
    fn own_values_and_own_parameters_win() {
        let done = propagate(json!({
            "$parameters": {"path": "outer", "name": "x"},
            "streams": [{"name": "mine", "$parameters": {"path": "inner"}, "retriever": {"requester": {}}}]
        }));
        assert_eq!(done["streams"][0]["name"], "mine");
        assert_eq!(
            done["streams"][0]["retriever"]["requester"]["path"],
            "inner"
        );
    }

    #[test]
    fn plain_mappings_and_schemas_are_left_alone() {
        let done = propagate(json!({
            "$parameters": {"a": 1},
            "streams": [{
                "retriever": {"requester": {"request_parameters": {"q": "x"}}},
                "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {"p": {"type": ["null", "string"]}}}}
            }]
        }));
        let stream = &done["streams"][0];
        assert_eq!(
            stream["retriever"]["requester"]["request_parameters"],
            json!({"q": "x"})
        );
        assert_eq!(
            stream["schema_loader"]["schema"],
            json!({"type": "object", "properties": {"p": {"type": ["null", "string"]}}})
        );
    }

    #[test]
    fn parameters_get_only_where_they_mean_something() {
        let done = propagate(json!({
            "streams": [{
                "retriever": {"requester": {"request_parameters": {"type": "open", "$parameters": {}}}},
                "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": ["null", "object"], "$parameters": {"path": "x"}}}
            }]
        }));
        let stream = &done["streams"][0];
        assert_eq!(
            stream["retriever"]["requester"]["request_parameters"],
            json!({"type": "open"})
        );
        assert_eq!(
            stream["schema_loader"]["schema"],
            json!({"type": ["null", "object"]})
        );
    }

    #[test]
    fn class_names_without_a_type_become_custom_types() {
        let done = propagate(json!({
            "streams": [{"retriever": {"requester": {"authenticator": {"class_name": "x.Y"}}}}]
        }));
        assert_eq!(
            done["streams"][0]["retriever"]["requester"]["authenticator"]["type"],
            "CustomAuthenticator"
        );
    }
}
