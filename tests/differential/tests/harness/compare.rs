//! What happened in a run, and where two runs differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::case::Case;

/// A run as far as it is compared.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub requests: Vec<Value>,
    pub records: BTreeMap<String, Vec<Value>>,
    /// The last state of each stream.
    pub states: BTreeMap<String, Value>,
    /// Classes of failure by stream; under no name when it was the whole run.
    pub failures: BTreeMap<String, BTreeSet<String>>,
    pub waits: Vec<f64>,
    /// Catalog, spec, status, changed settings.
    pub others: Vec<Value>,
    /// For people: why the run failed.
    pub detail: String,
}

impl Outcome {
    /// Takes in one message of the protocol.
    pub fn message(&mut self, message: &Value) {
        match message["type"].as_str().unwrap_or_default() {
            "RECORD" => {
                let record = &message["record"];
                self.records
                    .entry(text(&record["stream"]))
                    .or_default()
                    .push(record["data"].clone());
            }
            "STATE" => {
                let stream = &message["state"]["stream"];
                self.states.insert(
                    text(&stream["stream_descriptor"]["name"]),
                    normal(stream["stream_state"].clone()),
                );
            }
            "TRACE" if message["trace"]["type"] == "ERROR" => {
                let error = &message["trace"]["error"];
                let stream = text(&error["stream_descriptor"]["name"]);
                self.failures
                    .entry(stream)
                    .or_default()
                    .insert(text(&error["failure_type"]));
                self.detail = text(&error["internal_message"]);
            }
            "CATALOG" => {
                let streams = message["catalog"]["streams"].as_array();
                for stream in streams.into_iter().flatten() {
                    let mut stream = stream.as_object().cloned().unwrap_or_default();
                    // Null means the same as not there.
                    stream.retain(|_, value| !value.is_null());
                    self.others.push(Value::Object(stream));
                }
            }
            "SPEC" => {
                let spec = &message["spec"];
                let specification = spec.get("connectionSpecification").unwrap_or(spec);
                self.others.push(specification.clone());
            }
            "CONTROL" => {
                let mut settings = message["control"]["connectorConfig"]["config"].clone();
                // An hour from now is another moment for each.
                if let Some(date) = settings.pointer_mut("/credentials/token_expiry_date") {
                    *date = "some time".into();
                }
                self.others.push(settings);
            }
            "CONNECTION_STATUS" => self.others.push(message["connectionStatus"].clone()),
            _ => {}
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// States of partitions have no order, and the seconds a sync took differ.
fn normal(mut state: Value) -> Value {
    let Value::Object(map) = &mut state else {
        return state;
    };
    if let Some(Value::Array(states)) = map.get_mut("states") {
        states.sort_by_key(|state| sorted(state).to_string());
    }
    if let Some(seconds) = map.get_mut("lookback_window")
        && seconds.as_i64().is_some_and(|seconds| seconds > 0)
    {
        *seconds = "some seconds".into();
    }
    if let Some(Value::Object(parents)) = map.get_mut("parent_state") {
        let done = std::mem::take(parents);
        *parents = done
            .into_iter()
            .map(|(name, state)| (name, normal(state)))
            .collect();
    }
    state
}

/// With keys in order, so that texts can be compared.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(map) => {
            let ordered: BTreeMap<_, _> =
                map.iter().map(|(key, item)| (key, sorted(item))).collect();
            Value::Object(
                ordered
                    .into_iter()
                    .map(|(key, item)| (key.clone(), item))
                    .collect::<Map<_, _>>(),
            )
        }
        other => other.clone(),
    }
}

/// A part of a run in which the runtimes differ.
#[derive(Debug)]
pub struct Difference {
    pub aspect: &'static str,
    pub reference: String,
    pub ours: String,
}

/// Where two runs of a case differ.
pub fn differences(case: &Case, reference: &Outcome, ours: &Outcome) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut compare = |aspect, reference: String, ours: String| {
        if reference != ours {
            all.push(Difference {
                aspect,
                reference,
                ours,
            });
        }
    };
    let loose = case.scene.slice_field.is_some() || case.scene.any_order;
    let requests = |outcome: &Outcome| {
        let mut lines: Vec<String> = outcome
            .requests
            .iter()
            .map(|request| sorted(request).to_string())
            .collect();
        if loose {
            lines.sort();
        }
        lines.join("\n")
    };
    compare("requests", requests(reference), requests(ours));
    let records = |outcome: &Outcome| {
        let mut lines = Vec::new();
        for (stream, records) in &outcome.records {
            let mut slices: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for record in records {
                let field = case.scene.slice_field.as_deref();
                let slice = field.map_or(String::new(), |field| record[field].to_string());
                let line = format!("{stream} {slice} {}", sorted(record));
                slices.entry(slice).or_default().push(line);
            }
            lines.extend(slices.into_values().flatten());
        }
        lines.join("\n")
    };
    compare("records", records(reference), records(ours));
    let states = |outcome: &Outcome| {
        let lines = outcome
            .states
            .iter()
            .map(|(stream, state)| format!("{stream} {}", sorted(state)));
        lines.collect::<Vec<_>>().join("\n")
    };
    compare("state", states(reference), states(ours));
    compare(
        "failure",
        format!("{:?}", reference.failures),
        format!("{:?}", ours.failures),
    );
    if !case.scene.random_waits {
        let waits = |outcome: &Outcome| {
            let mut waits = outcome.waits.clone();
            waits.sort_by(f64::total_cmp);
            format!("{waits:.1?}")
        };
        compare("waits", waits(reference), waits(ours));
    }
    let others = |outcome: &Outcome| {
        let lines = outcome.others.iter().map(|value| sorted(value).to_string());
        lines.collect::<Vec<_>>().join("\n")
    };
    compare("messages", others(reference), others(ours));
    all
}
