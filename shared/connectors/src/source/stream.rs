//! A stream built from its component.

use std::collections::HashSet;

use serde_json::Value;
use sluice_core::{EntityType, Error, Result};
use url::Url;

use super::{
    api::StreamInfo,
    cursor::Cursor,
    decode::{CsvOptions, Decoder, XmlOptions},
    delegate::{self, First},
    manifest::{Component, faults_of_stream},
    migrate::StateMigration,
    paginate::Paginator,
    partition::Router,
    request::Requester,
    restart::Restart,
    schema::Schema,
    select::Selector,
    template::{Template, Templates, python},
};

/// `DeclarativeStream` with a `SimpleRetriever`.
#[derive(Debug)]
pub struct Stream {
    pub name: String,
    pub primary_key: Vec<String>,
    pub entity_type: Option<EntityType>,
    pub requester: Requester,
    pub decoder: Decoder,
    pub selector: Selector,
    pub paginator: Paginator,
    /// When its pages are read from the first one again.
    pub restart: Restart,
    pub router: Router,
    pub cursor: Option<Cursor>,
    /// What is done to states of older connectors.
    pub migration: Option<StateMigration>,
    /// Slice options are left out of requests that carry a page token.
    pub drop_slice_options_on_pages: bool,
    pub single: Single,
    /// The JSON Schema of its records.
    pub schema: Schema,
    /// Answers serve again within a sync.
    pub cached: bool,
    /// What is read instead while there is no state.
    pub first: Option<First>,
    /// It is the `first` of another one.
    pub is_first: bool,
}

/// How to find one record; our own settings.
#[derive(Debug, Default)]
pub struct Single {
    /// Over `stream_slice` and `record_id`: can the slice hold it?
    pub slice: Option<Template>,
    /// Over `record`, `stream_slice` and `record_id`: is this it?
    pub record: Option<Template>,
}

impl Stream {
    /// Builds a stream; `ours` are its settings below `metadata.sluice.streams`.
    pub fn build(
        component: &Component<'_>,
        ours: Option<&Component<'_>>,
        templates: &mut Templates,
    ) -> Result<Self> {
        component.without_class()?;
        if let Some(fault) = faults_of_stream(component).into_iter().next() {
            return Err(fault);
        }
        let before = templates.strange().len();
        let stream = match component.kind() {
            "DeclarativeStream" => Self::build_one(component, ours, templates),
            "StateDelegatingStream" => delegate::build(component, ours, templates),
            _ => Err(component.unsupported()),
        }?;
        let mut extra = HashSet::new();
        component.extra_names(&mut extra);
        let strange = templates.strange().iter().skip(before);
        let mut unknown = strange.filter(|it| it.is_filter || !extra.contains(it.name.as_str()));
        match unknown.next() {
            Some(unknown) => Err(unknown.refusal()),
            None => Ok(stream),
        }
    }

    /// Builds a `DeclarativeStream`.
    pub fn build_one(
        component: &Component<'_>,
        ours: Option<&Component<'_>>,
        templates: &mut Templates,
    ) -> Result<Self> {
        component.without_class()?;
        let retriever = component.required("retriever")?;
        retriever.without_class()?;
        if retriever.kind() != "SimpleRetriever" {
            return Err(retriever.unsupported());
        }
        let cursor = component
            .child("incremental_sync")?
            .map(|cursor| Cursor::build(&cursor, templates))
            .transpose()?;
        let router = Router::build(&retriever.children("partition_router")?, templates)?;
        let partitioned = !matches!(router, Router::None);
        if partitioned && cursor.as_ref().is_some_and(|it| !it.fits_partitions()) {
            return Err(component.invalid(
                "incremental_sync",
                "an IncrementingCountCursor cannot go with a partition_router",
            ));
        }
        let decoder = decoder(&retriever)?;
        if router.gives_pages() {
            // As in the reference runtime: a page that came with its parent is JSON, and all there
            // is of the partition.
            let stepped = cursor.as_ref().is_some_and(Cursor::has_steps);
            if stepped || !matches!(decoder, Decoder::Json) {
                return Err(component.invalid(
                    "retriever.partition_router",
                    "`lazy_read_pointer` goes with a JsonDecoder and without `step`",
                ));
            }
        }
        let paginator = match retriever.child("paginator")? {
            Some(paginator) => Paginator::build(Some(&paginator), templates)?,
            None => Paginator::build(None, templates)?,
        };
        let single = match ours.map(|ours| ours.child("single")).transpose()?.flatten() {
            Some(single) => Single {
                slice: single.template("slice", templates)?,
                record: single.template("record", templates)?,
            },
            None => Single::default(),
        };
        let requester = Requester::build(&retriever.required("requester")?, templates)?;
        let schema = Schema::build(component, templates)?;
        let selector = Selector::build(
            &retriever.required("record_selector")?,
            &component.children("transformations")?,
            templates,
            cursor.as_ref().is_some_and(|cursor| cursor.client_side),
        )?;
        if selector.casts && schema.is_asked() {
            // Stored pages are read again without the system.
            return Err(component.invalid(
                "schema_loader",
                "a DynamicSchemaLoader cannot go with schema_normalization",
            ));
        }
        Ok(Self {
            schema,
            name: name_of(component),
            primary_key: primary_key(component.get("primary_key")),
            entity_type: ours
                .and_then(|ours| ours.text("entity_type"))
                .map(EntityType::from),
            cached: requester.use_cache == Some(true),
            requester,
            decoder,
            selector,
            paginator,
            restart: Restart::build(&retriever)?,
            migration: StateMigration::build(component, &router, cursor.as_ref())?,
            router,
            cursor,
            drop_slice_options_on_pages: retriever
                .flag("ignore_stream_slicer_parameters_on_paginated_requests"),
            single,
            first: None,
            is_first: false,
        })
    }

    pub fn info(&self) -> StreamInfo {
        StreamInfo {
            name: self.name.clone(),
            entity_type: self.entity_type.clone(),
            primary_key: self.primary_key.clone(),
            incremental: self.cursor.is_some(),
        }
    }

    /// It and the one it stands for without a state.
    fn both(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.first.as_ref().map(|first| &*first.stream))
    }

    /// Fixed addresses it calls, parents' included.
    pub fn fixed_urls(&self, urls: &mut Vec<Url>) {
        for stream in self.both() {
            stream.requester.fixed_urls(urls);
            stream.schema.fixed_urls(urls);
            for parent in stream.router.parents() {
                parent.fixed_urls(urls);
            }
        }
    }

    /// Credentials it may be configured with and cannot use; other ones may serve.
    pub fn refused_credentials(&self) -> Vec<&Error> {
        let mut refused = self.requester.auth.refusals();
        if let Some(first) = &self.first {
            refused.extend(first.stream.refused_credentials());
        }
        refused
    }

    /// Names of the streams it is divided by, theirs included.
    pub fn parents(&self, names: &mut HashSet<String>) {
        for parent in self.both().flat_map(|stream| stream.router.parents()) {
            names.insert(parent.name.clone());
            parent.parents(names);
        }
    }

    /// Others read it too: answers serve again within a sync, unless the manifest forbids it.
    pub fn share(&mut self) {
        self.cached |= self.requester.use_cache != Some(false);
        if let Some(first) = &mut self.first {
            first.stream.share();
        }
    }
}

/// A stream's name; from its parameters when it has no field of its own. The template of many
/// streams may have none: then its place stands for it.
pub fn name_of(component: &Component<'_>) -> String {
    match component.text("name") {
        Some(name) => name.to_owned(),
        None if component.kind() == "DynamicDeclarativeStream" => component.path().to_owned(),
        None => String::new(),
    }
}

/// A string, a list, or a list of lists (flattened).
pub fn primary_key(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items
            .iter()
            .flat_map(|item| primary_key(Some(item)))
            .collect(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(value) => vec![python::text(value)],
        None => Vec::new(),
    }
}

/// The decoder of a retriever or a login; JSON when none is named.
pub fn decoder(owner: &Component<'_>) -> Result<Decoder> {
    match owner.child("decoder")? {
        Some(component) => decoder_of(&component),
        None => Ok(Decoder::Json),
    }
}

fn decoder_of(component: &Component<'_>) -> Result<Decoder> {
    component.without_class()?;
    let texts = |field: &str| -> Vec<String> {
        match component.get(field) {
            Some(Value::Array(items)) => items.iter().map(python::text).collect(),
            Some(value) => vec![python::text(value)],
            None => Vec::new(),
        }
    };
    match component.kind() {
        "JsonDecoder" => Ok(Decoder::Json),
        "JsonlDecoder" => Ok(Decoder::JsonLines),
        "IterableDecoder" => Ok(Decoder::Lines),
        "CsvDecoder" => Ok(Decoder::Csv {
            options: CsvOptions {
                delimiter: match component.text("delimiter").unwrap_or(",") {
                    "\\t" => b'\t',
                    one => match one.as_bytes() {
                        [byte] => *byte,
                        _ => return Err(component.invalid("delimiter", "must be one letter")),
                    },
                },
                nulls: texts("set_values_to_none"),
            },
            encoding: component.text("encoding").map(|name| match name {
                // Python's name of it.
                "latin-1" | "latin1" => "iso-8859-1".to_owned(),
                name => name.to_owned(),
            }),
        }),
        "GzipDecoder" => Ok(Decoder::Gzip(Box::new(decoder_of(
            &component.required("decoder")?,
        )?))),
        "ZipfileDecoder" => Ok(Decoder::Zip(Box::new(decoder_of(
            &component.required("decoder")?,
        )?))),
        "XmlDecoder" => Ok(Decoder::Xml(XmlOptions {
            strip_prefixes: component.flag("strip_prefixes"),
            force_list: texts("force_list")
                .iter()
                .map(|path| path.split('/').map(str::to_owned).collect())
                .collect(),
            nested_xml: texts("nested_xml"),
        })),
        _ => Err(component.unsupported()),
    }
}
