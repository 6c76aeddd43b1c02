//! Partition routers: which parts a stream is read in.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value as Jinja};
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{
    extract,
    group::Group,
    manifest::{Component, falsy},
    record::Record,
    request::{Injection, RequestOption},
    stream::Stream,
    template::{Scope, Template, Templates, json, python},
};

/// More partitions than this are refused: they would be as many tasks.
pub const MAX_PARTITIONS: usize = 200_000;

/// How a stream is divided.
#[derive(Debug)]
pub enum Router {
    /// One empty partition.
    None,
    List(ListRouter),
    Substream(Vec<Parent>),
    /// The cartesian product, first router outermost.
    Product(Vec<Router>),
    Group(Group),
}

/// `ListPartitionRouter`.
#[derive(Debug)]
pub struct ListRouter {
    values: Values,
    field: Template,
    option: Option<RequestOption>,
}

#[derive(Debug)]
enum Values {
    /// Taken as they are: a list's values are no templates.
    Each(Vec<Value>),
    Whole(Template),
}

/// `ParentStreamConfig`.
#[derive(Debug)]
pub struct Parent {
    pub stream: Box<Stream>,
    key: Vec<String>,
    pub field: Template,
    option: Option<RequestOption>,
    extra_fields: Vec<Vec<String>>,
    /// Where a record of the parent holds the first page of its children.
    first_page: Option<Vec<Template>>,
    /// The parent is read from its own state on, when the caller keeps that.
    pub incremental: bool,
}

/// A part of a stream: what tells it apart, and fields that only travel along.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Partition {
    pub values: Map<String, Value>,
    pub extra: Map<String, Value>,
    /// The JSON of its first page, if that came with its parent.
    pub page: Option<String>,
}

impl Router {
    /// Builds the router of a retriever; a list is a product.
    pub fn build(components: &[Component<'_>], templates: &mut Templates) -> Result<Self> {
        let mut routers = components
            .iter()
            .map(|component| Self::build_one(component, templates))
            .collect::<Result<Vec<_>>>()?;
        Ok(match routers.len() {
            0 => Self::None,
            1 => routers.pop().unwrap_or(Self::None),
            _ => Self::Product(routers),
        })
    }

    fn build_one(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        match component.kind() {
            "ListPartitionRouter" => Ok(Self::List(ListRouter {
                values: match component.get("values") {
                    Some(Value::Array(values)) => Values::Each(values.clone()),
                    _ => Values::Whole(
                        component
                            .template("values", templates)?
                            .ok_or_else(|| component.invalid("values", "is missing"))?,
                    ),
                },
                field: component
                    .template("cursor_field", templates)?
                    .ok_or_else(|| component.invalid("cursor_field", "is missing"))?,
                option: option(component, templates)?,
            })),
            "SubstreamPartitionRouter" => component
                .children("parent_stream_configs")?
                .iter()
                .map(|parent| Parent::build(parent, templates))
                .collect::<Result<_>>()
                .map(Self::Substream),
            "GroupingPartitionRouter" => Group::build(component, templates).map(Self::Group),
            _ => Err(component.unsupported()),
        }
    }

    /// The streams whose records are its partitions.
    pub fn parents(&self) -> Vec<&Stream> {
        match self {
            Self::None | Self::List(_) => Vec::new(),
            Self::Substream(parents) => parents.iter().map(|parent| &*parent.stream).collect(),
            Self::Product(routers) => routers.iter().flat_map(Self::parents).collect(),
            Self::Group(group) => group.inner.parents(),
        }
    }

    /// Whether first pages come with the parents. They do not where routers are combined.
    pub fn gives_pages(&self) -> bool {
        match self {
            Self::Substream(parents) => parents.iter().any(|parent| parent.first_page.is_some()),
            Self::None | Self::List(_) | Self::Product(_) | Self::Group(_) => false,
        }
    }

    /// Whether partitions put anything into requests.
    pub fn injects(&self) -> bool {
        match self {
            Self::None | Self::Group(_) => false,
            Self::List(router) => router.option.is_some(),
            Self::Substream(parents) => parents.iter().any(|parent| parent.option.is_some()),
            Self::Product(routers) => routers.iter().any(Self::injects),
        }
    }

    /// What a partition puts into each request.
    pub fn injections(&self, partition: &Partition, scope: &Scope<'_>) -> Result<Vec<Injection>> {
        let mut all = Vec::new();
        self.inject(partition, scope, &mut all)?;
        Ok(all)
    }

    fn inject(
        &self,
        partition: &Partition,
        scope: &Scope<'_>,
        all: &mut Vec<Injection>,
    ) -> Result<()> {
        let mut one = |option: &Option<RequestOption>, field: &Template| -> Result<()> {
            let Some(option) = option else {
                return Ok(());
            };
            let value = partition.values.get(&field.text(scope)?);
            if let Some(value) = value.filter(|value| !falsy(value)) {
                let injection = option.inject(value.clone(), scope)?;
                // On equal keys the first router wins.
                let taken = all
                    .iter()
                    .any(|known| known.place == injection.place && known.path == injection.path);
                if !taken {
                    all.push(injection);
                }
            }
            Ok(())
        };
        match self {
            Self::None | Self::Group(_) => Ok(()),
            Self::List(router) => one(&router.option, &router.field),
            Self::Substream(parents) => parents
                .iter()
                .try_for_each(|parent| one(&parent.option, &parent.field)),
            Self::Product(routers) => routers
                .iter()
                .try_for_each(|router| router.inject(partition, scope, all)),
        }
    }
}

fn option(component: &Component<'_>, templates: &mut Templates) -> Result<Option<RequestOption>> {
    component
        .child("request_option")?
        .map(|child| RequestOption::build(&child, templates))
        .transpose()
}

impl ListRouter {
    /// One partition per value.
    pub fn partitions(&self, scope: &Scope<'_>) -> Result<Vec<Partition>> {
        let field = self.field.text(scope)?;
        let values = match &self.values {
            Values::Each(values) => values.clone(),
            Values::Whole(template) => match template.value(scope)? {
                Value::Array(values) => values,
                // An optional setting that is not given.
                Value::String(text) if text.is_empty() => Vec::new(),
                _ => {
                    return Err(Error::config(
                        "partition_values_invalid",
                        "the values of a list partition router are no list",
                    ));
                }
            },
        };
        Ok(values
            .into_iter()
            .map(|value| Partition {
                values: Map::from_iter([(field.clone(), value)]),
                ..Partition::default()
            })
            .collect())
    }
}

impl Parent {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if component.kind() != "ParentStreamConfig" {
            return Err(component.unsupported());
        }
        let first_page = component.template_list("lazy_read_pointer", templates)?;
        if first_page.iter().any(|part| part.source().contains('*')) {
            return Err(component.invalid("lazy_read_pointer", "must have no wildcards"));
        }
        let key = component
            .text("parent_key")
            .ok_or_else(|| component.invalid("parent_key", "is missing"))?;
        let paths = match component.get("extra_fields") {
            Some(Value::Array(paths)) => paths
                .iter()
                .map(|path| match path {
                    Value::Array(parts) => parts.iter().map(python::text).collect(),
                    other => vec![python::text(other)],
                })
                .collect(),
            _ => Vec::new(),
        };
        let mut stream = Stream::build(&component.required("stream")?, None, templates)?;
        stream.share();
        Ok(Self {
            stream: Box::new(stream),
            key: key.split('/').map(str::to_owned).collect(),
            field: component
                .template("partition_field", templates)?
                .ok_or_else(|| component.invalid("partition_field", "is missing"))?,
            option: option(component, templates)?,
            extra_fields: paths,
            first_page: (!first_page.is_empty()).then_some(first_page),
            incremental: component.flag("incremental_dependency"),
        })
    }

    /// The partition a parent's record stands for; `None` when it has no key.
    pub fn partition(
        &self,
        record: &Record,
        parent: &Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<Option<Partition>> {
        let Some(value) = record.at(&self.key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let mut values = Map::new();
        values.insert(self.field.text(scope)?, value);
        values.insert("parent_slice".into(), Value::Object(parent.clone()));
        let extra = self
            .extra_fields
            .iter()
            .map(|path| {
                let value = record.at(path).unwrap_or_default();
                (path.join("."), value)
            })
            .collect();
        Ok(Some(Partition {
            values,
            extra,
            page: self.page(record, scope)?,
        }))
    }

    /// The JSON of the first page that a parent's record holds; an empty list when it holds none.
    fn page(&self, record: &Record, scope: &Scope<'_>) -> Result<Option<String>> {
        let Some(path) = &self.first_page else {
            return Ok(None);
        };
        let parts = path.iter().map(|part| part.text(scope));
        let path = parts.collect::<Result<Vec<_>>>()?;
        let page = path.split_first().and_then(|(first, rest)| {
            let field = record.get(first)?;
            extract::first(&field, rest).map(Value::to_string)
        });
        Ok(Some(page.unwrap_or_else(|| "[]".to_owned())))
    }
}

/// Every combination, first list outermost. On equal keys the first router wins, so that states have
/// the reference runtime's partitions.
///
/// # Errors
/// `partitions_too_many`.
pub fn product(lists: Vec<Vec<Partition>>) -> Result<Vec<Partition>> {
    let mut all = vec![Partition::default()];
    for list in lists {
        if all.len().saturating_mul(list.len()) > MAX_PARTITIONS {
            return Err(too_many());
        }
        all = all
            .iter()
            .flat_map(|left| {
                list.iter().map(move |right| {
                    let mut both = left.clone();
                    fill(&mut both.values, &right.values);
                    fill(&mut both.extra, &right.extra);
                    both
                })
            })
            .collect();
    }
    Ok(all)
}

/// Adds what is not there.
fn fill(map: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        if !map.contains_key(key) {
            map.insert(key.clone(), value.clone());
        }
    }
}

/// The refusal of a stream with more than [`MAX_PARTITIONS`] parts.
pub fn too_many() -> Error {
    Error::config(
        "partitions_too_many",
        format!("the stream divides into more than {MAX_PARTITIONS} partitions"),
    )
}

/// What templates see as `stream_slice`: the keys of partition and cursor, and behind them, by
/// name, the three parts.
pub fn slice_value(partition: &Partition, interval: &Map<String, Value>) -> Jinja {
    let keys = partition.values.iter().chain(interval);
    let keys: Map<String, Value> = keys
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let part = |map: &Map<String, Value>| json::of(&Value::Object(map.clone()));
    Jinja::from_object(SliceValue {
        parts: [
            ("partition", part(&partition.values)),
            ("cursor_slice", part(interval)),
            ("extra_fields", part(&partition.extra)),
        ],
        keys,
    })
}

#[derive(Debug)]
struct SliceValue {
    keys: Map<String, Value>,
    parts: [(&'static str, Jinja); 3],
}

impl Object for SliceValue {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let name = key.as_str()?;
        let part = || self.parts.iter().find(|(part, _)| *part == name);
        match self.keys.get(name) {
            Some(value) => Some(json::of(value)),
            None => part().map(|(_, value)| value.clone()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.keys().map(Jinja::from).collect())
    }
}
