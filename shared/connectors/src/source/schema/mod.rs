//! Schema loaders: what a stream says about its records.

mod dynamic;

use std::sync::OnceLock;

use serde_json::{Map, Value};
use sluice_core::{Error, Result, connector::ConnectorFiles};

use super::{
    Source,
    manifest::Component,
    template::{Template, Templates},
};
use dynamic::Dynamic;

/// The schema of a stream's `schema_loader`. Of several the properties are joined, the first one
/// wins. A loader that this engine does not know gives no schema: reading needs none.
#[derive(Debug)]
pub struct Schema {
    loaders: Vec<Loader>,
    /// Once it was made, if that takes no call.
    known: OnceLock<Value>,
}

#[derive(Debug)]
enum Loader {
    /// `InlineSchemaLoader`.
    Fixed(Value),
    /// `JsonFileSchemaLoader`.
    File(Template),
    /// `DynamicSchemaLoader`.
    Asked(Box<Dynamic>),
    Unknown,
}

impl Schema {
    pub fn build(stream: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let mut loaders = Vec::new();
        for loader in stream.children("schema_loader")? {
            loaders.push(match loader.kind() {
                _ if loader.is_custom() => Loader::Unknown,
                "InlineSchemaLoader" => {
                    Loader::Fixed(loader.get("schema").cloned().unwrap_or_default())
                }
                "JsonFileSchemaLoader" => {
                    Loader::File(match loader.template("file_path", templates)? {
                        Some(path) => path,
                        None => loader
                            .compile(&"schemas/{{ parameters['name'] }}.json".into(), templates)?,
                    })
                }
                "DynamicSchemaLoader" => {
                    Loader::Asked(Box::new(Dynamic::build(&loader, templates)?))
                }
                _ => Loader::Unknown,
            });
        }
        Ok(Self {
            loaders,
            known: OnceLock::new(),
        })
    }

    /// Whether the system has to be asked for it.
    pub fn is_asked(&self) -> bool {
        self.loaders
            .iter()
            .any(|loader| matches!(loader, Loader::Asked(_)))
    }

    /// Those of the calls it takes.
    pub fn fixed_urls(&self, urls: &mut Vec<url::Url>) {
        for loader in &self.loaders {
            if let Loader::Asked(dynamic) = loader {
                dynamic.stream.fixed_urls(urls);
            }
        }
    }
}

impl Source {
    /// The schema of a stream, without a call; what only the system knows is left out.
    pub(super) fn known_schema<'s>(&self, schema: &'s Schema) -> Result<&'s Value> {
        if let Some(known) = schema.known.get() {
            return Ok(known);
        }
        let parts = schema.loaders.iter().map(|loader| self.of_files(loader));
        let made = joined(parts.collect::<Result<_>>()?);
        Ok(schema.known.get_or_init(|| made))
    }

    /// The schema of a stream; the system is asked for what only it knows.
    pub(super) async fn schema(&self, schema: &Schema) -> Result<Value> {
        let mut parts = Vec::new();
        for loader in &schema.loaders {
            parts.push(match loader {
                Loader::Asked(dynamic) => dynamic.schema(self).await?,
                other => self.of_files(other)?,
            });
        }
        Ok(joined(parts))
    }

    fn of_files(&self, loader: &Loader) -> Result<Value> {
        match loader {
            Loader::Fixed(schema) => Ok(schema.clone()),
            Loader::File(path) => in_file(&self.files, &path.text(&self.scope())?),
            Loader::Asked(_) | Loader::Unknown => Ok(Value::Null),
        }
    }
}

fn joined(mut parts: Vec<Value>) -> Value {
    let mut properties = Map::new();
    if parts.len() < 2 {
        let only = parts.pop().filter(Value::is_object);
        return only.unwrap_or(Value::Object(properties));
    }
    for schema in parts {
        if let Some(Value::Object(own)) = schema.get("properties") {
            for (name, property) in own {
                properties.entry(name.clone()).or_insert(property.clone());
            }
        }
    }
    serde_json::json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": ["null", "object"],
        "properties": properties,
    })
}

/// A file of the connector's folder. Paths of connectors written in Python begin with the name of
/// their package, which is that folder. Null when there is no such file.
///
/// # Errors
/// `schema_path_outside`, `schema_file_invalid`.
fn in_file(files: &ConnectorFiles, path: &str) -> Result<Value> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if path.starts_with('/') || parts.contains(&"..") {
        return Err(Error::config(
            "schema_path_outside",
            "the path of a schema file leads out of the connector's folder",
        ));
    }
    let inside = parts.get(1..).unwrap_or_default();
    let text = [parts.as_slice(), inside]
        .iter()
        .find_map(|parts| files.get(&parts.join("/")));
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    serde_json::from_str(text).map_err(|error| {
        Error::config(
            "schema_file_invalid",
            format!(
                "the schema file {path} is no JSON, as seen at line {}",
                error.line()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_found_in_the_folder_and_nowhere_else() {
        let files = ConnectorFiles {
            name: "test".into(),
            files: BTreeMap::from([
                (
                    "schemas/a.json".to_owned(),
                    Arc::from("{\"type\": \"object\"}"),
                ),
                ("schemas/b.json".to_owned(), Arc::from("{")),
                ("top.json".to_owned(), Arc::from("{}")),
            ]),
        };
        let object = json!({"type": "object"});
        for (path, expected) in [
            ("schemas/a.json", &object),
            ("./schemas/a.json", &object),
            ("./source_test/schemas/a.json", &object),
            ("top.json", &json!({})),
            ("schemas/missing.json", &Value::Null),
            ("", &Value::Null),
        ] {
            assert_eq!(&in_file(&files, path).unwrap(), expected, "{path}");
        }
        for (path, code) in [
            ("../schemas/a.json", "schema_path_outside"),
            ("schemas/../../etc/a.json", "schema_path_outside"),
            ("/etc/a.json", "schema_path_outside"),
            ("schemas/b.json", "schema_file_invalid"),
        ] {
            assert_eq!(in_file(&files, path).unwrap_err().code(), code, "{path}");
        }
    }
}
