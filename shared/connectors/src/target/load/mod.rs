//! Reading and checking `operations.yaml`. Every error names the file and the path inside it.

mod requester;

use std::sync::Arc;

use reqwest::header::HeaderName;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_core::{EntityType, Error, Result, connector::ConnectorFiles};

use super::{
    auth::Authenticator,
    model,
    plan::{BatchWrite, Check, EntityPlan, Lookup, Plan, RecordWrite, Write},
    template::{JsonTemplate, Reference, Template},
};
use crate::source::manifest;

/// The file's name in a connector's folder.
pub(super) const FILE: &str = "operations.yaml";
/// The only version of the format.
const VERSION: u32 = 1;
/// No call carries more records.
const MAX_BATCH: usize = 1000;

const RECORD_ROOTS: &[&str] = &[
    "config",
    "body",
    "entity_id",
    "external_id",
    "idempotency_key",
    "version",
];

/// Reads the file with a connection's settings; without them, whether all settings that the file
/// refers to are there is not checked.
///
/// # Errors
/// `operations_missing`, `operations_invalid`.
pub(super) fn load(files: &ConnectorFiles, config: Option<&Value>) -> Result<Plan> {
    let text = files.get(FILE).ok_or_else(|| {
        Error::config(
            "operations_missing",
            format!("the connector \"{}\" has no {FILE}", files.name),
        )
        .hint("it can be a source, but no target")
    })?;
    let file = File {
        connector: &files.name,
        config,
    };
    let document =
        manifest::parse(text, "operations").map_err(|error| file.invalid("", error.message()))?;
    let document: model::Document = file.read("", document)?;
    if document.version != VERSION {
        return Err(file.invalid("version", &format!("only {VERSION} is known")));
    }
    let defaults = Defaults {
        authenticator: Arc::new(match &document.defaults.authenticator {
            Some(model) => file.authenticator("defaults.authenticator", model)?,
            None => Authenticator::None,
        }),
        requester: document.defaults,
    };
    let check = Check {
        requester: file.requester(
            "check.requester",
            document.check.requester,
            &defaults,
            &["config"],
        )?,
        field_path: document.check.field_path,
    };
    let mut entities = Vec::with_capacity(document.entities.len());
    for (name, value) in document.entities {
        let at = format!("entities.{name}");
        let entity: model::Entity = file.read(&at, value)?;
        let write = |operation: &str, model: Option<model::Write>| {
            model
                .map(|model| file.write(&format!("{at}.{operation}"), model, &defaults))
                .transpose()
        };
        let plan = EntityPlan {
            create: write("create", entity.create)?,
            update: write("update", entity.update)?,
            delete: write("delete", entity.delete)?,
            lookup: entity
                .lookup
                .map(|model| file.lookup(&format!("{at}.lookup"), model, &defaults))
                .transpose()?,
        };
        if matches!(plan.create, Some(Write::Nothing)) {
            return Err(file.invalid(&format!("{at}.create"), "a create must send something"));
        }
        entities.push((EntityType::from(name), plan));
    }
    Ok(Plan { check, entities })
}

struct File<'a> {
    connector: &'a str,
    config: Option<&'a Value>,
}

struct Defaults {
    requester: model::Requester,
    /// One for all requesters without their own, so that they share its token.
    authenticator: Arc<Authenticator>,
}

impl File<'_> {
    fn invalid(&self, at: &str, detail: &str) -> Error {
        let place = if at.is_empty() {
            String::new()
        } else {
            format!("{at}: ")
        };
        Error::config(
            "operations_invalid",
            format!("{}/{FILE}: {place}{detail}", self.connector),
        )
    }

    fn read<T: DeserializeOwned>(&self, at: &str, value: Value) -> Result<T> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().to_string();
            let inner = inner.trim_matches('.');
            let at = match (at, inner) {
                ("", inner) => inner.to_owned(),
                (at, "") => at.to_owned(),
                (at, inner) => format!("{at}.{inner}"),
            };
            self.invalid(&at, &error.into_inner().to_string())
        })
    }

    /// Every reference must name something that exists here, settings included.
    fn check<'r>(
        &self,
        at: &str,
        references: impl IntoIterator<Item = &'r Reference>,
        roots: &[&str],
    ) -> Result<()> {
        for reference in references {
            if !roots.contains(&reference.root.as_str()) {
                let detail = format!(
                    "`{reference}` is not known here; known are {}",
                    roots.join(", ")
                );
                return Err(self.invalid(at, &detail));
            }
            if reference.root == "config" && !self.is_set(reference) {
                let detail = format!("the connection's settings have no `{reference}`");
                return Err(self.invalid(at, &detail));
            }
        }
        Ok(())
    }

    fn is_set(&self, reference: &Reference) -> bool {
        self.config.is_none_or(|config| {
            let mut steps = reference.steps.iter();
            let value = steps.try_fold(config, |value, step| value.get(step));
            value.is_some_and(|value| !value.is_null())
        })
    }

    fn template(&self, at: &str, text: &str, roots: &[&str]) -> Result<Template> {
        let template = Template::parse(text).map_err(|error| self.invalid(at, &error))?;
        self.check(at, template.references(), roots)?;
        Ok(template)
    }

    fn json(&self, at: &str, value: &Value, roots: &[&str]) -> Result<JsonTemplate> {
        let template = JsonTemplate::parse(value).map_err(|error| self.invalid(at, &error))?;
        self.check(at, template.references(), roots)?;
        Ok(template)
    }

    fn header(&self, at: &str, name: &str) -> Result<HeaderName> {
        HeaderName::try_from(name)
            .map_err(|_| self.invalid(at, &format!("`{name}` is no header name")))
    }

    fn write(&self, at: &str, model: model::Write, defaults: &Defaults) -> Result<Write> {
        let requester_at = format!("{at}.requester");
        Ok(match model {
            model::Write::Nothing {} => Write::Nothing,
            model::Write::Record {
                requester,
                id_path,
                existing_id_path,
                content_limit,
            } => Write::Record(Box::new(RecordWrite {
                requester: self.requester(&requester_at, *requester, defaults, RECORD_ROOTS)?,
                id_path,
                existing_id_path,
                content_limit,
            })),
            model::Write::Batch {
                batch_size,
                batch_bytes,
                requester,
                item,
                result_selector,
                content_limit,
            } => {
                self.batch_size(at, batch_size)?;
                if batch_bytes == Some(0) {
                    return Err(self.invalid(&format!("{at}.batch_bytes"), "must be at least 1"));
                }
                if !result_selector.extractor.field_path.is_one() {
                    let detail = "leads to several lists; a batch has one list of results, so \
                                  that at most one `*` may stand here";
                    let at = format!("{at}.result_selector.extractor.field_path");
                    return Err(self.invalid(&at, detail));
                }
                let item = item.unwrap_or_else(|| "{{ body }}".into());
                Write::Batch(Box::new(BatchWrite {
                    batch_size,
                    batch_bytes,
                    requester: self.requester(
                        &requester_at,
                        *requester,
                        defaults,
                        &["config", "items"],
                    )?,
                    item: self.json(&format!("{at}.item"), &item, RECORD_ROOTS)?,
                    results: result_selector,
                    content_limit,
                }))
            }
        })
    }

    fn batch_size(&self, at: &str, size: usize) -> Result<()> {
        if (1..=MAX_BATCH).contains(&size) {
            return Ok(());
        }
        let detail = format!("must be 1 to {MAX_BATCH}");
        Err(self.invalid(&format!("{at}.batch_size"), &detail))
    }

    fn lookup(&self, at: &str, model: model::Lookup, defaults: &Defaults) -> Result<Lookup> {
        self.batch_size(at, model.batch_size)?;
        Ok(Lookup {
            batch_size: model.batch_size,
            requester: self.requester(
                &format!("{at}.requester"),
                model.requester,
                defaults,
                &["config", "entity_ids"],
            )?,
            records: model.extractor.field_path,
            reference_path: model.reference_path,
            id_path: model.id_path,
        })
    }
}
