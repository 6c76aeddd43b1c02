//! The state of a stream in the reference runtime's shapes, and what a sync adds to it.
//!
//! Unpartitioned: `{cursor_field: value}`. Partitioned: `{use_global_cursor, states: [{partition,
//! cursor}], state, lookback_window, parent_state}`, where `state` holds for partitions that have
//! none of their own.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;
use serde_json::{Map, Value, json};
use sluice_core::{Result, fingerprint};
use tokio::time::Instant;

use super::{
    cursor::{Cursor, Mark},
    partition::Router,
    stream::Stream,
    template::Scope,
};

/// Beyond this many partitions only one value for all is kept.
const MAX_OWN_STATES: usize = 10_000;

/// What is known when a stream's slices are found.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// State by partition, in the order it came.
    own: Vec<(Map<String, Value>, Value)>,
    by_key: HashMap<String, usize>,
    /// The state of partitions without one.
    global: Option<Value>,
    /// The global state is taken this much earlier: how long the sync that made it took.
    lookback: i64,
    /// The global state holds for all.
    only_global: bool,
    /// States of parents that are read incrementally, by stream.
    parents: BTreeMap<String, Value>,
}

impl Known {
    /// From (partition key, state), as pages hand them out.
    pub fn of_partitions(states: &[(String, Value)]) -> Self {
        let mut known = Self::default();
        for (key, state) in states {
            let partition = serde_json::from_str(key).unwrap_or_default();
            known.add(key.clone(), partition, state.clone());
        }
        known
    }

    /// From a state in one of the shapes above, or in the interval form of older runtimes.
    pub fn of_state(state: &Value, partitioned: bool) -> Self {
        let mut known = Self::default();
        let Some(map) = state.as_object().filter(|map| !map.is_empty()) else {
            return known;
        };
        if let Some(Value::Object(parents)) = map.get("parent_state") {
            known.parents = parents
                .iter()
                .map(|(name, state)| (name.clone(), state.clone()))
                .collect();
        }
        if !partitioned {
            known.add("{}".into(), Map::new(), state.clone());
            return known;
        }
        if map.contains_key("states") || map.contains_key("state") {
            known.only_global = map.get("use_global_cursor") == Some(&Value::Bool(true));
            known.lookback = map
                .get("lookback_window")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            known.global = map.get("state").cloned();
            let states = map.get("states").and_then(Value::as_array);
            for entry in states.into_iter().flatten() {
                if let (Some(Value::Object(partition)), Some(cursor)) =
                    (entry.get("partition"), entry.get("cursor"))
                {
                    let key = fingerprint::canonical_json(&Value::Object(partition.clone()));
                    known.add(key, partition.clone(), cursor.clone());
                }
            }
        } else {
            known.global = Some(state.clone());
        }
        known
    }

    fn add(&mut self, key: String, partition: Map<String, Value>, state: Value) {
        self.by_key.insert(key, self.own.len());
        self.own.push((partition, state));
    }

    /// Of all partitions, and of those without one.
    pub fn states(&self) -> impl Iterator<Item = &Value> {
        self.own.iter().map(|(_, state)| state).chain(&self.global)
    }

    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.global.is_none()
    }

    /// The state of a partition, and how much earlier than it reading starts.
    pub fn state(&self, key: &str) -> (Option<&Value>, TimeDelta) {
        let own = self
            .by_key
            .get(key)
            .and_then(|index| self.own.get(*index))
            .filter(|_| !self.only_global);
        match own {
            Some((_, state)) => (Some(state), TimeDelta::zero()),
            None => (
                self.global.as_ref(),
                TimeDelta::try_seconds(self.lookback).unwrap_or_default(),
            ),
        }
    }

    /// What a parent that is read incrementally starts from: its own state, else the child's
    /// value for all partitions.
    pub fn of_parent(&self, parent: &Stream, scope: &Scope<'_>) -> Result<Self> {
        let partitioned = !matches!(parent.router, Router::None);
        if let Some(state) = self.parents.get(&parent.name) {
            return Ok(Self::of_state(state, partitioned));
        }
        let (Some(cursor), Some(Value::Object(global))) = (&parent.cursor, &self.global) else {
            return Ok(Self::default());
        };
        let mut values = global.values();
        match (values.next(), values.next()) {
            (Some(value), None) => {
                let state = json!({ cursor.field(scope)?: value });
                Ok(Self::of_state(&state, partitioned))
            }
            _ => Ok(Self::default()),
        }
    }
}

/// Whether a state has one of the shapes above: what is left out of a broken one would be read from
/// the start.
pub fn is_well_formed(state: &Value, partitioned: bool) -> bool {
    let entry = |entry: &Value| {
        let known = |field| entry.get(field).is_some_and(Value::is_object);
        known("partition") && known("cursor")
    };
    match state.get("states").filter(|_| partitioned) {
        Some(Value::Array(entries)) => entries.iter().all(entry),
        Some(_) => false,
        None => true,
    }
}

/// The state of one stream while it is read.
#[derive(Debug)]
pub struct Tracker<'a> {
    cursor: &'a Cursor,
    field: String,
    start: Mark,
    partitioned: bool,
    has_parents: bool,
    only_global: bool,
    parts: Vec<Part>,
    index: HashMap<String, usize>,
    /// The value for all partitions, before this sync and as seen in it.
    global: Option<Mark>,
    seen: Option<Mark>,
    lookback: i64,
    parents: Map<String, Value>,
    /// Other keys of an old state are carried along.
    others: Map<String, Value>,
    began: Instant,
}

#[derive(Debug)]
struct Part {
    partition: Map<String, Value>,
    value: Mark,
}

impl<'a> Tracker<'a> {
    /// `None` for a stream without a cursor.
    pub fn new(stream: &'a Stream, known: &Known, scope: &Scope<'_>) -> Result<Option<Self>> {
        let Some(cursor) = &stream.cursor else {
            return Ok(None);
        };
        let field = cursor.field(scope)?;
        let mut tracker = Self {
            cursor,
            start: cursor.start(scope)?,
            partitioned: !matches!(stream.router, Router::None),
            has_parents: has_parents(&stream.router),
            // A group is another one as soon as a partition comes or goes, so it has no state.
            only_global: cursor.global
                || known.only_global
                || matches!(stream.router, Router::Group(_)),
            parts: Vec::new(),
            index: HashMap::new(),
            global: known
                .global
                .as_ref()
                .and_then(|state| cursor.value(state, &field)),
            seen: None,
            lookback: known.lookback,
            parents: known.parents.clone().into_iter().collect(),
            others: Map::new(),
            began: Instant::now(),
            field,
        };
        if let (false, Some((_, state))) = (tracker.partitioned, known.own.first())
            && let (None, Value::Object(state)) = (interval_value(state), state)
        {
            tracker.others = state.clone();
        }
        for (partition, state) in &known.own {
            let value = tracker.known_value(state);
            tracker.put(partition.clone(), value);
        }
        Ok(Some(tracker))
    }

    /// A value below the configured start counts as the start.
    fn known_value(&self, state: &Value) -> Mark {
        self.cursor
            .value(state, &self.field)
            .map_or(self.start, |value| value.max(self.start))
    }

    fn put(&mut self, partition: Map<String, Value>, value: Mark) {
        let key = fingerprint::canonical_json(&Value::Object(partition.clone()));
        self.index.insert(key, self.parts.len());
        self.parts.push(Part { partition, value });
    }

    /// A partition that is about to be read.
    pub fn plan(&mut self, partition: &Map<String, Value>) {
        let key = fingerprint::canonical_json(&Value::Object(partition.clone()));
        if !self.index.contains_key(&key) {
            let value = self
                .global
                .map_or(self.start, |value| value.max(self.start));
            self.put(partition.clone(), value);
        }
        if self.partitioned && self.parts.len() > MAX_OWN_STATES {
            self.only_global = true;
        }
    }

    /// A window of a partition was read to its end, with this highest value.
    pub fn close(&mut self, key: &str, highest: Option<Mark>) {
        self.seen = self.seen.max(highest);
        if let (Some(index), Some(highest)) = (self.index.get(key), highest)
            && let Some(part) = self.parts.get_mut(*index)
        {
            part.value = part.value.max(highest);
        }
    }

    /// The sync is over: with everything read, what was seen holds for all partitions.
    pub fn finish(&mut self, complete: bool, parents: Map<String, Value>) {
        if !complete {
            return;
        }
        if self.seen.is_some() {
            let closed = self.parts.iter().map(|part| part.value).max();
            let closed = closed.filter(|_| !self.only_global);
            self.global = self.global.max(self.seen).max(closed);
            let took = self.began.elapsed().as_secs_f64().ceil().max(1.0);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the seconds of a sync are far below 2^53"
            )]
            {
                self.lookback = took as i64;
            }
        }
        self.parents = parents;
    }

    /// The state as it is now.
    pub fn state(&self) -> Value {
        let text = |value: Mark| json!({ &self.field: self.cursor.output(value) });
        if !self.partitioned {
            let value = self.parts.first().map_or(self.start, |part| part.value);
            let mut state = self.others.clone();
            state.insert(self.field.clone(), self.cursor.output(value));
            return Value::Object(state);
        }
        let mut state = Map::new();
        state.insert("use_global_cursor".into(), self.only_global.into());
        if !self.only_global {
            let states: Vec<Value> = self
                .parts
                .iter()
                .map(|part| json!({"partition": part.partition, "cursor": text(part.value)}))
                .collect();
            state.insert("states".into(), states.into());
        }
        if let Some(global) = self.global {
            state.insert("state".into(), text(global));
        }
        state.insert("lookback_window".into(), self.lookback.into());
        if self.has_parents {
            state.insert("parent_state".into(), Value::Object(self.parents.clone()));
        }
        Value::Object(state)
    }

    pub fn partitioned(&self) -> bool {
        self.partitioned
    }
}

/// Whether states of parents belong to the state.
fn has_parents(router: &Router) -> bool {
    match router {
        Router::Substream(_) => true,
        Router::Group(group) => has_parents(&group.inner),
        Router::None | Router::List(_) | Router::Product(_) => false,
    }
}

/// The value of a state in interval form: the most recent one before the first gap.
pub fn interval_value(state: &Value) -> Option<Value> {
    if state
        .get("state_type")
        .is_none_or(|kind| kind != "date-range" && kind != "integer")
    {
        return None;
    }
    let first = state.get("slices")?.get(0)?;
    first
        .get("most_recent_cursor_value")
        .or_else(|| first.get("end"))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{
        manifest::{self, Component},
        template::{Templates, json as jinja},
    };

    /// I4: states do not grow with the partitions without end.
    #[test]
    fn beyond_ten_thousand_partitions_one_value_is_kept_for_all() {
        let manifest = manifest::load(
            "streams: [{name: a, incremental_sync: {type: DatetimeBasedCursor, cursor_field: at, datetime_format: '%Y-%m-%d', start_datetime: '2024-01-01'}, retriever: {requester: {url_base: 'http://x.test'}, record_selector: {extractor: {field_path: []}}, partition_router: {type: ListPartitionRouter, values: [x], cursor_field: id}}}]",
        )
        .unwrap();
        let root = Component::new(&manifest, "manifest").unwrap();
        let streams = root.children("streams").unwrap();
        let mut templates = Templates::new();
        let stream = Stream::build(&streams[0], None, &mut templates).unwrap();
        let config = jinja::of(&json!({}));
        let scope = Scope::new(&templates, &config);
        let mut tracker = Tracker::new(&stream, &Known::default(), &scope)
            .unwrap()
            .unwrap();
        let partition = |id: usize| Map::from_iter([("id".to_owned(), Value::from(id))]);
        let seen = stream.cursor.as_ref().unwrap();
        let seen = seen.value(&json!({"at": "2024-02-03"}), "at");
        for id in 0..MAX_OWN_STATES {
            tracker.plan(&partition(id));
        }
        tracker.close("{\"id\":7}", seen);
        let state = tracker.state();
        assert_eq!(state["use_global_cursor"], false);
        assert_eq!(state["states"].as_array().unwrap().len(), MAX_OWN_STATES);
        tracker.plan(&partition(MAX_OWN_STATES));
        tracker.finish(true, Map::new());
        let state = tracker.state();
        assert_eq!(state["use_global_cursor"], true);
        assert_eq!(state.get("states"), None);
        assert_eq!(state["state"], json!({"at": "2024-02-03"}));
        // The next sync takes that value for every partition.
        let known = Known::of_state(&state, true);
        assert_eq!(
            known.state("{\"id\":1}").0,
            Some(&json!({"at": "2024-02-03"}))
        );
    }
}
