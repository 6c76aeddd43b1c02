//! Schema loaders: what a stream says about its records.

use serde_json::{Map, Value};
use sluice_core::Result;

use super::manifest::Component;

/// The schema of a stream's `schema_loader`. Of several the properties are joined, the first one
/// wins. A loader that this engine does not know gives no schema: reading needs none.
pub fn load(stream: &Component<'_>) -> Result<Value> {
    let loaders = stream.children("schema_loader")?;
    let mut schemas = loaders.iter().map(|loader| match loader.kind() {
        "InlineSchemaLoader" => loader.get("schema").cloned().unwrap_or_default(),
        _ => Value::Null,
    });
    let empty = || Value::Object(Map::new());
    if loaders.len() < 2 {
        return Ok(schemas
            .next()
            .filter(Value::is_object)
            .unwrap_or_else(empty));
    }
    let mut properties = Map::new();
    for schema in schemas {
        if let Some(Value::Object(own)) = schema.get("properties") {
            for (name, property) in own {
                properties.entry(name.clone()).or_insert(property.clone());
            }
        }
    }
    Ok(serde_json::json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": ["null", "object"],
        "properties": properties,
    }))
}
